"""Faults of membership: consumers come and go, so that lanes are shared anew each time."""

import signal
from random import Random

from delayq.verify.stage import Nobody, Stage, handles


async def join(stage: Stage, chance: Random) -> None:
    """Start one more consumer."""
    guests = [player for player in stage.players if player.away and not player.alive]
    if not guests:
        raise Nobody
    player = chance.choice(guests)
    stage.note("join", player.part.name)
    player.come()


async def leave(stage: Stage, chance: Random) -> None:
    """Stop a consumer, or kill it, and start none in its place."""
    with stage.holding(chance, handles) as player:
        if sum(handles(other) and not other.away for other in stage.players) == 1:
            raise Nobody
        player.away = True
        if chance.random() < 0.3:
            stage.note("kill", player.name, note="for good")
            player.signal(signal.SIGKILL)
            await player.gone()
        else:
            await stage.stop(player)
