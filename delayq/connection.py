"""From a URL to clients, each with the rules of this house; and how to outlast an outage."""

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import anyio
import hiredis
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry as BlockingRetry

from delayq.anchor import Anchor
from delayq.bells import BLOCK_MS, Bells
from delayq.clock import mono_s, real_ms
from delayq.errors import (
    ServerError,
    ServerReadOnly,
    ServerRefused,
    ServerTooOld,
    ServerUnreachable,
    ungrouped,
)
from delayq.events import Observer, Recovered, Unreachable, unobserved
from delayq.link import Link
from delayq.scripts import command
from delayq.wire import Client

SCHEMES = ("redis://", "rediss://", "unix://")
OLDEST_VERSION = (6, 2)
UNCUT_S = 2.0
_QUERY = re.compile(r"(?<=password=)[^&]+")
_BACKOFF_S = (0.02, 1.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is. Every role opens a link of its own, so that it dies with it alone.

    :raises ValueError: if the URL cannot be understood
    """

    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(SCHEMES):
            raise ValueError(f"it starts with {', '.join(SCHEMES)}")
        parse_url(self.url)

    @asynccontextmanager
    async def client(
        self, name: str = "delayq", *, one_connection: bool = False
    ) -> AsyncIterator[Redis]:
        """Open a client whose connections bear `name` in `CLIENT LIST`.

        redis-py's own retries are off: one lost reply would repeat a command that is not safe to
        repeat. Bytes that are no UTF-8 pass through unharmed, as lone surrogates.
        """
        client = Client.from_url(
            self.url,
            single_connection_client=one_connection,
            protocol=2,
            redis_connect_func=_introduced_as(name),
            decode_responses=True,
            encoding_errors="surrogateescape",
            retry=Retry(NoBackoff(), 0),
            socket_timeout=BLOCK_MS / 1000 + 5,
            socket_connect_timeout=5,
        )
        pool = client.connection_pool
        pool.connection_class = _quick(cast("Any", pool.connection_class))
        try:
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[Link]:
        """Open what a role talks through. Nothing connects before it is used."""
        with ungrouped():
            async with (
                self.client(name) as client,
                self.client(name, one_connection=True) as anchor,
                anyio.create_task_group() as tasks,
            ):
                bells = Bells(tasks, client, lambda: self.client(name, one_connection=True))
                yield Link(client, Anchor(anchor), bells)
                tasks.cancel_scope.cancel()

    def blocking_client(self) -> Any:
        """Return a client that is not async, for a thread: short waits, no retries."""
        return BlockingRedis.from_url(
            self.url,
            protocol=2,
            decode_responses=True,
            retry=BlockingRetry(NoBackoff(), 0),
            socket_timeout=1,
            socket_connect_timeout=1,
        )

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return re.sub(r"(?<=//)([^:/?#]*):.*(?=@)", r"\1:***", re.sub(_QUERY, "***", self.url))


@cache
def _quick(kind: type[Any]) -> type[Any]:
    """Return redis-py's class of connections, less what it pays for each argument and each send.

    It packs arguments one by one in Python, which for a batch costs more than all else, where
    hiredis packs them together; and it watches each send with a task and a timer, where nearly
    always the socket takes all at once, and only the reply is waited for.
    """

    class Quick(kind):  # type: ignore[misc]
        def pack_command(self, *args: Any) -> Any:
            words = (*args[0].split(), *args[1:]) if isinstance(args[0], str) else args
            try:
                return [hiredis.pack_command(words)]
            except (UnicodeEncodeError, TypeError):  # bytes that are no UTF-8, odd types
                return super().pack_command(*args)

        async def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
            writer = self._writer
            if isinstance(command, list) and self.is_connected and not writer.is_closing():
                writer.writelines(command)
                command = b""
                if not writer.transport.get_write_buffer_size():
                    return
            await super().send_packed_command(command, *args, **options)

    return Quick


def _introduced_as(name: str) -> Callable[[Any], Awaitable[None]]:
    """Give each connection a name, where the user may: redis-py fails where they may not."""

    async def connect(connection: Any) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "SETNAME", name)
        with suppress(ResponseError):
            await connection.read_response()

    return connect


async def check(server: Server) -> list[str]:
    """Look whether the server will do, and return warnings about its settings.

    :raises ServerUnreachable: if there is no answer
    :raises ServerRefused: if the name or the password is wrong, or TLS fails
    :raises ServerReadOnly: if it is a replica
    :raises ServerTooOld: if it is older than Redis 6.2
    """
    async with server.client() as client:
        try:
            await command(client, "PING")
        except ServerError as error:
            raise type(error)(f"{server.shown}: {error}") from error
        try:
            about = await command(client, "INFO")
        except ServerRefused:
            return ["INFO is not permitted to this user: version and settings were not checked"]
    version = tuple(int(part) for part in about["redis_version"].split(".")[:2])
    if version < OLDEST_VERSION:
        raise ServerTooOld(
            f"{server.shown}: Redis {about['redis_version']} is too old: "
            "6.2 or newer, or Valkey, is needed"
        )
    if about.get("role") == "slave":
        raise ServerReadOnly(f"{server.shown}: this is a read-only replica: give the primary's URL")
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return [f"maxmemory-policy is {policy}: messages may be evicted; set it to noeviction"]
    return []


async def clock_offset_ms(client: Redis) -> float:
    """Return by how much the server's clock is ahead of this host's: the best of a few tries.

    :raises ServerError: if the server did not answer, or refused
    """
    tries: list[tuple[float, float]] = []
    for _ in range(5):
        sent_ms = real_ms()
        seconds, micros = await command(client, "TIME")
        took_ms = real_ms() - sent_ms
        tries.append((took_ms, seconds * 1000 + micros / 1000 - sent_ms - took_ms / 2))
    return min(tries)[1]


async def uncut(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that a cancellation may not cut, as its answer must not be missed.

    :raises ServerUnreachable: if there is no answer in time
    """
    with anyio.move_on_after(UNCUT_S, shield=True):
        return await call()
    raise ServerUnreachable(f"no answer within {UNCUT_S} s")


async def outlast(
    call: Callable[[], Awaitable[T]],
    role: str = "",
    observe: Observer = unobserved,
    errors: tuple[type[ServerError], ...] = (ServerUnreachable,),
) -> T:
    """Repeat `call` while it meets one of `errors`, with backoff and jitter; return its answer.

    Only for what is safe to repeat. Has no end of its own: put it in a cancel scope.
    """
    delay_s, longest_s = _BACKOFF_S
    since: float | None = None
    while True:
        try:
            answer = await call()
        except errors as error:
            if since is None:
                since = mono_s()
                observe(Unreachable(role, str(error)))
            await anyio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            delay_s = min(longest_s, delay_s * 2)
        else:
            if since is not None:
                observe(Recovered(role, round((mono_s() - since) * 1000)))
            return answer
