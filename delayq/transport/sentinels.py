"""Sentinels, and connections to whichever server they say is the primary."""

from typing import Any

import anyio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from delayq.transport.address import Address

ANSWER_S = 0.5


class Sentinels(Sentinel):
    """Asks them all, and believes those that know of the latest failover.

    The first answer may be of one that has not heard of it: until it does, seconds later, it sends
    to a primary that is none any more, or that came back, empty, and thinks that it is one. Of
    those that know as much, one that can reach the primary is enough.
    """

    def __init__(self, address: Address) -> None:
        quickly = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
        asked = {**address.asking, **quickly, "retry": Retry(NoBackoff(), 0)}
        super().__init__(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the primary is.

        :raises MasterNotFoundError: if there is none, or no Sentinel answers
        """
        answers: list[Any] = []
        # Not asyncio's `gather`: cancelled, it raises what no cancel scope knows as its own.
        async with anyio.create_task_group() as asking:
            for sentinel in self.sentinels:
                asking.start_soon(_ask, sentinel, answers)
        silent = next((a for a in answers if isinstance(a, Exception)), None)
        known = [a[service_name] for a in answers if isinstance(a, dict) and service_name in a]
        if not known:
            raise MasterNotFoundError(f"no Sentinel knows {service_name!r}: {silent}") from silent
        latest = max(int(state["config-epoch"]) for state in known)
        newest = [state for state in known if int(state["config-epoch"]) == latest]
        up = [state for state in newest if self.check_master_state(state, service_name)]
        if not up:
            raise MasterNotFoundError(f"the primary of {service_name!r} is down")
        return up[0]["ip"], up[0]["port"]


async def _ask(sentinel: Any, answers: list[Any]) -> None:
    """Add what a Sentinel tells of the primaries that it watches, or why it does not."""
    try:
        answers.append(await sentinel.sentinel_masters())
    except (RedisError, OSError) as error:
        answers.append(error)
    finally:
        with anyio.CancelScope(shield=True):
            await sentinel.connection_pool.disconnect(inuse_connections=False)


def followed(address: Address, sentinels: Sentinels, options: dict[str, Any]) -> Any:
    """Return a pool of connections, each to the server that is the primary when it is made.

    :param options: as redis-py's connections take them
    """
    secure = "ssl" in address.asking
    kind = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    given = {**options, "connection_class": kind}
    return SentinelConnectionPool(address.service, sentinels, **given)
