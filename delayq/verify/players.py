"""The processes of a run as their owner sees them: started, told, signalled, started again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from delayq.settings import PREFIX
from delayq.verify.part import Part
from delayq.verify.proxy import Proxy

MAX_LINE_BYTES = 100_000
GRACE_MS = 2_000

Said = dict[str, Any]


@dataclass
class Player:
    """One name, and the process that has it now. Whoever breaks it holds it meanwhile."""

    part: Part
    proxy: Proxy
    heard: Callable[["Player", Said], None]
    born: int = 0
    """How many processes had the name."""
    held: bool = False
    """A fault is being done to it."""
    away: bool = False
    """Nobody is to have the name for now."""
    counts: Counter[str] = field(default_factory=Counter)
    """What its processes published and handled, all together."""
    process: Process | None = None
    _called: anyio.Event = field(default_factory=anyio.Event)

    @property
    def name(self) -> str:
        """Its name in the logs: of this process alone."""
        return self.part.process

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self.process is not None and self.process.returncode is None

    def come(self) -> None:
        """Be away no more."""
        self.away = False
        self._called.set()
        self._called = anyio.Event()

    async def wanted(self) -> None:
        """Wait until it is not away."""
        if self.away:
            await self._called.wait()

    async def gone(self) -> None:
        """Wait until its process has ended."""
        if self.process is not None:
            await self.process.wait()

    def last_words(self) -> str:
        """Return the last line that its process wrote to stderr."""
        return self._errors.read_text(errors="replace").strip().rpartition("\n")[2]

    @property
    def _errors(self) -> Path:
        return Path(self.part.folder) / f"{self.name}.err"

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal, if it has not ended."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def tell(self, **order: Any) -> None:
        """Give its process an order, if it has not ended."""
        await self._say(json.dumps(order))

    async def live(self) -> int:
        """Start a process, listen to it until it ends; return its exit status."""
        self.born += 1
        seed, name = self.part.seed + 1, f"{self.part.name}.{self.born}"
        self.part = replace(self.part, process=name, seed=seed)
        base: Counter[str] = Counter(self.counts)
        with self._errors.open("wb") as stderr:
            self.process = await anyio.open_process(
                [sys.executable, "-m", "delayq.verify.role"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(self.part),
                start_new_session=True,
            )
        async with self.process as process:
            try:
                await self._feed(process, base)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
            return await process.wait()

    async def _say(self, line: str) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self.process.stdin.send(line.encode() + b"\n")

    async def _feed(self, process: Process, base: Counter[str]) -> None:
        await self._say(self.part.to_json())
        lines = BufferedByteReceiveStream(process.stdout)  # type: ignore[arg-type]
        with suppress(anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                said = json.loads(await lines.receive_until(b"\n", MAX_LINE_BYTES))
                if counted := said.get("counted"):
                    self.counts[counted] = base[counted] + said["count"]
                else:
                    self.heard(self, said)
        await process.wait()


def _environment(part: Part) -> dict[str, str]:
    """Return ours, less our settings: a process of a run is told everything."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    told = {"NAME": part.name, "LEASE_TTL_MS": part.lease_ttl_ms, "GRACE_MS": GRACE_MS}
    return kept | {PREFIX + name: str(value) for name, value in told.items()}
