"""The sign of life: a connection that ends with its process, and tells whose others have ended.

A role has one connection that carries its leases and nothing else. When the process dies the
server closes it, and whoever stands by, asking for its `CLIENT ID`, learns that at once.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.clock import mono_s
from delayq.errors import ServerRefused, ServerUnreachable
from delayq.transport.wire import Wire

T = TypeVar("T")

UNKNOWN = "0"
"""The identity of a connection where `CLIENT` is not permitted: then expiry alone decides."""
PATIENCE_S = 2.0
"""How long after an outage a connection that is gone proves nothing: twice what a holder needs."""
LOOK_S = 0.1
"""For how long one look at the server's connections answers all who ask."""
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
    """One connection that leases name, and are kept by: the wire of a client.

    :param client: for this alone
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
        self._client: Any = client
        self._recovered = recovered
        self._unanswered = False
        self._server = ""
        """What an identity begins with."""
        self._is_named = named
        self._identity = UNKNOWN
        self._wire: Wire | None = None
        """The connection of that identity."""
        self.lost: set[Callable[[], None]] = set()
        """Called when that ends: who holds a lease is to name the new one, before others look."""
        self._one = anyio.Lock()
        self.lookout = Lookout(partial(connected, self.command))

    async def identity(self) -> str:
        """Tell by what a lease names this connection. It changes where the connection does.

        The server is asked only if the connection is a new one.

        :raises ServerError: if the server did not answer
        """
        async with self._one:
            if self._wire is None or self._wire.closed:
                await self.ask()
        return self._identity

    async def ask(self) -> None:
        """Ask the server which connection this is.

        :raises ServerError: if the server did not answer
        """
        wire = await self._called(partial(scripts.wire, self._client))
        wire.when_lost = self._ended
        try:
            client_id = await self.command("CLIENT ID")
        except ServerRefused:
            self._identity = UNKNOWN
        else:
            at = wire.connection
            self._server = f"{at.host}:{at.port}/" if self._is_named else ""
            self._identity = f"{self._server}{client_id}"
        # Over by now, it is asked anew: the answer may be of the next one.
        self._wire = wire

    async def gone(self, identities: Collection[str]) -> set[str]:
        """Tell which connections are proved to be closed: none of those to another server.

        :raises ServerError: if the server did not answer
        """
        await self.identity()
        here = self._server
        asked = {each.removeprefix(here) for each in identities if each.startswith(here)}
        return {f"{here}{client_id}" for client_id in await self.lookout.gone(asked)}

    async def command(self, *words: object) -> Any:
        """Run one command of a lease.

        :raises ServerError: if the server did not answer, or refused
        """
        return await self._called(lambda: scripts.command(self._client, *words))

    async def run(self, name: str, keys: list[str], args: Sequence[object]) -> Any:
        """Run one script of a lease.

        :raises ServerError: if the server did not answer, or refused
        """
        return await self._called(lambda: scripts.run(self._client, name, keys, args))

    async def _called(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await call()
        except ServerUnreachable:
            self._mistrust()
            raise
        if self._unanswered:
            self._unanswered = False
            self._recovered()
        return answer

    def _ended(self) -> None:
        self._mistrust()
        self._tell()

    def _tell(self) -> None:
        for tell in list(self.lost):
            tell()

    def _mistrust(self) -> None:
        # Others' connections may have ended, too, as where the server began anew.
        self.lookout.mistrust()
        self._unanswered = True
