"""A proxy that loses replies: the call was carried out, and its caller never hears of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from delayq.verify.proxy import Proxy, before


class LosingProxy(Proxy):
    """Loses each `every`-th reply to a script, and the connection with it."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every
        self._replies = 0

    def loses(self, reply: bytes) -> bool:
        if reply.startswith(b"-"):
            return False
        self._replies += 1
        return self._replies % self._every == 0


@asynccontextmanager
async def losing(behind: Path, at: Path, every: int) -> AsyncIterator[LosingProxy]:
    """Run a proxy at the socket `at`."""
    proxy = LosingProxy(every)
    async with before(f"unix://{behind}", proxy, at):
        yield proxy
