"""A Cluster: three primaries, each with a replica."""

from collections.abc import Sequence
from typing import Any, Generic

import anyio
from redis.crc import key_slot

from delayq.errors import ServerError, ServerUnreachable
from delayq.verify.replicated import DEAD_AFTER_MS, QUICK, N, Node, follows, until

SLOTS = 16_384
PRIMARIES = 3
_PART = 100
"""Keys moved at once."""
_MOVE_MS = 5_000


def node_options(dead_after_ms: int = DEAD_AFTER_MS) -> tuple[str, ...]:
    """Return the options of each node of a Cluster.

    :param dead_after_ms: after how long without an answer it is dead
    """
    # A replica that lost sight of its primary for long may take its place all the same.
    anyhow = ("--cluster-replica-validity-factor", "0")
    return (
        *QUICK,
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        str(dead_after_ms),
        *anyhow,
    )


class Cluster(Generic[N]):
    """A Cluster.

    :param nodes: six of them, with the options that they need
    """

    def __init__(self, nodes: Sequence[N]) -> None:
        self.nodes = nodes

    @property
    def every(self) -> Sequence[N]:
        """All servers."""
        return self.nodes

    @property
    def url(self) -> str:
        """Where it is."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    async def start(self) -> None:
        """Start all nodes, and have them form a Cluster.

        :raises ServerError: if they do not
        """
        async with anyio.create_task_group() as starting:
            for node in self.nodes:
                starting.start_soon(node.start)
        each = SLOTS / PRIMARIES
        for at, node in enumerate(self.nodes):
            await node.say("CLUSTER SET-CONFIG-EPOCH", at + 1)
            if at < PRIMARIES:
                slots = range(round(at * each), round((at + 1) * each))
                await node.say("CLUSTER ADDSLOTS", *slots)
            await self.nodes[0].say("CLUSTER MEET", "127.0.0.1", node.port)
        await until(self._all_know_all, "all nodes know each other")
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True):
            await replica.say("CLUSTER REPLICATE", await primary.say("CLUSTER MYID"))
        await until(self.healthy, "the Cluster is whole")

    async def healthy(self) -> bool:
        """Tell whether all nodes that live think that all is well, and each primary is followed.

        :raises ServerError: if one does not answer
        """
        for node in self._living():
            if (await state(node))["cluster_state"] != "ok":
                return False
        primaries = await self.primaries()
        others = [node for node in self._living() if node not in primaries]
        return all([await follows(node) for node in others])

    async def primaries(self) -> list[N]:
        """Return the nodes that have slots.

        :raises ServerError: if nobody tells
        """
        ports = {row[2][1] for row in await self._slots()}
        return [node for node in self._living() if node.port in ports]

    async def holder(self, key: str) -> N:
        """Return the primary that has the slot of `key`.

        :raises ServerError: if nobody tells
        """
        slot = key_slot(key.encode())
        ports = {row[2][1] for row in await self._slots() if row[0] <= slot <= row[1]}
        for node in self.nodes:
            if node.port in ports:
                return node
        raise ServerUnreachable(f"nobody has slot {slot}")

    async def revive(self, node: N) -> None:
        """Start a node that was killed, when its replica has its place; wait until it follows it.

        :raises ServerError: if that does not come about
        """
        await until(lambda: self._is_replaced(node), f"{node.port} is replaced")
        await node.start()
        await until(lambda: follows(node), f"{node.port} follows")
        await until(self.healthy, "the Cluster is whole")

    async def move(self, key: str, pause_s: float) -> None:
        """Move the slot of `key`, with all its keys, to another primary.

        :param pause_s: how long it lasts at least
        :raises ServerError: if that does not come about
        """
        source, target = await self.begin_move(key)
        await anyio.sleep(pause_s)
        await self.move_keys(key, source, target)
        await self.end_move(key, source, target)

    async def begin_move(self, key: str) -> tuple[N, N]:
        """Begin to move the slot of `key`; return from where to where. See `move`."""
        slot, source = key_slot(key.encode()), await self.holder(key)
        target = next(node for node in await self.primaries() if node is not source)
        await target.say("CLUSTER SETSLOT", slot, "IMPORTING", await source.say("CLUSTER MYID"))
        await source.say("CLUSTER SETSLOT", slot, "MIGRATING", await target.say("CLUSTER MYID"))
        return source, target

    async def move_keys(self, key: str, source: N, target: N) -> None:
        """Move the keys of a slot that is being moved."""
        slot = key_slot(key.encode())
        while keys := await source.say("CLUSTER GETKEYSINSLOT", slot, _PART):
            await source.say("MIGRATE", "127.0.0.1", target.port, "", 0, _MOVE_MS, "KEYS", *keys)

    async def end_move(self, key: str, source: N, target: N) -> None:
        """End the move of a slot whose keys were moved."""
        slot, to = key_slot(key.encode()), await target.say("CLUSTER MYID")
        for node in (target, source, *await self.primaries()):
            await node.say("CLUSTER SETSLOT", slot, "NODE", to)

    async def _is_replaced(self, node: N) -> bool:
        slots = await self._slots()
        return all(row[2][1] != node.port for row in slots) and await self._is_ok()

    async def _is_ok(self) -> bool:
        states = [await state(node) for node in self._living()]
        return all(state["cluster_state"] == "ok" for state in states)

    async def _all_know_all(self) -> bool:
        states = [await state(node) for node in self.nodes]
        return {state["cluster_known_nodes"] for state in states} == {str(len(self.nodes))}

    async def _slots(self) -> list[Any]:
        for node in self._living():
            try:
                return list(await node.say("CLUSTER SLOTS"))
            except ServerError:
                continue
        raise ServerUnreachable("no node of the Cluster answers")

    def _living(self) -> list[N]:
        return [node for node in self.nodes if node.alive]


async def state(node: Node) -> dict[str, str]:
    """Return what a node knows of its Cluster.

    :raises ServerError: if it does not answer
    """
    told = await node.say("CLUSTER INFO")
    if isinstance(told, dict):
        return {name: str(value) for name, value in told.items()}
    return dict(line.split(":", 1) for line in str(told).splitlines() if ":" in line)
