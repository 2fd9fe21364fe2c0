"""Faults by another program: what somebody with redis-cli might do to a lane."""

from random import Random

from delayq.keys import GROUP, LaneKeys
from delayq.verify.audit import foreign
from delayq.verify.stage import Nobody, Stage, translated

_MALFORMED: tuple[tuple[object, ...], ...] = (
    ("nonsense", "x"),
    ("body", "{not json"),
    ("body", "{}", "deliveries", "many"),
    ("id", "", "due", "soon", "body", "1"),
)


async def malformed_entry(stage: Stage, chance: Random) -> None:
    """XADD an entry that is no message."""
    keys = _a_lane(stage, chance)
    await _do(stage, keys, ("XADD", keys.stream, "*", *chance.choice(_MALFORMED)))


async def malformed_schedule(stage: Stage, chance: Random) -> None:
    """Schedule what is no message."""
    keys, message_id = _a_lane(stage, chance), f"foreign-{chance.getrandbits(32)}"
    body = ("HSET", keys.bodies, message_id, "000000000000" + "{nonsense")
    await _do(stage, keys, body, ("ZADD", keys.schedule, 1, "000000000000" + message_id))


async def delete_pending(stage: Stage, chance: Random) -> None:
    """XDEL a message that is in somebody's hands."""
    keys = _a_lane(stage, chance)
    rows = await stage.command("XPENDING", keys.stream, GROUP, "-", "+", 1, parse_detail=True)
    if not rows:
        raise Nobody
    await _do(stage, keys, ("XDEL", keys.stream, rows[0]["message_id"]))


async def destroy_group(stage: Stage, chance: Random) -> None:
    """XGROUP DESTROY: what is in hand is forgotten to be, and delivered anew."""
    keys = _a_lane(stage, chance)
    await _do(stage, keys, ("XGROUP", "DESTROY", keys.stream, GROUP))


def _a_lane(stage: Stage, chance: Random) -> LaneKeys:
    return chance.choice(stage.queue.every_lane).keys


async def _do(stage: Stage, keys: LaneKeys, *commands: tuple[object, ...]) -> None:
    stage.note("foreign", note=" ".join(map(str, commands[0][:2])))
    with translated():
        await foreign(stage.client, keys, *commands)
