"""A server of a run's own, which may be killed, frozen, and started again on the same data."""

import os
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Literal

from delayq import scripts
from delayq.connection import Server
from delayq.embedded import embedded

Fsync = Literal["always", "everysec", "none"]


class OwnServer:
    """The embedded server, on a folder.

    :param fsync: when the append-only file is flushed to disk; none: there is no such file
    :param program: instead of the embedded one
    """

    def __init__(self, folder: Path, fsync: Fsync, program: Path | None) -> None:
        self.url = ""
        self._folder = folder
        self._program = str(program) if program else None
        flush = ("--appendonly", "yes", "--appendfsync", fsync)
        self._options = ("--appendonly", "no") if fsync == "none" else flush
        self._running = AsyncExitStack()
        self._pid = 0

    async def start(self) -> None:
        """Start the server.

        :raises ServerError: if it does not start
        """
        opening = embedded(self._folder, self._options, self._program)
        self.url = await self._running.enter_async_context(opening)
        async with Server(self.url).client() as client:
            about = await scripts.command(client, "INFO", "server")
        self._pid = int(about["process_id"])

    async def close(self) -> None:
        """End the server."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        await self._running.aclose()

    async def kill(self) -> None:
        """Kill the server where it stands."""
        self.signal(signal.SIGKILL)
        await self._running.aclose()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        os.kill(self._pid, number)
