"""Faults by foreign hands: what somebody with redis-cli might do to a lane."""

from random import Random

from delayq.keys import GROUP
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
    await _do(stage, "XADD", stage.queue.keys.stream, "*", *chance.choice(_MALFORMED))


async def malformed_schedule(stage: Stage, chance: Random) -> None:
    """Schedule what is no message."""
    keys, message_id = stage.queue.keys, f"foreign-{chance.getrandbits(32)}"
    await _do(stage, "HSET", keys.bodies, message_id, "000000000000" + "{nonsense")
    await _do(stage, "ZADD", keys.schedule, 1, "000000000000" + message_id)


async def delete_pending(stage: Stage, _chance: Random) -> None:
    """XDEL a message that is in somebody's hands."""
    stream = stage.queue.keys.stream
    rows = await stage.command("XPENDING", stream, GROUP, "-", "+", 1, parse_detail=True)
    if not rows:
        raise Nobody
    await _do(stage, "XDEL", stream, rows[0]["message_id"])


async def destroy_group(stage: Stage, _chance: Random) -> None:
    """XGROUP DESTROY: what is in hand is forgotten to be, and delivered anew."""
    await _do(stage, "XGROUP", "DESTROY", stage.queue.keys.stream, GROUP)


async def _do(stage: Stage, *words: object) -> None:
    stage.note("foreign", note=" ".join(map(str, words[:2])))
    with translated():
        await foreign(stage.client, stage.queue.keys, *words)
