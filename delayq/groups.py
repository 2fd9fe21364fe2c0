"""The consumer groups of a queue: each is to have every message, at its own pace.

They share one stream, and one copy of each entry. It leaves Redis when all are done with it: so the
slowest group decides how much is kept.
"""

from collections.abc import Mapping
from typing import Literal

from redis.asyncio import Redis

from delayq import scripts
from delayq.browse import Stats
from delayq.errors import GroupMissing, ScriptFailed
from delayq.keys import GROUP, LaneKeys, own_name_of
from delayq.publishing import PROMOTE_LIMIT

Start = Literal["beginning", "now"]
"""Where a group begins when its first consumer does: with what is kept, or with what comes next."""


async def groups(client: Redis, keys: LaneKeys) -> list[str]:
    """Return the names of the groups that are there.

    :raises ServerError: if the server did not answer, or refused
    """
    try:
        rows = await scripts.command(client, "XINFO GROUPS", keys.stream)
    except GroupMissing:
        return []
    return [row["name"] for row in rows]


async def there(client: Redis, keys: LaneKeys) -> bool:
    """Tell whether a group is there, or anything of it; of the queue's own: of the queue.

    :raises ServerError: if the server did not answer, or refused
    """
    if await scripts.command(client, "EXISTS", *keys.all):
        return True
    return keys.group in await groups(client, keys)


async def ensure(client: Redis, keys: LaneKeys, wanted: Mapping[str, Start]) -> None:
    """Create the groups that are not there.

    :raises ServerError: if the server did not answer, or refused
    """
    # Asked for first, since to create one is refused at maxmemory, even if it is there.
    known = await groups(client, keys)
    for name, start in wanted.items():
        if name not in known:
            begin = "$" if start == "now" else "0"
            create = ("XGROUP CREATE", keys.stream, name, begin, "MKSTREAM")
            try:
                await scripts.command(client, *create)
            except ScriptFailed as error:
                if "BUSYGROUP" not in str(error):
                    raise


def slowest(counted: Mapping[str, Stats]) -> str | None:
    """Tell for which of several groups most is kept; None if nothing is.

    What is scheduled counts as well, but for the queue's own: there it is what was published.
    """
    kept = {
        name: s.ready + s.pending + (s.scheduled if name != GROUP else 0)
        for name, s in counted.items()
    }
    most = max(kept, key=lambda name: (kept[name], counted[name].oldest_ms or 0))
    return most if len(kept) > 1 and kept[most] else None


async def drop(client: Redis, keys: LaneKeys) -> bool:
    """Take a group away that nobody serves: with its retries, its dead letters, and what is kept.

    :return: False if it is not there
    :raises ServerError: if the server did not answer, or refused; a repeat goes on
    """
    listed = keys.group in await groups(client, keys)
    while await scripts.run(client, "drop_group", [keys.stream], [keys.group, PROMOTE_LIMIT]):
        pass
    return bool(await scripts.command(client, "UNLINK", *keys.own)) or listed


async def holder(client: Redis, keys: LaneKeys) -> str | None:
    """Tell who has a lease in a group; None if nobody does.

    :raises ServerError: if the server did not answer, or refused
    """
    names: list[str | None] = [None]
    try:
        rows = await scripts.command(client, "XINFO CONSUMERS", keys.stream, keys.group)
        names += [own_name_of(row["name"]) for row in rows]
    except GroupMissing:
        pass
    for name in names:
        found: str | None = await scripts.command(client, "HGET", keys.lease(name), "holder")
        if found:
            return found
    return None
