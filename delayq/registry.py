"""The registry: which queues a namespace has, and how many lanes each of them.

The number of lanes decides which lane a key belongs to. So whoever uses a queue claims the number
first: the first one sets it, and one who declares another is refused before anything is written.
"""

from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis

from delayq import scripts
from delayq.errors import LanesDiffer, ServerOutOfMemory
from delayq.keys import MAX_LANES, registry
from delayq.record import number


@dataclass(slots=True)
class Registration:
    """That a process and its namespace agree on a queue."""

    namespace: str
    queue: str
    lanes: int
    done: bool = False

    async def claim(self, client: Redis) -> None:
        """Have the queue listed with its number of lanes, unless the server is at maxmemory.

        :raises LanesDiffer: if others use it with another number; nothing was written
        :raises ServerError: if the server did not answer, or refused
        """
        key = registry(self.namespace)
        with suppress(ServerOutOfMemory):
            await scripts.command(client, "HSETNX", key, self.queue, self.lanes)
        known = await lanes(client, self.namespace, self.queue)
        if known is not None and known != self.lanes:
            raise LanesDiffer(
                f"queue {self.queue}: it has {known} lanes, and {self.lanes} are declared here; "
                f"`python -m delayq lanes {self.queue} {self.lanes}` changes that, when it is empty"
            )
        self.done = True


async def lanes(client: Redis, namespace: str, queue: str) -> int | None:
    """Tell how many lanes a queue has; None if nobody has used it.

    :raises ServerError: if the server did not answer, or refused
    """
    return _lanes(await scripts.command(client, "HGET", registry(namespace), queue))


async def set_lanes(client: Redis, namespace: str, queue: str, number: int) -> None:
    """Set how many lanes a queue has, whatever it had. See `delayq.resize`.

    :raises ServerError: if the server did not answer, or refused
    """
    await scripts.command(client, "HSET", registry(namespace), queue, number)


async def queues(client: Redis, namespace: str) -> dict[str, int]:
    """Return the queues of a namespace with the number of lanes of each, by name.

    :raises ServerError: if the server did not answer, or refused
    """
    found = await scripts.command(client, "HGETALL", registry(namespace))
    return {name: _lanes(found[name]) or 1 for name in sorted(found)}


async def forget(client: Redis, namespace: str, queue: str) -> None:
    """Have a queue listed no more.

    :raises ServerError: if the server did not answer, or refused
    """
    await scripts.command(client, "HDEL", registry(namespace), queue)


def _lanes(text: str | None) -> int | None:
    """Read a number of lanes; None if there is none, or another program wrote another thing."""
    found = number(text)
    return found if found is not None and 1 <= found <= MAX_LANES else None
