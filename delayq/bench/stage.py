"""What every measurement stands on: a server, queues of their own that are deleted afterwards."""

import asyncio
import os
import platform
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import anyio
from redis.asyncio import Redis

from delayq.bench import raw
from delayq.bench.meter import gauge
from delayq.bench.progress import Progress
from delayq.bench.settings import BenchSettings
from delayq.clock import real_ms
from delayq.connection import Server, clock_offset_ms
from delayq.embedded import embedded
from delayq.errors import ServerError
from delayq.fitness import check, product
from delayq.keys import LaneKeys
from delayq.queue import Ordering, Queue
from delayq.scripts import command

BODY_BYTES = 100
CONSUMERS = ("consumer-1", "consumer-2")
"""How consumers of a stage's queue are named."""
_LISTEN_S = 0.5
_BUSY_PER_S = 20.0
"""Calls of other clients from which on the server is not idle."""
_CLEARING_S = 10.0


@dataclass(frozen=True)
class Stage:
    """A server, and what is known of it and of this machine."""

    settings: BenchSettings
    server: Server
    client: Redis
    tell: Progress
    on: dict[str, str]
    """Versions and the machine, by name."""
    warnings: list[str]
    clock_offset_ms: float
    """The server's clock less this host's."""

    def now_ms(self) -> float:
        """Return the server's time."""
        return real_ms() + self.clock_offset_ms

    @asynccontextmanager
    async def queue(self, ordering: Ordering = "none", **declared: Any) -> AsyncIterator[Queue]:
        """Declare a queue of a random name, and delete it afterwards. Its roles must have ended."""
        keys = LaneKeys(self.settings.namespace, _random_name())
        queue: Queue = Queue(lambda: self.client, keys, ordering, **declared)
        try:
            yield queue
        finally:
            await self.clear(queue, *CONSUMERS)

    async def clear(self, queue: Queue, *consumers: str) -> None:
        """Delete a queue, with the leases of consumers that were killed."""
        with suppress(ServerError), anyio.move_on_after(_CLEARING_S, shield=True):
            await queue.bound_to(self.client).destroy()
            await command(self.client, "UNLINK", *map(queue.keys.lease, consumers))

    def raw(self) -> AbstractAsyncContextManager[raw.Raw]:
        """Open raw keys of a random name, deleted afterwards."""
        return raw.opened(self.server.url, f"{self.settings.namespace}:{{{_random_name()}}}")


@asynccontextmanager
async def stage(settings: BenchSettings, tell: Progress) -> AsyncIterator[Stage]:
    """Open a stage on the server of the settings, or an embedded one.

    :raises ServerError: if the server will not do
    """
    async with AsyncExitStack() as opened:
        url = settings.redis_url
        if url is None:
            url = await opened.enter_async_context(embedded())
        server = Server(url)
        warnings = await check(server)
        client = await opened.enter_async_context(server.client("bench"))
        if settings.redis_url:
            warnings += await _others(client)
        offset_ms = await clock_offset_ms(client)
        yield Stage(settings, server, client, tell, await _on(client), warnings, offset_ms)


def bodies(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Make bodies that are numbered, and of 100 bytes as JSON."""
    return [body(start + at) for at in range(count)]


def body(number: int) -> dict[str, Any]:
    """Make the body of a number."""
    short = len(raw.written({"n": number, "text": ""}))
    return {"n": number, "text": "x" * (BODY_BYTES - short)}


def parts(count: int, most: int) -> Iterator[range]:
    """Part the numbers below `count` into ranges of `most`, so that not all need be held."""
    for at in range(0, count, most):
        yield range(at, min(count, at + most))


def moment(at_ms: float) -> datetime:
    """Return a time of the server as `deliver_at` takes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


async def _others(client: Redis) -> list[str]:
    """Warn if others use the server: then figures tell of them, too."""
    before = await gauge(client)
    await anyio.sleep(_LISTEN_S)
    calls = (await gauge(client)).reads - before.reads - 1
    if (per_s := calls / _LISTEN_S) <= _BUSY_PER_S:
        return []
    return [f"other clients make {per_s:.0f} calls/s to this server: the figures tell little"]


async def _on(client: Redis) -> dict[str, str]:
    about = await command(client, "INFO", "server")
    name, number = product(about)
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return {
        "delayq": version("delayq"),
        "Python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "loop": f"uvloop {version('uvloop')}" if loop == "uvloop" else loop,
        name: number,
        "cores": str(os.cpu_count()),
    }


def _random_name() -> str:
    return f"bench-{secrets.token_hex(4)}"
