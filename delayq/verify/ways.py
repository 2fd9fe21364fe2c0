"""Faults of the network: on the way between one process and the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import anyio

from delayq.verify.history import FaultKind
from delayq.verify.players import Player
from delayq.verify.stage import Stage, anyone, handles


async def slow_network(stage: Stage, chance: Random) -> None:
    """Have everything take longer, for a while."""
    with _faulty(stage, chance, "cut", "slow") as player:
        player.proxy.latency_s = chance.uniform(0.002, 0.1)
        await anyio.sleep(chance.uniform(0.5, 2) * stage.lease_ttl_s)


async def split_frames(stage: Stage, chance: Random) -> None:
    """Have everything arrive in pieces of a few bytes, for a while."""
    with _faulty(stage, chance, "cut", "split frames") as player:
        player.proxy.piece_bytes = chance.choice((1, 3, 7))
        await anyio.sleep(0.3)


async def reset(stage: Stage, chance: Random) -> None:
    """Cut all connections of a process."""
    with _faulty(stage, chance, "cut", "reset") as player:
        player.proxy.reset()


async def drop_a_request(stage: Stage, chance: Random) -> None:
    """Cut the connection of a script that is on its way."""
    with _faulty(stage, chance, "lost", "request dropped") as player:
        player.proxy.drop_next = True
        await anyio.sleep(0.2)


async def lose_a_reply(stage: Stage, chance: Random) -> None:
    """Have a script carried out, and cut its connection before the reply arrives."""
    with _faulty(stage, chance, "lost", "executed, reply lost") as player:
        player.proxy.lose_next = True
        await anyio.sleep(0.2)


async def half_open(stage: Stage, chance: Random) -> None:
    """Have nothing arrive, either way; the connections stay, and what was sent arrives late."""
    with _faulty(stage, chance, "cut", "half open") as player:
        player.proxy.hold("requests", "replies")
        await anyio.sleep(chance.uniform(0.5, 2) * stage.lease_ttl_s)


async def requests_held(stage: Stage, chance: Random) -> None:
    """Have no request arrive; what was sent arrives late, after a takeover."""
    with _faulty(stage, chance, "cut", "requests held") as player:
        player.proxy.hold("requests")
        await anyio.sleep(chance.uniform(0.5, 2) * stage.lease_ttl_s)


async def replies_held(stage: Stage, chance: Random) -> None:
    """Have no reply arrive; what was sent is carried out."""
    with _faulty(stage, chance, "cut", "replies held") as player:
        player.proxy.hold("replies")
        await anyio.sleep(chance.uniform(0.5, 2) * stage.lease_ttl_s)


@contextmanager
def _faulty(stage: Stage, chance: Random, kind: FaultKind, note: str) -> Iterator[Player]:
    """Take a process whose network is to fail, oftener a consumer, and mend its network after."""
    suits = anyone if chance.random() < 0.3 else handles
    with stage.holding(chance, suits) as player:
        stage.note(kind, player.name, note=note)
        try:
            yield player
        finally:
            player.proxy.heal()
