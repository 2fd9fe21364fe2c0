"""Faults of the network: on the way between one process and the server."""

from collections.abc import Callable
from random import Random

import anyio

from delayq.verify.history import FaultKind
from delayq.verify.proxy import Proxy
from delayq.verify.stage import Stage, anyone, handles

SOON_S = 0.2
"""For how long the next script is waited for that is to be lost."""


async def slow_network(stage: Stage, chance: Random) -> None:
    """Have everything take longer, for a while."""
    latency_s = chance.uniform(0.002, 0.1)

    def slow(proxy: Proxy) -> None:
        proxy.latency_s = latency_s

    await _faulty(stage, chance, "slow", slow, _a_while_s(stage, chance))


async def split_frames(stage: Stage, chance: Random) -> None:
    """Have everything arrive in pieces of a few bytes, for a while."""
    size = chance.choice((1, 3, 7))

    def split(proxy: Proxy) -> None:
        proxy.piece_bytes = size

    await _faulty(stage, chance, "split frames", split, 0.3)


async def reset(stage: Stage, chance: Random) -> None:
    """Cut all connections of a process."""
    await _faulty(stage, chance, "reset", Proxy.reset, 0)


async def drop_a_request(stage: Stage, chance: Random) -> None:
    """Cut the connection of a script that is on its way."""

    def drop(proxy: Proxy) -> None:
        proxy.drop_next = True

    await _faulty(stage, chance, "request dropped", drop, SOON_S, kind="lost")


async def lose_a_reply(stage: Stage, chance: Random) -> None:
    """Have a script carried out, and cut its connection before the reply arrives."""

    def lose(proxy: Proxy) -> None:
        proxy.lose_next = True

    await _faulty(stage, chance, "executed, reply lost", lose, SOON_S, kind="lost")


async def half_open(stage: Stage, chance: Random) -> None:
    """Have nothing arrive, either way; the connections stay, and what was sent arrives late."""

    def hold(proxy: Proxy) -> None:
        proxy.hold("requests", "replies")

    await _faulty(stage, chance, "half open", hold, _a_while_s(stage, chance))


async def requests_held(stage: Stage, chance: Random) -> None:
    """Have no request arrive; what was sent arrives late, after a takeover."""

    def hold(proxy: Proxy) -> None:
        proxy.hold("requests")

    await _faulty(stage, chance, "requests held", hold, _a_while_s(stage, chance))


async def replies_held(stage: Stage, chance: Random) -> None:
    """Have no reply arrive; what was sent is carried out."""

    def hold(proxy: Proxy) -> None:
        proxy.hold("replies")

    await _faulty(stage, chance, "replies held", hold, _a_while_s(stage, chance))


def _a_while_s(stage: Stage, chance: Random) -> float:
    return chance.uniform(0.5, 2) * stage.lease_ttl_s


async def _faulty(
    stage: Stage,
    chance: Random,
    note: str,
    act: Callable[[Proxy], None],
    seconds: float,
    *,
    kind: FaultKind = "cut",
) -> None:
    """Have the network of a process fail, oftener a consumer's, for as long as is told; mend it."""
    suits = anyone if chance.random() < 0.3 else handles
    with stage.holding(chance, suits) as player:
        stage.note(kind, player.name, round(seconds * 1000), note)
        try:
            act(player.proxy)
            await anyio.sleep(seconds)
        finally:
            player.proxy.heal()
