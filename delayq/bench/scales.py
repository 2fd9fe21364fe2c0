"""The scales: how much of the server's CPU each script call of this process takes.

Not how long it takes: on a busy machine any script waits for a core now and then, for milliseconds,
which is no work of its own.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
from redis.asyncio import Redis

from delayq.scripts import command, interpose

LONG_MS = 5
"""What no script is to take."""


@contextmanager
def weighing(client: Redis) -> Iterator[list[float]]:
    """Weigh every script call of this process until the end, one at a time.

    :param client: asks the server, before and after each
    :return: CPU of each, ms, and a little for asking: a list that grows
    """
    spent_ms: list[float] = []
    one = anyio.Lock()

    async def around(_name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        async with one:
            before_s = await _cpu_s(client)
            answer = await call()
            spent_ms.append((await _cpu_s(client) - before_s) * 1000)
            return answer

    interpose(around)
    try:
        yield spent_ms
    finally:
        interpose(None)


def slowest(spent_ms: Sequence[float]) -> dict[str, float]:
    """Return what the slowest script took, and how many took longer than `LONG_MS`."""
    over = sum(spent > LONG_MS for spent in spent_ms)
    return {"slowest_script_ms": max(spent_ms), f"over_{LONG_MS}_ms": over}


async def _cpu_s(client: Redis) -> float:
    """Read the CPU of the thread that runs scripts; of all, where the server does not tell."""
    about = await command(client, "INFO", "cpu")
    parts = ("used_cpu_user", "used_cpu_sys")
    return sum(float(about.get(f"{part}_main_thread", about[part])) for part in parts)
