"""What a process of a run is told when it starts: its part, one line of JSON on its stdin."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from delayq.app import App
from delayq.appqueue import AppQueue
from delayq.durability import Durability
from delayq.events import Observer
from delayq.queue import Ordering
from delayq.retry import OnFailure, Retry

QUEUE = "verify"
MAX_DELIVERIES = 5
BATCHES = (5, 20, 100)
CONCURRENCY = 8

Kind = Literal["producer", "consumer"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a process is to do, and where."""

    kind: Kind
    process: str
    """Its name in the logs, once in a run."""
    name: str
    """Its name in Redis, which a process started in place of another one has again."""
    url: str
    namespace: str
    folder: str
    """Where the logs are."""
    seed: int
    ordering: Ordering
    on_failure: OnFailure
    lanes: int
    durability: Durability
    lease_ttl_ms: int
    rate: float
    """Messages per second, of a producer."""
    patch: tuple[str, str] | None = None
    """Only tests break the library: a text in its scripts, and what to put in its place."""

    def to_json(self) -> str:
        """Return it in one line."""
        return json.dumps(asdict(self))

    @property
    def log(self) -> Path:
        """The process's log."""
        return Path(self.folder) / f"{self.process}.log"

    @property
    def batch(self) -> int:
        """Messages fetched at once."""
        return BATCHES[self.seed % len(BATCHES)]

    def app(self, observe: Observer) -> tuple[App, AppQueue]:
        """Make the app that a process of this part runs, and its queue."""
        app = App(redis_url=self.url, namespace=self.namespace, observe=observe)
        retry = Retry(max_deliveries=MAX_DELIVERIES, base_ms=5, cap_ms=50)
        queue = app.queue(
            QUEUE,
            ordering=self.ordering,
            retry=retry,
            on_failure=self.on_failure,
            lanes=self.lanes,
            durability=self.durability,
        )
        return app, queue
