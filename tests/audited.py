"""A run on a real server that leaves its audit, and what its processes say of themselves."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from delayq import Context, Queue, Server
from delayq.verify.audit import read
from delayq.verify.history import (
    Audited,
    Declared,
    Fault,
    Found,
    Handled,
    Handling,
    Published,
    Publishing,
    Recorded,
    Terms,
    Verdict,
)
from delayq.verify.scan import scan
from tests.conftest import KEYS, Client
from tests.failing import Play, put_on
from tests.histories import judge


@dataclass
class History:
    """What a run left."""

    queue: Queue
    calls: list[Audited] = field(default_factory=list)
    events: list[Recorded] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    def log(self, event: type[Recorded], process: str, /, **told: Any) -> None:
        """Record an event."""
        told["queue"] = self.queue.name
        self.events.append(event(time.monotonic_ns(), process, **told))

    async def collect(self, client: Client) -> None:
        """Read what the server has, when everything has ended."""
        self.calls = [call async for call in read(client, KEYS)]
        self.found = [found async for found in scan(client, KEYS.namespace)]

    def verdict(self, calls: Sequence[Audited] | None = None) -> Verdict:
        """Have it judged, or with other calls instead of its own."""
        queue = self.queue
        declared = Declared(
            queue.name,
            queue.ordering,
            queue.on_failure,
            max_deliveries=queue.retry.max_deliveries,
            in_flight=10,
        )
        terms = Terms(KEYS.namespace, {queue.name: declared})
        return judge(terms, self.calls if calls is None else calls, self.events, self.found)


@dataclass
class Told(Play):
    """A play that tells what it does, as processes do."""

    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.history = History(self.t.queue)

    async def handle(self, body: int, context: Context) -> None:
        process, log = context.consumer.partition("@")[0], self.history.log
        one: dict[str, Any] = {"id": context.id, "entry": context.entry, "epoch": context.epoch}
        log(Handling, process, **one, consumer=context.consumer, deliveries=context.deliveries)
        how = "cancelled"
        try:
            await super().handle(body, context)
            how = "ok"
        except Exception:
            how = "raised"
            raise
        finally:
            log(Handled, process, **one, how=how)

    async def takeover(self) -> None:
        killed = Fault(time.monotonic_ns(), "nemesis", "kill", f"c{self.terms}")
        self.history.events.append(killed)
        await super().takeover()

    async def publish(self, number: int, key: str, delay_ms: int) -> None:
        queue, name, when = self.t.queue, str(number), f"+{delay_ms}"
        self.history.log(Publishing, "p", id=name, when=when, key=key)
        receipt = await queue.publish(number, id=name, key=key, delay=delay_ms / 1000)
        told = {"receipt_id": receipt.id, "due_ms": receipt.due_ms}
        self.history.log(Published, "p", id=name, duplicate=receipt.duplicate, **told)


@asynccontextmanager
async def telling(
    server: Server, client: Client, queue: Queue, plan: dict[int, list[str]], **options: Any
) -> AsyncIterator[Told]:
    """Have a play told; its history is complete behind this."""
    async with put_on(Told, server, client, queue, plan, **options) as play:
        yield play
    await play.history.collect(client)
