"""A proxy in front of the server: on the way through it the network fails as it is told to.

It knows no more of the protocol than redis-py's manners: a client sends one request on a connection
and waits for its reply.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import anyio

_SCRIPT = b"EVALSHA"
_PIECE_BYTES = 65_536

Way = Literal["requests", "replies"]


class Proxy:
    """The way of one process to the server before which `before` puts it."""

    latency_s = 0.0
    """How long each piece is under way."""
    piece_bytes = 0
    """Pass everything on in pieces of so many bytes; 0: as it comes."""
    drop_next = False
    """Cut the connection of the next script instead of passing it on."""
    lose_next = False
    """Have the next script carried out, and cut its connection instead of passing on the reply."""

    def __init__(self) -> None:
        self.lost = 0
        """Replies that were lost."""
        self.dropped = 0
        """Requests that were dropped."""
        self.behind: Path | tuple[str, int]
        """The server: a socket's path, or host and port."""
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

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection of a client to its end."""
        with suppress(OSError), closing(writer):
            server_reader, server_writer = await self._to_server()
            with closing(server_writer):
                connection = _Connection(self, writer, server_writer)
                async with anyio.create_task_group() as both:
                    self._connections.add(both.cancel_scope)
                    both.start_soon(connection.requests, reader, both.cancel_scope)
                    await connection.replies(server_reader, both.cancel_scope)
                self._connections.discard(both.cancel_scope)

    async def passes(self, way: Way, piece: bytes, to: StreamWriter) -> None:
        """Pass a piece on, as the network is now."""
        if self.latency_s:
            await anyio.sleep(self.latency_s)
        await self._open[way].wait()
        size = self.piece_bytes or len(piece)
        for at in range(0, len(piece), size):
            if to.is_closing():  # uvloop raises another error than that
                raise ConnectionResetError("the other end is closed")
            to.write(piece[at : at + size])
            await to.drain()

    async def _to_server(self) -> tuple[StreamReader, StreamWriter]:
        if isinstance(self.behind, Path):
            return await asyncio.open_unix_connection(self.behind)
        return await asyncio.open_connection(*self.behind)


@dataclass
class _Connection:
    """The two ways of one connection; it ends when one of them does."""

    proxy: Proxy
    client: StreamWriter
    server: StreamWriter
    script: bool = False
    """Whether the request that waits for its reply is a script."""

    async def requests(self, reader: StreamReader, both: anyio.CancelScope) -> None:
        """Pass requests on."""
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                self.script = self.script or _SCRIPT in piece
                if self.script and self.proxy.drop_next:
                    self.proxy.drop_next = False
                    self.proxy.dropped += 1
                    break
                await self.proxy.passes("requests", piece, self.server)
        both.cancel()

    async def replies(self, reader: StreamReader, both: anyio.CancelScope) -> None:
        """Pass replies on."""
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if self.script and self.proxy.loses(piece):
                    self.proxy.lost += 1
                    break
                self.script = False
                await self.proxy.passes("replies", piece, self.client)
        both.cancel()


@contextmanager
def closing(writer: StreamWriter) -> Iterator[None]:
    """Close a connection at once, whatever is still to be sent."""
    try:
        yield
    finally:
        writer.transport.abort()


def is_plain(url: str) -> bool:
    """Tell whether a proxy can stand before what a URL names: one server, and not encrypted."""
    return url.startswith(("redis://", "unix://"))


@asynccontextmanager
async def before(url: str, proxy: Proxy, path: Path) -> AsyncIterator[str]:
    """Let a proxy stand before the server at `url`; yield the URL to use instead.

    :param url: see `is_plain`
    :param path: of its socket, if the server has one
    """
    parts = urlsplit(url)
    named = parts.hostname or "localhost", parts.port or 6379
    proxy.behind = Path(parts.path) if parts.scheme == "unix" else named
    async with anyio.create_task_group() as serving:

        def connected(reader: StreamReader, writer: StreamWriter) -> None:
            serving.start_soon(proxy.serve, reader, writer)

        if parts.scheme == "unix":
            listener = await asyncio.start_unix_server(connected, path)
            through = f"unix://{parts.netloc}{path}?{parts.query}"
        else:
            listener = await asyncio.start_server(connected, "127.0.0.1")
            port = listener.sockets[0].getsockname()[1]
            login, at, _ = parts.netloc.rpartition("@")
            through = parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
        try:
            yield through
        finally:
            listener.close()
            serving.cancel_scope.cancel()
