"""Servers of a run's own, which may be killed, frozen, and started again on the same data."""

import itertools
import os
import secrets
import signal
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Literal

import anyio

from delayq import scripts
from delayq.connection import Server
from delayq.embedded import SOCKET, embedded, find_program, guarded
from delayq.verify.cluster import PRIMARIES, Cluster, node_options
from delayq.verify.replicated import QUICK, Node
from delayq.verify.sentinels import WATCHERS, Sentinels, configuration

Fsync = Literal["always", "everysec", "none"]
_PORTS = range(10_000, 20_000)
_BUS = 10_000
"""A node listens for the others of its Cluster so much above its port. All are below the ports that
systems give to whoever connects: such a one could be taken again before its node has started."""
_untried = itertools.cycle(secrets.SystemRandom().sample(_PORTS, len(_PORTS)))
_LOOK_S = 0.01


def flushing(fsync: Fsync) -> tuple[str, ...]:
    """Return the options of a server that flushes its append-only file so.

    :param fsync: none: there is no such file
    """
    if fsync == "none":
        return ("--appendonly", "no")
    return ("--appendonly", "yes", "--appendfsync", fsync)


class OwnServer:
    """The embedded server, on a folder.

    :param options: its own
    :param program: instead of the embedded one
    """

    def __init__(self, folder: Path, options: Sequence[str], program: Path | None) -> None:
        self.url = ""
        self.alive = False
        self._folder = folder
        self._program = str(program) if program else None
        self._options = options
        self._running = AsyncExitStack()
        self._pid = 0
        self._killed = False

    async def start(self) -> None:
        """Start the server.

        :raises ServerError: if it does not start
        """
        self.url = await self._running.enter_async_context(self._opening())
        self._pid = int((await self.say("INFO", "server"))["process_id"])
        if self._killed:
            await self._write_file_anew()
        self.alive = True

    async def close(self) -> None:
        """End the server."""
        if self.alive:
            self.signal(signal.SIGCONT)
        await self._ended()

    async def kill(self) -> None:
        """Kill the server where it stands."""
        self._killed = True
        self.signal(signal.SIGKILL)
        await self._ended()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        os.kill(self._pid, number)

    async def say(self, *words: object) -> Any:
        """Run a command there.

        :raises ServerError: if the server did not answer, or refused
        """
        async with Server(self.url).client("verify") as client:
            return await scripts.command(client, *words)

    async def _write_file_anew(self) -> None:
        """Have the server write its append-only file anew, if it has one.

        Redis 6.2 and 7.0, killed as they write what a script did, cut the file behind the last
        whole command at the next start, and leave the transaction open: the start after that would
        carry out half of it.
        """
        if not (await self.say("INFO", "persistence"))["aof_enabled"]:
            return
        await self.say("BGREWRITEAOF")
        about = await self.say("INFO", "persistence")
        while about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"]:
            await anyio.sleep(_LOOK_S)
            about = await self.say("INFO", "persistence")

    def _opening(self) -> AbstractAsyncContextManager[str]:
        return embedded(self._folder, self._options, self._program)

    async def _ended(self) -> None:
        self.alive = False
        await self._running.aclose()


class OwnNode(OwnServer):
    """A server among others, who find it by its port."""

    def __init__(self, folder: Path, options: Sequence[str], program: Path | None) -> None:
        self.port = free_port()
        place = ("--port", str(self.port), "--bind", "127.0.0.1")
        super().__init__(folder, [*place, *options], program)


class OwnWatcher(OwnNode):
    """A Sentinel."""

    def __init__(self, folder: Path, primary: Node, program: Path | None) -> None:
        super().__init__(folder, (), program)
        self._primary = primary

    def _opening(self) -> AbstractAsyncContextManager[str]:
        home = self._folder.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        conf = home / "sentinel.conf"
        conf.write_text(configuration(home / SOCKET, self.port, self._primary.port))
        return guarded([self._program or find_program(), str(conf), "--sentinel"], home)


def own_cluster(folder: Path, options: Sequence[str], program: Path | None) -> Cluster[OwnNode]:
    """Make a Cluster that is not started yet."""
    every = (*node_options(), *options)
    return Cluster([OwnNode(folder / f"n{at}", every, program) for at in range(2 * PRIMARIES)])


def own_sentinels(folder: Path, options: Sequence[str], program: Path | None) -> Sentinels[OwnNode]:
    """Make a primary, a replica and Sentinels that are not started yet."""
    nodes = [OwnNode(folder / f"n{at}", (*QUICK, *options), program) for at in range(2)]
    watchers = [OwnWatcher(folder / f"w{at}", nodes[0], program) for at in range(WATCHERS)]
    return Sentinels(nodes, watchers)


def free_port() -> int:
    """Return a port on which nobody listens, nor on that of its cluster bus."""
    while True:
        port = next(_untried)
        with socket.socket() as own, socket.socket() as bus, suppress(OSError):
            own.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _BUS))
            return port
