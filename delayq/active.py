"""The active consumer of an ordered queue, as operators see it: who it is, what it is asked."""

from dataclasses import dataclass

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.clock import as_argument
from delayq.keys import LaneKeys, own_name_of
from delayq.record import number

SEEN_MS = 12_000
"""Who stands by shows it every few seconds; whoever did not for so long is gone."""
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Active:
    """Who is active, and who stands by."""

    name: str
    """The consumer's name, without its epoch."""
    epoch: int
    since_ms: int
    """When it became active, by the server's clock."""
    now_ms: int
    """When this was told, by the server's clock."""
    standby: tuple[str, ...]


async def who(client: Redis, keys: LaneKeys) -> Active | None:
    """Tell who is active, and who stands by; None if nobody is active.

    :raises ServerError: if the server did not answer, or refused
    """
    seconds, micros = await scripts.command(client, "TIME")
    now_ms = seconds * 1000 + micros // 1000
    ask = ("ZRANGEBYSCORE", keys.standby, now_ms - SEEN_MS, "+inf")
    standby = tuple(await scripts.command(client, *ask))
    about = await scripts.command(client, "HMGET", keys.lease(), "holder", "epoch", "since")
    epoch = number(about[1])
    if about[0] is None or epoch is None:
        return None
    name = own_name_of(about[0])
    return Active(name, epoch, number(about[2]) or 0, now_ms, standby)


async def handover(client: Redis, keys: LaneKeys, timeout_s: float = 30.0) -> Active | None:
    """Ask the active consumer to pass on, and wait until somebody is active under a new epoch.

    It finishes what is in hand, and lets others go first for two seconds; where nobody stands by,
    it becomes active again itself.

    :param timeout_s: how long to wait: as long as a handler may take
    :return: who is active now; None if nobody was active, or nobody is in that time
    :raises ServerError: if the server did not answer, or refused
    """
    asked = await scripts.run(client, "handover", [keys.lease(), keys.vacancy], [""])
    if not asked[0]:
        return None
    with anyio.move_on_after(timeout_s):
        while True:
            active = await who(client, keys)
            if active and active.epoch != number(asked[1]):
                return active
            await anyio.sleep(_LOOK_S)
    return None


async def resume(
    client: Redis, keys: LaneKeys, *, skip: bool = False, now_ms: int | None = None
) -> str | None:
    """Have a halted lane go on.

    :param skip: make a dead letter of the message that it stopped at; else it is delivered again,
        its deliveries forgotten
    :param now_ms: instead of the server's time
    :return: the id of that message; None if the lane is not halted
    :raises ServerError: if the server did not answer, or refused
    """
    scheduled = [keys.schedule, keys.bodies, keys.bell]
    touched = [keys.halted, keys.stream, keys.dead, *scheduled]
    touched += [keys.parked, keys.waiting, keys.vacancy]
    args = [as_argument(now_ms), keys.group, int(skip)]
    message_id: str = await scripts.run(client, "resume", touched, args)
    return message_id or None
