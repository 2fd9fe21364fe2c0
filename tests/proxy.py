"""A proxy that loses replies: the call was carried out, and its caller never hears of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio.abc import SocketStream

CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class LosingProxy:
    """Loses each `every`-th reply to a script, and the connection with it."""

    def __init__(self, behind: Path, every: int) -> None:
        self.lost = 0
        self._behind = behind
        self._every = every
        self._replies = 0

    async def serve(self, client: SocketStream) -> None:
        """Serve one connection: redis-py sends one request at a time, and waits for its reply."""
        with suppress(*CLOSED):
            async with client, await anyio.connect_unix(self._behind) as server:
                while True:
                    request = await client.receive()
                    await server.send(request)
                    reply = await server.receive()
                    if b"EVALSHA" in request and not reply.startswith(b"-") and self._loses():
                        return
                    await client.send(reply)

    def _loses(self) -> bool:
        self._replies += 1
        loses = self._replies % self._every == 0
        self.lost += loses
        return loses


@asynccontextmanager
async def losing(behind: Path, at: Path, every: int) -> AsyncIterator[LosingProxy]:
    """Run a proxy at the socket `at`."""
    proxy = LosingProxy(behind, every)
    listener = await anyio.create_unix_listener(at)
    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, proxy.serve)
        yield proxy
        serving.cancel_scope.cancel()
