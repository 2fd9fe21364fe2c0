"""The sign of life: a connection that dies with its process, and which of the others' have.

A role has one connection that carries its leases and nothing else. When the process dies the
server closes it, and whoever stands by, asking for its `CLIENT ID`, learns that at once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from delayq import scripts
from delayq.clock import mono_s
from delayq.errors import ServerRefused, ServerUnreachable

UNKNOWN = "0"
"""The identity of a connection where `CLIENT` is not permitted: then expiry alone decides."""
PATIENCE_S = 2.0
"""How long after an outage a connection that is gone proves nothing: twice what a holder needs."""
LOOK_S = 0.1
"""For how long one look at the server's connections answers all who ask."""
LATE_S = 0.5
"""How long an answer is waited for that nobody wants any more."""
_FORGET_S = 2.0
_CLIENT_ID = re.compile(r"[1-9][0-9]{0,17}")


async def connected(command: Callable[..., Awaitable[Any]], ids: list[str]) -> set[str]:
    """Return which of these client ids are connected.

    :param command: runs one at the server that gave them
    """
    return {str(client["id"]) for client in await command("CLIENT LIST", "ID", *ids)}


class Lookout:
    """Tells which connections to one server are closed; many who ask are answered by one call.

    :param listed: given client ids, returns those that are connected
    """

    def __init__(self, listed: Callable[[list[str]], Awaitable[Collection[str]]]) -> None:
        self._listed = listed
        self._one = anyio.Lock()
        self._asked: dict[str, float] = {}
        """Client ids, and when somebody last asked for each."""
        self._seen: set[str] = set()
        self._gone: set[str] = set()
        self._seen_at = 0.0
        self._patient_until = 0.0

    async def gone(self, ids: Collection[str]) -> set[str]:
        """Tell which of the connections are closed. Where `CLIENT` is not permitted: none.

        None, too, shortly after an outage: then every connection is a new one, and its owner needs
        a moment to name it.

        :raises ServerError: if the server did not answer
        """
        asked = {each for each in ids if _CLIENT_ID.fullmatch(each)}
        if not asked:
            return set()
        self._asked |= dict.fromkeys(asked, mono_s())
        async with self._one:
            if not asked <= self._seen or mono_s() >= self._seen_at + LOOK_S:
                await self._look(asked)
        return set() if self.mistrusted else asked & self._gone

    @property
    def mistrusted(self) -> bool:
        """Whether an outage was so shortly ago that a closed connection proves nothing."""
        return mono_s() < self._patient_until

    def mistrust(self) -> None:
        """Hear of an outage."""
        self._patient_until = mono_s() + PATIENCE_S

    async def _look(self, asked: set[str]) -> None:
        now_s = mono_s()
        self._asked = {each: at for each, at in self._asked.items() if at > now_s - _FORGET_S}
        seen = asked.union(self._asked)
        try:
            self._gone = seen.difference(await self._listed(list(seen)))
        except ServerRefused:
            self._gone = set()
        except ServerUnreachable:
            self.mistrust()
            raise
        self._seen, self._seen_at = seen, now_s


class Anchor:
    """One connection that leases name, and are kept by.

    :param client: of one connection
    :param named: whether an identity names the server as well, since it may become another one
    :param recovered: called when a call is answered after one that was not
    """

    def __init__(
        self,
        client: Redis,
        *,
        named: bool = False,
        recovered: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._recovered = recovered
        self._unanswered = False
        self._server = ""
        """What an identity begins with."""
        self._is_named = named
        self._identity = UNKNOWN
        self._doubtful = True
        """Whether the connection may be another one than that."""
        self.doubted: set[Callable[[], None]] = set()
        """Called when it may be: who holds a lease is to name the new one, before others look."""
        self._one = anyio.Lock()
        self._under_way = 0
        self._lookout = Lookout(partial(connected, self.command))

    async def identity(self) -> str:
        """Tell by what a lease names this connection. It changes where the connection does.

        The server is asked only where this side has a reason to doubt it.

        :raises ServerError: if the server did not answer
        """
        async with self._one:
            if self._doubtful or await self._cut():
                await self.ask()
        return self._identity

    async def ask(self) -> None:
        """Ask the server which connection this is.

        :raises ServerError: if the server did not answer
        """
        try:
            client_id = await self.command("CLIENT ID")
        except ServerRefused:
            self._identity = UNKNOWN
        else:
            at: Any = self._client.connection
            self._server = f"{at.host}:{at.port}/" if self._is_named else ""
            self._identity = f"{self._server}{client_id}"
        self._doubtful = False

    async def gone(self, identities: Collection[str]) -> set[str]:
        """Tell which connections are proved to be closed: none of those to another server.

        :raises ServerError: if the server did not answer
        """
        await self.identity()
        here = self._server
        asked = {each.removeprefix(here) for each in identities if each.startswith(here)}
        return {f"{here}{client_id}" for client_id in await self._lookout.gone(asked)}

    async def command(self, *words: object) -> Any:
        """Run one command of a lease.

        :raises ServerError: if the server did not answer, or refused
        """
        return await self._whole(lambda: scripts.command(self._client, *words))

    async def run(self, name: str, keys: list[str], args: Sequence[object]) -> Any:
        """Run one script of a lease.

        :raises ServerError: if the server did not answer, or refused
        """
        return await self._whole(lambda: scripts.run(self._client, name, keys, args))

    async def _whole(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call that is answered though its caller is cancelled, as when one term ends.

        redis-py closes the connection of a call that is cut short; others would see it gone, and
        take over every lease that names it.
        """
        calling = asyncio.ensure_future(self._made(call))
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            with anyio.move_on_after(LATE_S, shield=True):
                await asyncio.wait([calling])
            if not calling.cancel():
                calling.exception()  # for nobody
            raise

    async def _made(self, call: Callable[[], Awaitable[Any]]) -> Any:
        with self._calling():
            return await call()

    async def _cut(self) -> bool:
        """Tell whether the connection was closed, as far as this side has heard."""
        if self._under_way:
            return False  # that call will tell
        connection = self._client.connection
        try:
            # There is nothing to be read on it, between two calls, but its end.
            return connection is None or await connection.can_read()
        except RedisError:
            return True

    def _doubt(self) -> None:
        if not self._doubtful:
            self._doubtful = True
            for tell in list(self.doubted):
                tell()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        except ServerUnreachable:
            self._lookout.mistrust()
            self._unanswered = True
            self._doubt()
            raise
        except anyio.get_cancelled_exc_class():
            self._doubt()  # redis-py closes the connection of a call that is cut short
            raise
        finally:
            self._under_way -= 1
        if self._unanswered:
            self._unanswered = False
            self._recovered()
