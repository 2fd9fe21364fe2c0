"""A proxy in front of the server: on the way through it the network fails as it is told to.

It knows no more of the protocol than redis-py's manners: a client sends one request on a connection
and waits for its reply.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream

_CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_SCRIPT = b"EVALSHA"

Way = Literal["requests", "replies"]


class Proxy:
    """The way of one process to the server at `behind`: a socket's path, or host and port."""

    latency_s = 0.0
    """How long each piece is under way."""
    piece_bytes = 0
    """Pass everything on in pieces of so many bytes; 0: as it comes."""
    drop_next = False
    """Cut the connection of the next script instead of passing it on."""
    lose_next = False
    """Have the next script carried out, and cut its connection instead of passing on the reply."""

    def __init__(self, behind: Path | tuple[str, int]) -> None:
        self.lost = 0
        """Replies that were lost."""
        self.dropped = 0
        """Requests that were dropped."""
        self._behind = behind
        self._open = {"requests": anyio.Event(), "replies": anyio.Event()}
        self._connections: set[anyio.CancelScope] = set()
        self.heal()

    def hold(self, *ways: Way) -> None:
        """Keep what goes these ways until it is healed, as a network does that repeats for long."""
        for way in ways:
            self._open[way] = anyio.Event()

    def heal(self) -> None:
        """Be a good network again; what was held arrives, late."""
        self.latency_s, self.piece_bytes = 0.0, 0
        self.drop_next = self.lose_next = False
        for event in self._open.values():
            event.set()

    def reset(self) -> None:
        """Cut all connections."""
        for connection in list(self._connections):
            connection.cancel()

    def loses(self, reply: bytes) -> bool:
        """Tell whether the reply to a script is to be lost."""
        loses, self.lose_next = self.lose_next and not reply.startswith(b"-"), False
        return loses

    async def serve(self, client: SocketStream) -> None:
        """Serve one connection to its end."""
        with suppress(*_CLOSED):
            async with client, await self._to_server() as server:
                connection = _Connection(self, client, server)
                async with anyio.create_task_group() as both:
                    self._connections.add(both.cancel_scope)
                    try:
                        both.start_soon(connection.requests, both.cancel_scope)
                        await connection.replies(both.cancel_scope)
                    finally:
                        self._connections.discard(both.cancel_scope)

    async def passes(self, way: Way, piece: bytes, to: SocketStream) -> None:
        """Pass a piece on, as the network is now."""
        if self.latency_s:
            await anyio.sleep(self.latency_s)
        await self._open[way].wait()
        size = self.piece_bytes or len(piece)
        for at in range(0, len(piece), size):
            await to.send(piece[at : at + size])

    async def _to_server(self) -> SocketStream:
        if isinstance(self._behind, Path):
            return await anyio.connect_unix(self._behind)
        return await anyio.connect_tcp(*self._behind)


@dataclass
class _Connection:
    """The two ways of one connection; it ends when one of them does."""

    proxy: Proxy
    client: SocketStream
    server: SocketStream
    script: bool = False
    """Whether the request that waits for its reply is a script."""

    async def requests(self, both: anyio.CancelScope) -> None:
        """Pass requests on."""
        with suppress(*_CLOSED):
            while True:
                piece = await self.client.receive()
                self.script = self.script or _SCRIPT in piece
                if self.script and self.proxy.drop_next:
                    self.proxy.drop_next = False
                    self.proxy.dropped += 1
                    break
                await self.proxy.passes("requests", piece, self.server)
        both.cancel()

    async def replies(self, both: anyio.CancelScope) -> None:
        """Pass replies on."""
        with suppress(*_CLOSED):
            while True:
                piece = await self.server.receive()
                if self.script and self.proxy.loses(piece):
                    self.proxy.lost += 1
                    break
                self.script = False
                await self.proxy.passes("replies", piece, self.client)
        both.cancel()


def behind(url: str) -> Path | tuple[str, int]:
    """Return the address that a URL names.

    :raises ValueError: if what goes there is encrypted, so that no proxy may stand between
    """
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        raise ValueError("network: no proxy can stand before rediss://")
    if parts.scheme == "unix":
        return Path(parts.path)
    return parts.hostname or "localhost", parts.port or 6379


@asynccontextmanager
async def before(url: str, proxy: Proxy, path: Path) -> AsyncIterator[str]:
    """Let a proxy stand before the server at `url`; yield the URL to use instead.

    :param path: of its socket, if the server has one
    """
    parts = urlsplit(url)
    listener: SocketListener
    if parts.scheme == "unix":
        listener = await anyio.create_unix_listener(path)
        through = f"unix://{parts.netloc}{path}?{parts.query}"
    else:
        [listener] = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners
        port = listener.extra(SocketAttribute.local_port)
        login, at, _ = parts.netloc.rpartition("@")
        through = parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, proxy.serve)
        yield through
        serving.cancel_scope.cancel()
