"""Changing what waits: a scheduled message is cancelled or given another due time; a queue emptied.

Every call is one script, or several bounded ones, and safe to repeat.
"""

from typing import Any

from redis.asyncio import Redis

from delayq import scripts
from delayq.clock import as_argument
from delayq.keys import LaneKeys
from delayq.publishing import ID_WINDOW_MS, PROMOTE_LIMIT


async def cancel(client: Redis, keys: LaneKeys, message_id: str, now_ms: int | None = None) -> bool:
    """Take a message off the schedule; a key that waited for it goes on.

    :param now_ms: instead of the server's time
    :return: False if it is not scheduled, or not any more
    :raises ServerError: if the server did not answer, or refused
    """
    args = [as_argument(now_ms), message_id]
    return bool(await scripts.run(client, "cancel", _scheduled(keys), args))


async def reschedule(
    client: Redis, keys: LaneKeys, message_id: str, due: str, now_ms: int | None
) -> bool:
    """Give a scheduled message another due time.

    :param due: as `delayq.outgoing.when` encodes it
    :param now_ms: instead of the server's time
    :return: False if it is not scheduled, or not any more
    :raises ServerError: if the server did not answer, or refused
    """
    touched = [keys.schedule, keys.bodies, keys.bell, keys.recent]
    args = [as_argument(now_ms), message_id, due, ID_WINDOW_MS]
    return bool(await scripts.run(client, "reschedule", touched, args))


async def purge_scheduled(client: Redis, keys: LaneKeys, now_ms: int | None = None) -> int:
    """Delete what is scheduled now, and let go on the keys that waited for any of it.

    :param now_ms: instead of the server's time
    :return: how many messages were deleted
    :raises ServerError: if the server did not answer, or refused; some may be deleted
    """
    left = int(await scripts.command(client, "ZCARD", keys.schedule))
    deleted, last = 0, -1
    while left > 0 and last != 0:
        args = [as_argument(now_ms), min(left, PROMOTE_LIMIT)]
        last = await scripts.run(client, "purge_scheduled", _scheduled(keys), args)
        left -= last
        deleted += last
    return deleted


async def purge_ready(client: Redis, keys: LaneKeys, now_ms: int | None = None) -> int:
    """Delete what is in the stream now, and not delivered yet; keys that waited for it go on.

    :param now_ms: instead of the server's time
    :return: how many messages were deleted
    :raises ServerError: if the server did not answer, or refused; some may be deleted
    """
    last: Any = await scripts.command(client, "XREVRANGE", keys.stream, "+", "-", "COUNT", 1)
    touched = [keys.stream, keys.recent, keys.schedule, keys.bodies, keys.bell]
    touched += [keys.parked, keys.waiting]
    deleted, batch = 0, -1
    while last and batch != 0:
        args = [as_argument(now_ms), keys.group, last[0][0], PROMOTE_LIMIT]
        batch = await scripts.run(client, "purge_ready", touched, args)
        deleted += batch
    return deleted


def _scheduled(keys: LaneKeys) -> list[str]:
    scheduled = [keys.schedule, keys.bodies, keys.arrival, keys.recent]
    return [*scheduled, keys.bell, keys.parked, keys.waiting]
