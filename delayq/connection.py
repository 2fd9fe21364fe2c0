"""How a role connects to the server, and how a call is repeated through an outage."""

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from redis.asyncio import Redis

from delayq.clock import mono_s, real_ms
from delayq.errors import InvalidSettings, ServerError, ServerUnreachable, ungrouped
from delayq.events import Observer, Recovered, Unreachable, unobserved
from delayq.scripts import command
from delayq.transport.address import Address, Host, parsed
from delayq.transport.anchor import Anchor
from delayq.transport.bells import BLOCK_MS, Bells
from delayq.transport.client import blocking, node_of, opened
from delayq.transport.link import Link
from delayq.transport.roaming import RoamingAnchor

READ_S = BLOCK_MS / 1000 + 5
"""How long the answer to a blocking read may take, before the server counts as away."""
UNCUT_S = 2.0
_QUERY = re.compile(r"(?<=password=)[^&]+")
_BACKOFF_S = (0.02, 1.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is. Each link dies with who opened it: a role alone, or a whole process.

    :raises InvalidSettings: if the URL cannot be understood
    """

    url: str

    def __post_init__(self) -> None:
        try:
            parsed(self.url)
        except ValueError as error:
            raise InvalidSettings(str(error)) from error

    @asynccontextmanager
    async def client(
        self, name: str = "delayq", *, one_connection: bool = False
    ) -> AsyncIterator[Redis]:
        """Open a client whose connections bear `name` in `CLIENT LIST`. See `transport.client`."""
        async with opened(parsed(self.url), name, one_connection=one_connection) as client:
            yield client

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[Link]:
        """Open what a role talks through. Nothing connects before it is used."""
        address = parsed(self.url)
        linked = _linked_to_cluster if address.form == "cluster" else _linked
        with ungrouped():
            async with opened(address, name) as client, anyio.create_task_group() as tasks:
                async with linked(address, name, client, tasks) as link:
                    yield link
                tasks.cancel_scope.cancel()

    def blocking_client(self) -> Any:
        """Return a client that is not async, for a thread: short waits, no retries."""
        return blocking(parsed(self.url), self.url)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return re.sub(r"(?<=//)([^:/?#]*):.*(?=@)", r"\1:***", re.sub(_QUERY, "***", self.url))


@dataclass(frozen=True, slots=True)
class Lent(Server):
    """A server whose roles share one link, that of their process: they die with it."""

    lent: Link

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[Link]:  # noqa: ARG002 - all have one
        """Return the link that was lent."""
        yield self.lent


@asynccontextmanager
async def _linked(
    address: Address, name: str, client: Redis, tasks: TaskGroup
) -> AsyncIterator[Link]:
    reader = partial(opened, address, name, one_connection=True, timeout_s=READ_S)
    bells = Bells(tasks, client, reader)
    async with opened(address, name) as anchored:
        named = address.form == "sentinel"
        yield Link(client, Anchor(anchored, named=named, recovered=bells.begin_anew), bells)


@asynccontextmanager
async def _linked_to_cluster(
    address: Address, name: str, client: Redis, tasks: TaskGroup
) -> AsyncIterator[Link]:
    def to_node(host: Host) -> AbstractAsyncContextManager[Redis]:
        return opened(node_of(address, host), name)

    bells = Bells(tasks, client, lambda: nullcontext(client), shared=False)
    async with AsyncExitStack() as asking:
        anchor = RoamingAnchor(tasks, client, to_node, asking, bells.begin_anew)
        yield Link(client, anchor, bells)


async def clock_offset_ms(client: Any) -> float:
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
