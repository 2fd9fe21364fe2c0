"""The audit: each script records, in the atomic step in which it works, what it does.

Once `switch_on` was called, the scripts of this process are longer: `audit.lua` stands around each,
and gives it another `redis`, which keeps the commands that write, and what was answered. At its end
each call appends one entry to the audit stream of its lane, if anything changed, or the call was
refused, or failed half-way. So the audit tells what a script did, not what it says it does.

What is not in it: commands that are sent by themselves (XGROUP CREATE of the group, those of the
registry, ZREM of who stands by or takes part, UNLINK of a queue's keys), and keys that expire.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis

from delayq import scripts
from delayq.keys import LaneKeys, audit_of
from delayq.verify.history import FOREIGN, Audited, Write

PAGE = 256

_NAMED = re.compile(r"^-- (?:(ARGV)\[(\d+)\] (epoch|consumer|now)|(KEYS)\[(\d+)\] (lease)) ", re.M)
_EACH = """
local at, answer = 1, nil
while ARGV[at] do
  answer = redis.call(unpack(ARGV, at + 1, at + ARGV[at]))
  at = at + 1 + ARGV[at]
end
return answer
"""
_AROUND = (resources.files("delayq.verify") / "audit.lua").read_text("utf-8")


def switch_on() -> None:
    """Have the scripts of this process write the audit, from now on. To be called once."""
    scripts.rewrite(_audited, lambda keys: [*keys, audit_of(keys[0])])


async def foreign(client: Redis, keys: LaneKeys, *commands: tuple[object, ...]) -> Any:
    """Do what another program would do to a lane, all of it or nothing, and have it in the audit.

    :param commands: each as it is sent, `"XGROUP", "DESTROY"` being two words
    :return: what was answered to the last one
    :raises redis.RedisError: if the server refuses one
    """
    words = [word for command in commands for word in (len(command), *command)]
    execute: Any = client.execute_command
    return await execute("EVAL", _audited(FOREIGN, _EACH), 2, keys.stream, keys.audit, *words)


async def read(client: Redis, keys: LaneKeys, after: str = "0-0") -> AsyncIterator[Audited]:
    """Read the audit of a lane, from the call after `after` on, up to its present end.

    Nothing is deleted: `XTRIM` of `keys.audit` with `MINID` frees what was read. But where the
    server may lose what it accepted, read it when everything has ended: then calls that were lost
    are lost to both.

    :param after: `at` of the last one that was read
    """
    rows: Any = [()]
    while rows:
        rows = await client.xrange(keys.audit, f"({after}", "+", PAGE)
        for at, fields in rows:
            yield parse(keys, at, fields["call"])
            after = at


def parse(keys: LaneKeys, at: str, call: str) -> Audited:
    """Read one entry of the audit."""
    told = json.loads(call)
    epoch = told.get("epoch")
    return Audited(
        at,
        keys.queue,
        keys.lane,
        told["script"],
        int(told["began_us"]),
        int(told["now_us"]),
        int(told["ended_us"]),
        None if epoch is None else int(epoch),
        told.get("consumer"),
        told.get("lease"),
        told.get("refusal"),
        tuple(_write(*write) for write in told["writes"]),
    )


def _write(words: Sequence[str], reply: Any) -> Write:
    # Lua has one kind of table: an empty one is written as an object.
    return Write(tuple(words), reply if isinstance(reply, str) else tuple(reply))


def _audited(name: str, text: str) -> str:
    """Return the text of a script that writes the audit.

    Each is told by its header which of its arguments is the epoch: a test holds headers to bodies.
    """
    found = (tuple(filter(None, match.groups())) for match in _NAMED.finditer(text))
    named = ", ".join(f"{what} = {where}[{n}]" for where, n, what in found)
    head = f"local script, named = '{name}', {{{named}}}\n"
    return head + _AROUND.replace("-- BODY", text)
