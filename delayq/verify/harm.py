"""Faults of processes: killed, stopped, frozen, blocked; at random, or exactly where it hurts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import anyio

from delayq.verify.figures import ALL
from delayq.verify.players import Player, Said
from delayq.verify.points import POINTS, SETTLING, Act
from delayq.verify.stage import Nobody, Stage, anyone, handles, publishes

ENDED_S = 5.0
"""How long a fault waits for what it brings about, at most."""


async def kill(stage: Stage, chance: Random) -> None:
    """SIGKILL a process at random."""
    with stage.holding(chance, anyone) as player:
        await _kill(stage, player)


async def kill_the_active_one(stage: Stage, chance: Random) -> None:
    """SIGKILL an active consumer."""
    with stage.holding(chance, stage.is_active) as player:
        await _kill(stage, player)


async def kill_at_a_point(stage: Stage, chance: Random) -> None:
    """SIGKILL a consumer exactly before or after a script, or in a handler."""
    with stage.holding(chance, handles) as player:
        await _at_a_point(stage, player, chance, "kill", chance.choice(POINTS))


async def kill_all_consumers(stage: Stage, _chance: Random) -> None:
    """SIGKILL all consumers; they start again at one instant."""
    for player in stage.players:
        if handles(player) and player.alive:
            stage.note("kill", player.name, note=ALL)
            player.signal(signal.SIGKILL)


async def stop(stage: Stage, chance: Random) -> None:
    """SIGTERM or SIGINT a process."""
    with stage.holding(chance, anyone) as player:
        stage.note("stop", player.name)
        await _end(player, chance.choice((signal.SIGTERM, signal.SIGINT)))


async def stop_at_a_point(stage: Stage, chance: Random) -> None:
    """SIGTERM a consumer exactly before or after a script, or in a handler."""
    with stage.holding(chance, handles) as player:
        await _at_a_point(stage, player, chance, "stop", chance.choice(POINTS))


async def stop_twice(stage: Stage, chance: Random) -> None:
    """SIGTERM a process, and again before it has ended: that is a death."""
    with stage.holding(chance, anyone) as player:
        stage.note("stop", player.name)
        player.signal(signal.SIGTERM)
        await anyio.sleep(chance.uniform(0, 0.02))
        stage.note("kill", player.name, note="a second signal")
        await _end(player, signal.SIGTERM)


async def hand_over(stage: Stage, _chance: Random) -> None:
    """Ask the active consumer to pass on."""
    if not stage.queue.ordered:
        raise Nobody
    await stage.queue.handover(ENDED_S)


async def freeze(stage: Stage, chance: Random) -> None:
    """SIGSTOP a process for a time, which may be longer than its lease."""
    with stage.holding(chance, anyone) as player, _thawed(stage, player):
        seconds = chance.uniform(0.1, 2.5) * stage.lease_ttl_s
        stage.note("freeze", player.name, round(seconds * 1000))
        player.signal(signal.SIGSTOP)
        await anyio.sleep(seconds)


async def freeze_to_the_takeover(stage: Stage, chance: Random) -> None:
    """SIGSTOP an active consumer, and SIGCONT it in the instant in which another has its lease."""
    with stage.holding(chance, stage.is_active) as player, _thawed(stage, player):
        term = await stage.term(player)
        stage.note("freeze", player.name, note="to the takeover")
        player.signal(signal.SIGSTOP)
        await stage.followed(term)


async def freeze_into_the_successor(stage: Stage, chance: Random) -> None:
    """SIGSTOP a consumer in a handler; SIGCONT it while its successor handles that message."""
    with stage.holding(chance, stage.is_active) as player, _thawed(stage, player):
        said = await _at_a_point(stage, player, chance, "freeze", "handler")
        place = stage.end
        for other in filter(handles, stage.players):
            if other is not player:
                await other.tell(do="watch", id=said["id"])
        with anyio.move_on_after(3 * stage.lease_ttl_s):
            await stage.told_of(after=place, handling=said["id"])


async def freeze_at_a_point(stage: Stage, chance: Random) -> None:
    """SIGSTOP a consumer exactly before or after a script, for longer than its lease."""
    with stage.holding(chance, stage.is_active) as player, _thawed(stage, player):
        term = await stage.term(player)
        point = f"{chance.choice(('before', 'after'))} {chance.choice(SETTLING[:4])}"
        await _at_a_point(stage, player, chance, "freeze", point)
        await stage.followed(term)
        await anyio.sleep(chance.choice((0.0, 0.5)) * stage.lease_ttl_s)


async def block_the_loop(stage: Stage, chance: Random) -> None:
    """Have a handler block the event loop for longer than the lease."""
    with stage.holding(chance, stage.is_active) as player:
        ms = round(chance.uniform(0.5, 2.5) * stage.lease_ttl_s * 1000)
        await player.tell(do="block", ms=ms)
        await anyio.sleep(ms / 1000)


async def poison(stage: Stage, chance: Random) -> None:
    """Publish a message that kills its process, hangs, or blocks the loop, more than once."""
    with stage.holding(chance, publishes) as player:
        ms = round(1.5 * stage.lease_ttl_s * 1000)
        await player.tell(do="poison", how=chance.choice(("die", "hang", "block")), ms=ms)


async def _kill(stage: Stage, player: Player) -> None:
    stage.note("kill", player.name)
    await _end(player, signal.SIGKILL)


async def _end(player: Player, number: signal.Signals) -> None:
    player.signal(number)
    with anyio.move_on_after(ENDED_S):
        await player.gone()


async def _at_a_point(stage: Stage, player: Player, chance: Random, act: Act, point: str) -> Said:
    """Have a process do something to itself; return what it says just before.

    :raises Nobody: if it does not pass there soon
    """
    place = stage.end
    await player.tell(do="at", point=point, nth=chance.randint(1, 3), act=act)
    with anyio.move_on_after(ENDED_S):
        return await stage.told_of(player, after=place, act=act)
    await player.tell(do="disarm")
    raise Nobody


@contextmanager
def _thawed(stage: Stage, player: Player) -> Iterator[None]:
    """Thaw a process in the end, if it still is that one."""
    name = player.name
    try:
        yield
    finally:
        if player.name == name:
            stage.note("thaw", name)
            player.signal(signal.SIGCONT)
