"""The audit: each script records, in the atomic step in which it works, what it does.

Once `switch_on` was called, the scripts of this process are longer: `audit.lua` stands before the
prelude, and gives it another `redis`, which keeps the commands that write, and what was answered.
At its end each call appends one entry to the audit stream of its lane, if anything changed, or the
call was refused, or failed half-way.
"""

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from delayq.keys import LaneKeys
from delayq.verify.history import Audited


def switch_on() -> None:
    """Have the scripts of this process write the audit, from now on."""
    raise NotImplementedError


def audit_key(keys: LaneKeys) -> str:
    """Return the name of the audit stream of a lane."""
    raise NotImplementedError


async def foreign(client: Redis, keys: LaneKeys, *words: object) -> Any:
    """Do what foreign hands would do to a lane, and have it in the audit.

    :param words: a command; its second word is the key
    """
    raise NotImplementedError


def read(client: Redis, keys: LaneKeys, after: str = "0-0") -> AsyncIterator[Audited]:
    """Read the audit of a lane, from the call after `after` on, up to its present end.

    Nothing is deleted: `XTRIM <audit_key> MINID <at>` frees what was read.
    """
    raise NotImplementedError
