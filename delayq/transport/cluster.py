"""redis-py's client of a Cluster, with the rules of this house."""

from collections.abc import Sequence
from typing import Any

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.exceptions import ClusterDownError

from delayq import scripts
from delayq.errors import ServerError
from delayq.transport.address import Host
from delayq.transport.quick import quick

_MOST_CONNECTIONS = 10_000


class _Commands(AsyncCommandsParser):
    """Where the keys of each command stand: asked for once, not after each outage."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if not self.commands:
            await super().initialize(node)


class _Cluster(RedisCluster):
    """Asks the node that failed last after all others where everything is now."""

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> RedisCluster:
        # A node that fails is put at the end.
        last = last_failed_node_name or next(reversed(self.nodes_manager.nodes_cache), None)
        try:
            return await super().initialize(additional_startup_nodes_info, last)
        except IndexError as error:
            raise ClusterDownError("no node of the Cluster has a slot") from error


def clustered(hosts: Sequence[Host], options: dict[str, Any]) -> RedisCluster:
    """Return a client that sends each command to the node that has its key.

    It follows MOVED and ASK. What is repeated besides is for the caller to decide, who knows what
    is safe to repeat.

    :param options: as redis-py's connections take them
    """
    given = {**options, "ssl": options.get("connection_class", Connection) is not Connection}
    given.pop("connection_class", None)
    introduced = given.pop("redis_connect_func")
    client = _Cluster(
        startup_nodes=[ClusterNode(*host) for host in hosts],
        require_full_coverage=False,  # a part that is away is no reason to stop the others
        reinitialize_steps=0,  # a MOVED corrects the place of its slot, and closes no connection
        max_connections=_MOST_CONNECTIONS,
        **given,
    )
    client.commands_parser = _Commands()
    made = client.connection_kwargs
    made["connection_class"] = quick(made["connection_class"])
    made["redis_connect_func"] = introduced
    nodes = client.nodes_manager.startup_nodes
    for name, node in list(nodes.items()):
        nodes[name] = ClusterNode(node.host, node.port, **made)
    return client


async def close(client: RedisCluster) -> None:
    """Close every connection: redis-py forgets them after an outage, or a start cut short."""
    await client.aclose()
    for nodes in ("nodes_cache", "startup_nodes"):
        await client.nodes_manager.aclose(nodes)


async def primaries(client: Any) -> list[tuple[str, Any]]:
    """Return the name of each primary, and what its commands go through.

    :raises ServerError: if a Cluster did not tell
    """
    if not isinstance(client, RedisCluster):
        return [("server", client)]
    try:
        await client.initialize()
    except scripts.THEIRS as error:
        raise scripts.translated(error) from error
    return [(node.name, node) for node in client.get_primaries()]


async def replicas(client: Any) -> int | None:
    """Return how many replicas the primaries have; None if one does not tell."""
    try:
        told = [
            await scripts.command(primary, "INFO", "replication")
            for _, primary in await primaries(client)
        ]
    except ServerError:
        return None
    return sum(int(about["connected_slaves"]) for about in told)
