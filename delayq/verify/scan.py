"""What is left in Redis."""

from collections.abc import AsyncIterator
from typing import Any

from delayq.keys import GROUP
from delayq.verify.history import Found

PAGE = 512
_ENDED = -2
"""What PTTL answers of a key that is not there: it ended by itself while it was read."""


async def scan(client: Any, namespace: str) -> AsyncIterator[Found]:
    """Read every key of a namespace, but audits, with what is in it.

    :param client: a redis.asyncio.Redis that answers in text
    """
    async for key in client.scan_iter(f"{namespace}:*", count=PAGE):
        if key.endswith("}:audit"):
            continue
        kind = await client.type(key)
        pending: dict[str, tuple[str, int]] = {}
        consumers: tuple[str, ...] = ()
        if kind == "stream" and key.endswith("}:stream"):
            pending, consumers = await _group(client, key)
        content = await _content(client, key, kind)
        left_ms = await client.pttl(key)
        if left_ms != _ENDED:
            yield Found(key, kind, content, pending, consumers, left_ms >= 0)


async def _content(client: Any, key: str, kind: str) -> Any:
    match kind:
        case "stream":
            return [row async for row in _entries(client, key)]
        case "zset":
            return dict(await client.zrange(key, 0, -1, withscores=True))
        case "hash":
            return await client.hgetall(key)
        case "string":
            return await client.get(key)
    return None  # none of ours


async def _entries(client: Any, key: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    rows: Any = await client.xrange(key, "-", "+", PAGE)
    while rows:
        for row in rows:
            yield row
        rows = await client.xrange(key, f"({rows[-1][0]}", "+", PAGE)


async def _group(client: Any, key: str) -> tuple[dict[str, tuple[str, int]], tuple[str, ...]]:
    if GROUP not in {group["name"] for group in await client.xinfo_groups(key)}:
        return {}, ()
    consumers = tuple(row["name"] for row in await client.xinfo_consumers(key, GROUP))
    pending: dict[str, tuple[str, int]] = {}
    rows: Any = await client.xpending_range(key, GROUP, "-", "+", PAGE)
    while rows:
        for row in rows:
            pending[row["message_id"]] = row["consumer"], row["times_delivered"]
        rows = await client.xpending_range(key, GROUP, f"({rows[-1]['message_id']}", "+", PAGE)
    return pending, consumers
