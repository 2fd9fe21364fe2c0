"""Faults of servers that replace each other: a primary dies, a slot moves to another one."""

from random import Random

import anyio

from delayq.verify.cluster import Cluster
from delayq.verify.stage import Nobody, Stage


async def kill_a_primary(stage: Stage, chance: Random) -> None:
    """SIGKILL the primary of a lane: its replica takes its place, and has a replica again."""
    with stage.own_servers() as servers:
        node = await servers.holder(_a_lane(stage, chance))
        with anyio.CancelScope(shield=True):
            stage.note("server kill", note=f"the primary at port {node.port}")
            await node.kill()
            await servers.revive(node)


async def move_a_slot(stage: Stage, chance: Random) -> None:
    """Move a lane to another primary of the Cluster."""
    with stage.own_servers() as servers:
        if not isinstance(servers, Cluster):
            raise Nobody
        key = _a_lane(stage, chance)
        with anyio.CancelScope(shield=True):
            stage.note("server other", note=f"the slot of {key} moves")
            await servers.move(key, chance.uniform(0, 1) * stage.lease_ttl_s)


def _a_lane(stage: Stage, chance: Random) -> str:
    return chance.choice(stage.queue.every_lane).keys.stream
