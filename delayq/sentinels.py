"""Sentinels, and connections to whichever server they say is the primary."""

import asyncio
from typing import Any

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

from delayq.address import Address

ANSWER_S = 0.5


class Sentinels(Sentinel):
    """Asks them all, and believes the one that knows of the latest failover.

    The first answer may be of one that has not heard of it: until it does, seconds later, it sends
    to a primary that is none any more, or that came back, empty, and thinks that it is one.
    """

    def __init__(self, address: Address) -> None:
        quickly = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
        asked = {**address.asking, **quickly, "retry": Retry(NoBackoff(), 0)}
        super().__init__(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the primary is.

        :raises MasterNotFoundError: if there is none, or no Sentinel answers
        """
        asked = (sentinel.sentinel_masters() for sentinel in self.sentinels)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.gather(
            *(sentinel.connection_pool.disconnect() for sentinel in self.sentinels)
        )
        silent = next((a for a in answers if isinstance(a, RedisError | OSError)), None)
        known = [a[service_name] for a in answers if isinstance(a, dict) and service_name in a]
        latest = max(known, key=lambda state: int(state["config-epoch"]), default=None)
        if latest is None:
            raise MasterNotFoundError(f"no Sentinel knows {service_name!r}: {silent}") from silent
        if not self.check_master_state(latest, service_name):
            raise MasterNotFoundError(f"the primary of {service_name!r} is down")
        return latest["ip"], latest["port"]


def followed(address: Address, sentinels: Sentinels, options: dict[str, Any]) -> Any:
    """Return a pool of connections, each to the server that is the primary when it is made.

    :param options: as redis-py's connections take them
    """
    secure = "ssl" in address.asking
    kind = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    given = {**options, "connection_class": kind}
    return SentinelConnectionPool(address.service, sentinels, **given)
