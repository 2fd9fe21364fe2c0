"""The raw loops: the fastest that redis-py does, with no promise kept but delivery.

What a queue adds to these (ids, due times, order, fencing, retries) is what a ratio shows.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from delayq.scripts import translated

BATCH = 500
"""Messages in one call."""
PUBLISHERS = 100
_GROUP = "raw"
_ID_CHARS = 16
_PUBLISH = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'body', ARGV[i]) end"
_MOVE = f"""
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, {BATCH})
for i = 1, #due do redis.call('XADD', KEYS[1], '*', 'body', string.sub(due[i], {_ID_CHARS + 1})) end
if #due > 0 then redis.call('ZREM', KEYS[2], unpack(due)) end
return #due
"""

Bodies = Sequence[dict[str, Any]]


class Raw:
    """A stream and a schedule in the plainest form."""

    def __init__(self, client: Redis, name: str) -> None:
        self._client = client
        self._stream, self._schedule = f"{name}:stream", f"{name}:schedule"
        self._publish: AsyncScript = client.register_script(_PUBLISH)
        self._move: AsyncScript = client.register_script(_MOVE)

    async def publish_each(self, bodies: Bodies) -> None:
        """XADD, one after the other."""
        for body in bodies:
            await self._client.xadd(self._stream, {"body": written(body)})

    async def publish_at_once(self, bodies: Bodies) -> None:
        """XADD by many publishers at the same time."""
        async with anyio.create_task_group() as publishers:
            for first in range(PUBLISHERS):
                publishers.start_soon(self.publish_each, bodies[first::PUBLISHERS])

    async def publish_in_bulk(self, bodies: Bodies) -> None:
        """XADD of many by one EVALSHA."""
        for at in range(0, len(bodies), BATCH):
            batch = [written(body) for body in bodies[at : at + BATCH]]
            await self._publish(keys=[self._stream], args=batch)

    async def drain(self, count: int, handler: Callable[[Any], Awaitable[None]]) -> None:
        """XREADGROUP, decode, handle, XACK and XDEL, until `count` are handled."""
        await self._client.xgroup_create(self._stream, _GROUP, "0", mkstream=True)
        while count > 0:
            answer: Any = await self._client.xreadgroup(
                _GROUP, "consumer", {self._stream: ">"}, count=BATCH
            )
            entries = answer[0][1]
            for _, fields in entries:
                await handler(json.loads(fields[b"body"]))
            count -= await self._settle([entry for entry, _ in entries])

    async def drain_at_once(
        self, count: int, handler: Callable[[Any], Awaitable[None]], at_once: int
    ) -> None:
        """Do the same with many handled at once, each batch acknowledged beside the next."""
        await self._client.xgroup_create(self._stream, _GROUP, "0", mkstream=True)
        line: asyncio.Queue[tuple[str, dict[bytes, bytes]]] = asyncio.Queue(BATCH)
        handled: list[str] = []

        async def handle() -> None:
            while True:
                entry, fields = await line.get()
                await handler(json.loads(fields[b"body"]))
                handled.append(entry)

        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(handle)
            while count > 0:
                answer: Any = await self._client.xreadgroup(
                    _GROUP, "consumer", {self._stream: ">"}, count=BATCH
                )
                for delivered in answer[0][1] if answer else ():
                    await line.put(delivered)
                settled = handled[:]
                handled.clear()
                count -= await self._settle(settled)
            tasks.cancel_scope.cancel()

    async def _settle(self, entries: Sequence[str]) -> int:
        if entries:
            settling = self._client.pipeline(transaction=False)
            settling.xack(self._stream, _GROUP, *entries)
            settling.xdel(self._stream, *entries)
            await settling.execute()
        return len(entries)

    async def schedule(self, bodies: Bodies, due_ms: float) -> None:
        """ZADD of many by one call, id and body as the member."""
        for at in range(0, len(bodies), BATCH):
            batch = bodies[at : at + BATCH]
            members = {f"{body['n']:0{_ID_CHARS}d}{written(body)}": due_ms for body in batch}
            await self._client.zadd(self._schedule, members)

    async def move(self, now_ms: float) -> int:
        """Move what is due from the schedule to the stream; tell how many there were."""
        moved, count = BATCH, 0
        while moved == BATCH:
            moved = await self._move(keys=[self._stream, self._schedule], args=[int(now_ms)])
            count += moved
        return count

    async def clear(self) -> None:
        """Delete both keys."""
        await self._client.unlink(self._stream, self._schedule)


@asynccontextmanager
async def opened(url: str, name: str) -> AsyncIterator[Raw]:
    """Open a client as redis-py gives it, for keys that begin with `name`; they are deleted."""
    client = Redis.from_url(url, protocol=2)
    try:
        raw = Raw(client, name)
        try:
            yield raw
        except RedisError as error:
            raise translated(error) from error
        finally:
            with anyio.move_on_after(10, shield=True):
                await raw.clear()
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


def written(body: object) -> str:
    """Write a body as short as can be."""
    return json.dumps(body, separators=(",", ":"))
