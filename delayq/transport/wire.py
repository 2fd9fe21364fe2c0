"""The wire: one connection that calls share, sent in order and answered in order.

redis-py takes a connection out of its pool for each call, watches it with timers, and reads it
through a stream: that takes three times as long as all else in a publish. A wire writes, and its
answer wakes whoever waits for it. Any number of calls may be under way; one that is given up leaves
its place to its answer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from delayq.clock import mono_s

ANSWER_S = 3.0
"""After how long without an answer a wire is given up: no script takes a hundredth of that."""
STUCK_S = 1.0
"""After how long without an answer a call that is given up takes its wire along."""
_ALONE = {
    *("XREAD", "XREADGROUP", "WAIT", "WAITAOF", "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP"),
    *("BZPOPMIN", "BZPOPMAX", "BZMPOP", "SELECT", "AUTH", "HELLO", "RESET", "SHUTDOWN", "MONITOR"),
    *("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"),
}
"""Commands that hold up those behind them, or change the connection for all."""
_INCOMPLETE = object()


@lru_cache
def _goes_alone(name: str) -> bool:
    return name.split(" ", 1)[0].upper() in _ALONE


class Client(Redis):
    """A client of redis-py that sends over a wire what does not block, and all else as redis-py."""

    ends_calls_within_s = ANSWER_S
    """How long a call takes at most that does not block, answered or not."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wire: Wire | None = None
        self._opening = asyncio.Lock()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See redis-py.

        :raises redis.RedisError: as it does
        """
        name = args[0]
        if _goes_alone(name) or self.single_connection_client:
            execute: Any = super().execute_command
            return await execute(*args, **options)
        words = (*name.split(), *args[1:]) if " " in name else args
        wire = self._wire
        if wire is None or wire.closed:
            answer = await self._call_anew(words)
        else:
            answer = await wire.call(words)
        if options:
            options.pop("keys", None)  # of redis-py's cache
        callbacks: Any = self.response_callbacks
        read = dict.get(callbacks, name)
        return read(answer, **options) if read else answer

    async def wire(self) -> "Wire":
        """Return the wire that calls go over now, connected.

        :raises redis.RedisError: if it cannot be
        """
        pool: Any = self.connection_pool
        # Those who wait for another's try, and then have one of their own, wait no longer than it.
        async with _ending("not connected"), self._opening:
            if self._wire and self._wire.closed:
                connection, self._wire = self._wire.connection, None
                await connection.disconnect()
                await pool.release(connection)
            if self._wire is None:
                self._wire = Wire(await pool.get_connection())
            return self._wire

    async def _call_anew(self, words: tuple[Any, ...]) -> Any:
        """Make a call over a wire that is not there yet: both take no longer than a call may."""
        async with _ending("no answer"):
            return await (await self.wire()).call(words)


@asynccontextmanager
async def _ending(said: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except TimeoutError as error:
        raise redis_errors.TimeoutError(f"{said} within {ANSWER_S} s") from error


class Wire(asyncio.Protocol):
    """Calls over a connection of redis-py, which made it, and closes it.

    :param connection: connected, with nothing under way
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.when_lost: Callable[[], None] = lambda: None
        """Called when the connection ends, as soon as this side hears of it."""
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self._transport: Any = connection._writer.transport  # noqa: SLF001 - made and closed by redis-py
        self._former = self._transport.get_protocol()
        self._answers = hiredis.Reader(
            protocolError=redis_errors.InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001
            encoding=connection.encoder.encoding,
            errors=connection.encoder.encoding_errors,
            notEnoughData=_INCOMPLETE,
        )
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        """When each call was made, in monotonic seconds, and whom its answer wakes."""
        self._watch: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls: at once where it is given up, before that is heard."""
        return self._lost or self._transport.is_closing()

    async def call(self, words: tuple[Any, ...]) -> Any:
        """Make a call, and return its answer.

        :raises redis.RedisError: if it is an error, or none came
        """
        answer = self._loop.create_future()
        try:
            self._transport.write(hiredis.pack_command(words))
        except (UnicodeEncodeError, TypeError):  # bytes that are no UTF-8, odd types
            self._transport.writelines(self.connection.pack_command(*words))
        made_s = mono_s()
        self._waiting.append((made_s, answer))
        if self._watch is None:
            self._look_after(ANSWER_S)
        try:
            return await answer
        except asyncio.CancelledError:
            if mono_s() > made_s + STUCK_S:
                self._transport.abort()
            raise

    def _look_after(self, seconds: float) -> None:
        self._watch = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """End it, if it has left a call unanswered for too long. One timer watches all calls."""
        self._watch = None
        if self._waiting:
            left_s = self._waiting[0][0] + ANSWER_S - mono_s()
            if left_s > 0:
                self._look_after(left_s)
            else:
                self._transport.abort()

    # -- what the transport calls --

    def data_received(self, data: bytes) -> None:
        """Wake those whose answers these are."""
        self._answers.feed(data)
        while (answer := self._answers.gets()) is not _INCOMPLETE:
            _, waiting = self._waiting.popleft()
            if isinstance(answer, Exception) and _demoted(answer):
                self._transport.abort()  # the next connection finds the new primary
            if waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait that no answer comes."""
        self._lost = True
        if self._watch:
            self._watch.cancel()
        while self._waiting:
            _, waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(redis_errors.ConnectionError(f"connection lost: {error}"))
        self._former.connection_lost(error)
        self.when_lost()

    def pause_writing(self) -> None:
        """Go on: what waits to be sent is bounded by who waits for answers."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""


def _demoted(error: Exception) -> bool:
    """Tell whether a server is a primary no more: so it refuses to write.

    A script's refusal, before Redis 7, has the word further inside.
    """
    return isinstance(error, redis_errors.ReadOnlyError) or "-READONLY " in str(error)
