"""From an address to clients of redis-py, each with the rules of this house.

redis-py's own retries are off: one lost reply would repeat a command that is not safe to repeat.
Bytes that are no UTF-8 pass through unharmed, as lone surrogates.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio
from redis import Redis as BlockingRedis
from redis import RedisCluster as BlockingCluster
from redis import sentinel as blocking_sentinel
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode as BlockingNode
from redis.retry import Retry as BlockingRetry

from delayq.transport.address import Address, Host
from delayq.transport.cluster import close, clustered
from delayq.transport.quick import introduced_as, quick
from delayq.transport.sentinels import Sentinels, followed
from delayq.transport.wire import Client

CALL_S = 5.0
"""How long a call may take that does not block, before the server counts as away."""
CONNECT_S = 2.0
_BLOCKING = {"protocol": 2, "decode_responses": True, "socket_timeout": 1}


@asynccontextmanager
async def opened(
    address: Address, name: str, *, one_connection: bool = False, timeout_s: float | None = None
) -> AsyncIterator[Redis]:
    """Open a client whose connections bear `name` in `CLIENT LIST`.

    That of a Cluster is a `RedisCluster`, which sends each command to the node that has its key.

    :param one_connection: not for a Cluster
    :param timeout_s: how long an answer may take, whatever the URL says
    """
    options = _options(name) | address.options
    if timeout_s is not None:
        options["socket_timeout"] = timeout_s
    closing = AsyncExitStack()
    try:
        yield _client(address, options, one_connection, closing)
    finally:
        with anyio.CancelScope(shield=True):
            await closing.aclose()


def _client(
    address: Address,
    options: dict[str, Any],
    one_connection: bool,  # noqa: FBT001 - handed on
    closing: AsyncExitStack,
) -> Redis:
    match address.form:
        case "cluster":
            cluster = clustered(address.hosts, options)
            closing.push_async_callback(close, cluster)
            return cast("Redis", cluster)
        case "sentinel":
            sentinels = Sentinels(address)
            closing.push_async_callback(sentinels.aclose)
            pool = followed(address, sentinels, options)
        case "one":
            pool = ConnectionPool(**options)
    pool.connection_class = quick(cast("Any", pool.connection_class))
    client = Client(connection_pool=pool, single_connection_client=one_connection)
    client.auto_close_connection_pool = True
    closing.push_async_callback(client.aclose)
    return client


def node_of(address: Address, host: Host) -> Address:
    """Return the address of one node of a Cluster."""
    return Address("one", (), {**address.options, "host": host[0], "port": host[1]})


def blocking(address: Address, url: str) -> Any:
    """Return a client that is not async, for a thread: short waits, no retries."""
    retry = BlockingRetry(NoBackoff(), 0)
    options: dict[str, Any] = {**_BLOCKING, "socket_connect_timeout": 1, "retry": retry}
    if address.form == "one":
        return BlockingRedis.from_url(url, **options)
    options |= {**address.options, "socket_timeout": 1}
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    if address.form == "cluster":
        nodes = [BlockingNode(*host) for host in address.hosts]
        return BlockingCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    asked = {**address.asking, "socket_timeout": 1}
    sentinels = blocking_sentinel.Sentinel(address.hosts, sentinel_kwargs=asked)
    return sentinels.master_for(address.service, **options)


def _options(name: str) -> dict[str, Any]:
    return {
        "protocol": 2,
        "redis_connect_func": introduced_as(name),
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": CALL_S,
        "socket_connect_timeout": CONNECT_S,
    }
