"""Listening to the streams of many bells on few connections.

A reader waits in an `XREAD BLOCK` outside any consumer group, from the last ids heard, on a
connection of its own. It changes nothing at the server, so it may be cut, cancelled or time out; a
reader that was frozen in it wakes to no message. Bells that are armed go to a reader that is free;
when none is, the one with the fewest streams is woken, and goes on with these and the new: so what
is busy is read for apart from the many that are idle.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup
from redis.asyncio import Redis

from delayq.clock import mono_s
from delayq.errors import ServerError, ServerRefused
from delayq.scripts import command
from delayq.transport.bell import Bell

BLOCK_MS = 10_000
"""How long a blocking read waits at the server, at most."""
LONE_BLOCK_MS = 3_000
"""The same, where it goes through a client for calls, to whom a longer silence is an outage."""
READERS = 4
LONE_READERS = 64
"""Readers, where each can have but one stream. A bell beyond takes the place of another."""
_BACKOFF_S = (0.1, 1.0)
_WAKE_TRIES = 3
_WAKE_S = 0.01

Opened = AbstractAsyncContextManager[Redis]


@dataclass(eq=False, slots=True)
class _Reader:
    """One blocking read, made again and again."""

    bells: list[Bell] = field(default_factory=list)
    since: float = 0.0
    client_id: int | None = None
    """Of its connection; 0 where that is not told; None if it is to be asked."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)


class Bells:
    """The bells of one role.

    :param tasks: where the readers run
    :param client: wakes readers
    :param opened: opens a client for a reader
    :param shared: whether a reader may have many streams; a Cluster refuses those of two slots. If
        so, its client has one connection
    """

    def __init__(
        self,
        tasks: TaskGroup,
        client: Redis,
        opened: Callable[[], Opened],
        *,
        shared: bool = True,
    ) -> None:
        self._tasks = tasks
        self._client = client
        self._opened = opened
        self._shared = shared
        self._most, self._block_ms = (
            (READERS, BLOCK_MS) if shared else (LONE_READERS, LONE_BLOCK_MS)
        )
        self._armed: set[Bell] = set()
        """Bells that are read for, or wait for a reader."""
        self._new: list[Bell] = []
        """Those that no reader has had yet."""
        self._aside: list[Bell] = []
        """Those that a reader had to put aside."""
        self._readers: list[_Reader] = []
        self._free = 0
        self._more = anyio.Event()
        self._making_room = False

    def bell(self, stream: str) -> Bell:
        """Return a bell that rings when something is added to `stream`."""
        return Bell(stream, self._arm)

    def let_go(self, *bells: Bell) -> None:
        """Listen no more for bells that nobody will wait for again."""
        self._armed.difference_update(bells)
        self._new = [bell for bell in self._new if bell in self._armed]
        self._aside = [bell for bell in self._aside if bell in self._armed]

    def begin_anew(self) -> None:
        """Read everything anew: a server that vanished does not end the reads that it left open."""
        for reader in self._readers:
            reader.scope.cancel()

    def _arm(self, bell: Bell) -> None:
        if bell in self._armed:
            return
        self._armed.add(bell)
        self._new.append(bell)
        if self._free:
            self._more.set()
            self._more = anyio.Event()
        elif len(self._readers) < self._most:
            self._readers.append(_Reader())
            self._tasks.start_soon(self._listen, self._readers[-1])
        elif not self._making_room:
            self._making_room = True
            self._tasks.start_soon(self._make_room)

    async def _listen(self, reader: _Reader) -> None:
        """Listen for ever. An outage rings: things may have changed."""
        backoff_s, longest_s = _BACKOFF_S
        async with self._opened() as client:
            while True:
                await self._take(reader)
                try:
                    self._rung(reader, await self._read(client, reader))
                    backoff_s = _BACKOFF_S[0]
                except ServerError:
                    reader.client_id = None
                    await anyio.sleep(backoff_s)
                    backoff_s = min(longest_s, backoff_s * 2)
                    self._rung(reader, None)
                reader.over.set()

    async def _take(self, reader: _Reader) -> None:
        """Wait for bells to listen to, and take them."""
        while not (self._new or self._aside):
            self._free += 1
            await self._more.wait()
            self._free -= 1
        count = len(self._new) + len(self._aside) if self._shared else 1
        reader.bells = [*self._new, *self._aside][:count]
        self._aside = self._aside[max(0, count - len(self._new)) :]
        self._new = self._new[count:]
        reader.over, reader.scope, reader.since = anyio.Event(), anyio.CancelScope(), mono_s()

    async def _read(self, client: Redis, reader: _Reader) -> dict[str, str]:
        """Return, for each stream that something was added to, the id of the first of it."""
        with reader.scope:
            if reader.client_id is None:
                reader.client_id = await _client_id(client) if self._shared else 0
            streams, heard = zip(*[(bell.stream, bell.heard) for bell in reader.bells], strict=True)
            read = ("XREAD", "COUNT", 1, "BLOCK", self._block_ms, "STREAMS", *streams, *heard)
            answer = await command(client, *read)
            return {stream: str(entries[-1][0]) for stream, entries in answer or ()}
        reader.client_id = None  # cut short: that connection is closed
        return {}

    def _rung(self, reader: _Reader, heard: dict[str, str] | None) -> None:
        """Ring those that heard something, or all; the others go on waiting."""
        for bell in reader.bells:
            if heard is None or bell.stream in heard:
                self._armed.discard(bell)
                bell.ring((heard or {}).get(bell.stream))
            elif bell in self._armed:
                self._aside.append(bell)
        reader.bells = []

    async def _make_room(self) -> None:
        """Wake the reader that has least to read anew, and longest, until all are listened to."""
        while self._new:
            busy = [reader for reader in self._readers if reader.bells]
            if not busy:
                break  # they are about to take these
            await self._wake(min(busy, key=lambda reader: (len(reader.bells), reader.since)))
        self._making_room = False

    async def _wake(self, reader: _Reader) -> None:
        over = reader.over
        for _ in range(_WAKE_TRIES if reader.client_id else 0):
            with suppress(ServerError):
                await command(self._client, "CLIENT UNBLOCK", reader.client_id)
            with anyio.move_on_after(_WAKE_S):
                await over.wait()
                return
        reader.scope.cancel()
        await over.wait()


async def _client_id(client: Redis) -> int:
    try:
        return int(await command(client, "CLIENT ID"))
    except ServerRefused:
        return 0
