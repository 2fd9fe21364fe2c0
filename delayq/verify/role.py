"""A process of a run: `python -m delayq.verify.role`, started by the run, never by hand.

On stdin it is told its part, then orders; where that ends, its owner has ended, and it ends too. On
stdout it tells what happens, as lines of JSON.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

import anyio

from delayq import logs, scripts
from delayq.events import (
    Acked,
    Event,
    LoopBlocked,
    Promoted,
    Published,
    Retried,
)
from delayq.supervisor import ending, leave
from delayq.verify import audit
from delayq.verify.consuming import Reader
from delayq.verify.history import Fault
from delayq.verify.log import Log
from delayq.verify.part import CONCURRENCY, Part
from delayq.verify.points import Armed, Points
from delayq.verify.producing import Author
from delayq.verify.slowness import SLOW_MS, watch
from delayq.verify.workload import Step, poison, steps

COUNT_S = 0.5
"""How often it tells how far it is."""
_HOT = (Acked, Promoted, Published, Retried)
"""Events that are too many to tell."""


def tell(**told: Any) -> None:
    """Tell the owner something."""
    sys.stdout.write(json.dumps(told, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Role:
    """What both kinds of process do."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.log = Log(part.log, part.process)
        self.points = Points(self.log, self._at_point)
        self.app, self.queue = part.app(self._observed)

    async def play(self, orders: asyncio.StreamReader) -> None:
        """Run until a signal, or the end of the owner."""
        self.points.install()
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._obey, orders)
            beside.start_soon(self._count)
            beside.start_soon(watch, self._slow, SLOW_MS)
            await self.run()
            beside.cancel_scope.cancel()

    async def run(self) -> None:
        """Do what this kind of process does."""
        raise NotImplementedError

    def obey(self, order: dict[str, Any]) -> None:
        """Do what the owner says."""
        if order["do"] == "at":
            self.points.arm(Armed(order["point"], order["nth"], order["act"]))
        elif order["do"] == "disarm":
            self.points.disarm()

    def count(self) -> tuple[str, int]:
        """Return what it counts, and how much of it there is."""
        raise NotImplementedError

    async def _obey(self, orders: asyncio.StreamReader) -> None:
        while line := await orders.readline():
            self.obey(json.loads(line))
        leave(1)

    async def _count(self) -> None:
        while True:
            await anyio.sleep(COUNT_S)
            what, count = self.count()
            tell(counted=what, count=count)

    def _observed(self, event: Event) -> None:
        if isinstance(event, LoopBlocked):
            told = {"ms": event.blocked_ms, "note": "the loop was blocked"}
            self.log.write(Fault, kind="stall", target=self.part.process, **told)
        if not isinstance(event, _HOT):
            tell(event=type(event).__name__, **asdict(event))

    def _slow(self, ms: int) -> None:
        self.log.write(Fault, kind="slow", target=self.part.process, ms=ms)

    def _at_point(self, armed: Armed, message_id: str) -> None:
        tell(at=armed.point, act=armed.act, id=message_id)


class Producer(Role):
    """A process that publishes."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self._next: list[Step] = []
        self._steps = steps(part.seed)
        self._author = Author(
            self.queue,
            self.log,
            self._step,
            part.rate,
        )

    async def run(self) -> None:
        """Publish until a signal."""
        grace_s = self.app.settings.grace_ms / 1000
        async with self.app:
            with ending(grace_s) as asked:
                self.app.supervisor.spawn(self.part.name, lambda: self._author)
                await asked.wait()
                await self.app.supervisor.stop_all()

    def obey(self, order: dict[str, Any]) -> None:
        """Publish what is bad for whoever handles it."""
        if order["do"] == "poison":
            self._next.append(Step("one", (poison(order["how"], order["ms"]),), 0))
        super().obey(order)

    def count(self) -> tuple[str, int]:
        """Count what was published."""
        return "published", self._author.published

    def _step(self) -> Step:
        return self._next.pop() if self._next else next(self._steps)


class Consumer(Role):
    """A process that handles and promotes."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        name = self.queue.name
        self._reader = Reader(name, self.log, self.points, lambda of: tell(handling=of))
        decorate = self.queue.handler(
            concurrency=CONCURRENCY,
            time_limit_s=2 * part.lease_ttl_ms / 1000,
            batch=part.batch,
        )
        decorate(self._reader.handle)

    async def run(self) -> None:
        """Handle until a signal."""
        await self.app.run()

    def obey(self, order: dict[str, Any]) -> None:
        """Block at the next message, or watch for one."""
        if order["do"] == "block":
            self._reader.block_next_ms = order["ms"]
        elif order["do"] == "watch":
            self._reader.watched.add(order["id"])
        super().obey(order)

    def count(self) -> tuple[str, int]:
        """Count what was handled."""
        return "handled", self._reader.handled


async def main() -> None:
    """Read the part, and play it."""
    orders = asyncio.StreamReader(limit=1_000_000)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    part = Part(**json.loads(await orders.readline()))
    logs.configure("info", "human")
    if part.patch:
        found, put = part.patch
        scripts.rewrite(lambda _, text: text.replace(found, put), lambda keys: keys)
    audit.switch_on()
    role = {"producer": Producer, "consumer": Consumer}[part.kind](part)
    await role.play(orders)


if __name__ == "__main__":
    anyio.run(main)
    leave(0)
