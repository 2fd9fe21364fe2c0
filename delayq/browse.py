"""Looking at a queue: how many messages are where, and which."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from delayq import scripts
from delayq.keys import LaneKeys


@dataclass(frozen=True, slots=True)
class Stats:
    """How many messages are where, and who is active."""

    scheduled: int = 0
    ready: int = 0
    pending: int = 0
    dead: int = 0
    next_due_ms: tuple[int, ...] = ()
    """Of the first few that are scheduled."""
    holder: str | None = None


async def stats(client: Redis, keys: LaneKeys) -> Stats:
    """Count what is where. A few reads, not one snapshot.

    :raises ServerError: if the server did not answer, or refused
    """

    async def ask(*words: object) -> Any:
        return await scripts.command(client, *words)

    k = keys
    groups = await ask("XINFO GROUPS", k.stream) if await ask("EXISTS", k.stream) else []
    pending = sum(group["pending"] for group in groups)
    first = await ask("ZRANGE", k.schedule, 0, 7, "WITHSCORES")
    return Stats(
        scheduled=await ask("ZCARD", k.schedule),
        ready=max(0, await ask("XLEN", k.stream) - pending),
        pending=pending,
        dead=await ask("XLEN", k.dead),
        next_due_ms=tuple(int(due_ms) for due_ms in first[1::2]),
        holder=await ask("HGET", k.lease(), "holder"),
    )
