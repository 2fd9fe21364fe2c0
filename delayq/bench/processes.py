"""Processes of the benchmark's own, forked by a nursery, so that ending one is the real thing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from subprocess import PIPE
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.text import TextReceiveStream

from delayq.bench.stage import Stage
from delayq.queue import Queue

PATIENCE_S = 60.0
"""How long a process is waited for."""


class Child:
    """A process that was ordered, and what it told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[dict[str, Any]] = []
        self._more = anyio.Event()
        self._then: Callable[[dict[str, Any]], None] = lambda _: None

    def hear(self, told: dict[str, Any]) -> None:
        """Keep what the process tells."""
        self.told.append(told)
        self._then(told)
        self._more.set()
        self._more = anyio.Event()

    def then(self, call: Callable[[dict[str, Any]], None]) -> None:
        """Call with each thing that it tells from now on."""
        self._then = call

    async def until(self, what: str, times: int = 1, within_s: float = PATIENCE_S) -> Any:
        """Wait until it told `what` so many times, and return what it told last of it.

        :raises TimeoutError: if it does not
        """
        with anyio.fail_after(within_s):
            while True:
                more = self._more
                found = [told for told in self.told if what in told]
                if len(found) >= times:
                    return found[-1]
                await more.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, once it told anything; not once it has ended."""
        os.kill(self.told[0]["pid"], number)


class Nursery:
    """Orders processes, and hears what they tell."""

    def __init__(self, stage: Stage, orders: ByteSendStream) -> None:
        self._stage = stage
        self._orders = orders
        self._names = (f"{os.getpid()}-{number}" for number in count(1))
        self._children: dict[str, Child] = {}

    async def start(self, role: str, queue: Queue, **order: Any) -> Child:
        """Have a process play a role on a queue."""
        child = Child(next(self._names))
        self._children[child.name] = child
        where = {
            "url": self._stage.server.url,
            "namespace": queue.keys.namespace,
            "queue": queue.name,
            "ordering": queue.ordering,
            "lanes": queue.lanes,
        }
        line = json.dumps({"role": role, "name": child.name, **where, **order})
        await self._orders.send(line.encode() + b"\n")
        return child

    async def listen(self, stream: ByteReceiveStream) -> None:
        """Hear what the processes tell, until all have ended."""
        rest = ""
        async for text in TextReceiveStream(stream):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                told = json.loads(line)
                self._children[told.pop("from")].hear(told)


@asynccontextmanager
async def nursery(stage: Stage) -> AsyncIterator[Nursery]:
    """Open a nursery. When it is closed its processes are gone: so close it before their queue."""
    words = [sys.executable, "-m", "delayq.bench.nursery"]
    words += [type(asyncio.get_running_loop()).__module__.partition(".")[0]]
    # A session of its own: Ctrl-C at the terminal is for us, who then end it.
    process = await anyio.open_process(
        words, stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True
    )
    try:
        async with anyio.create_task_group() as listening:
            assert process.stdin and process.stdout  # noqa: S101 - they are pipes
            ordering = Nursery(stage, process.stdin)
            listening.start_soon(ordering.listen, process.stdout)
            yield ordering
            listening.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _end(process: Process) -> None:
    with suppress(OSError, anyio.ClosedResourceError):
        await process.stdin.aclose()  # type: ignore[union-attr]
    await process.wait()
    await process.aclose()
