"""An exchange: two commands on one connection, sent at once, where the second asks about the first.

A client of redis-py sends each command on whichever connection is free, and `WAIT` would be
answered for what that one wrote before.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

_ASKING = ("ASKING",)
_REDIRECTIONS = 5
_SLACK_S = 5.0


async def exchange(
    client: Any, key: str, first: Sequence[object], second: Sequence[object], timeout_s: float
) -> tuple[Any, Any]:
    """Return the answer of both commands. If the first fails, the second is not waited for.

    :param key: one that the first command has; it decides which node of a Cluster is asked
    :param timeout_s: for how long the second one may block
    :raises RedisError: as the client's own commands do, but for an error answered to the second:
        that is returned
    """
    if not isinstance(client, RedisCluster):
        return await _on(client.connection_pool, (first, second), timeout_s)
    await client.initialize()
    node, before = client.get_node_from_key(key), list[tuple[str]]()
    for _ in range(_REDIRECTIONS):
        try:
            return await _on(_Node(node), (*before, first, second), timeout_s)
        except AskError as error:
            node, before = _named(client, error), [_ASKING]
        except MovedError as error:
            await client.nodes_manager.move_slot(error)
            node, before = client.get_node_from_key(key), []
        except ResponseError:
            raise
        except BaseException:  # given up, too: a frozen node answers nothing
            _mistrust(client, node)
            raise
    raise RedisError(f"{_REDIRECTIONS} redirections, and no node that has {key}")


class _Node:
    """Lends connections of a Cluster's node, as a pool does."""

    def __init__(self, node: Any) -> None:
        self._node = node

    async def get_connection(self) -> Any:
        connection = self._node.acquire_connection()
        try:
            await connection.connect()
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        self._node.release(connection)


def _mistrust(client: Any, node: Any) -> None:
    """Have the next call ask where the keys are now, and this node last: as redis-py's own do."""
    client.nodes_manager.move_node_to_end_of_cached_nodes(node.name)
    client._initialize = True  # noqa: SLF001


def _named(client: Any, error: AskError) -> Any:
    node = client.get_node(host=error.host, port=error.port)
    if node is None:
        raise RedisError(f"{error.node_addr}: this node is not known yet")
    return node


async def _on(pool: Any, commands: Sequence[Sequence[object]], timeout_s: float) -> tuple[Any, Any]:
    connection = await pool.get_connection()
    try:
        packed = [part for words in commands for part in connection.pack_command(*words)]
        await connection.send_packed_command(packed)
        for _ in commands[:-1]:
            answer = await connection.read_response()
        return answer, await _last(connection, timeout_s)
    except BaseException:
        with suppress(OSError):
            await connection.disconnect(nowait=True)  # what is still to come answers nobody
        raise
    finally:
        await pool.release(connection)


async def _last(connection: Any, timeout_s: float) -> Any:
    try:
        return await connection.read_response(timeout=timeout_s + _SLACK_S)
    except ResponseError as error:
        return error
