"""A primary and a replica, and Sentinels that watch them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

from delayq.errors import ServerError, ServerUnreachable
from delayq.verify.replicated import DEAD_AFTER_MS, N, Node, follows, until

SERVICE = "main"
WATCHERS = 3
QUORUM = 2


def configuration(socket: Path, port: int, primary: int, dead_after_ms: int = DEAD_AFTER_MS) -> str:
    """Return the configuration of a Sentinel.

    :param primary: its port
    :param dead_after_ms: after how long without an answer it is down
    """
    lines = [
        *(f"port {port}", "bind 127.0.0.1", f"unixsocket {socket}"),
        *(f"dir {socket.parent}", f"logfile {socket.parent / 'server.log'}"),
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}",
        f"sentinel down-after-milliseconds {SERVICE} {dead_after_ms}",
        f"sentinel failover-timeout {SERVICE} 2000",
    ]
    return "\n".join(lines)


class Sentinels(Generic[N]):
    """A primary and a replica, and the Sentinels that watch them.

    :param nodes: the primary and the replica, as they are at first
    """

    def __init__(self, nodes: Sequence[N], watchers: Sequence[N]) -> None:
        self.nodes = nodes
        self.watchers = watchers

    @property
    def every(self) -> Sequence[N]:
        """All servers."""
        return (*self.watchers, *self.nodes)

    @property
    def url(self) -> str:
        """Where they are."""
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in self.watchers)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def start(self) -> None:
        """Start them all, and wait until each knows the others.

        :raises ServerError: if they do not
        """
        primary, replica = self.nodes
        for node in self.nodes:
            await node.start()
        await _follow(replica, primary)
        # A Sentinel asks a primary every 10 s who follows it, and once at the start.
        await until(lambda: follows(replica), "the replica follows")
        for watcher in self.watchers:
            await watcher.start()
        await until(self.healthy, "the Sentinels know each other, and the replica")

    async def healthy(self) -> bool:
        """Tell whether the primary is followed, and every Sentinel knows all.

        :raises ServerError: if one does not answer
        """
        primary = await self.holder()
        [replica] = (node for node in self.nodes if node is not primary)
        for watcher in self.watchers:
            told = await _knows(watcher)
            known = told["num-other-sentinels"], told["num-slaves"], told["flags"], told["port"]
            if known != (WATCHERS - 1, 1, "master", primary.port):
                return False
        return await follows(replica)

    async def holder(self, _key: str = "") -> N:
        """Return the primary, as the one knows it that has heard of the latest failover.

        :raises ServerError: if no Sentinel tells
        """
        told = [await self._told(watcher) for watcher in self.watchers]
        latest = max(filter(None, told), key=lambda known: int(known["config-epoch"]), default=None)
        if latest is None:
            raise ServerUnreachable("no Sentinel answers")
        return next(node for node in self.nodes if node.port == latest["port"])

    async def revive(self, node: N) -> None:
        """Start a node that was killed, when the other has its place; wait until it follows it.

        :raises ServerError: if that does not come about
        """
        await until(lambda: self._is_replaced(node), f"{node.port} is replaced")
        await node.start()
        await _follow(node, await self.holder())
        await until(self.healthy, f"{node.port} follows")

    async def _is_replaced(self, node: N) -> bool:
        now = await self.holder()
        return now is not node and (await now.say("INFO", "replication"))["role"] == "master"

    @staticmethod
    async def _told(watcher: Node) -> dict[str, Any] | None:
        try:
            return await _knows(watcher)
        except ServerError:
            return None


async def _knows(watcher: Node) -> dict[str, Any]:
    told: dict[str, Any] = (await watcher.say("SENTINEL MASTERS"))[SERVICE]
    return told


async def _follow(node: Node, primary: Node) -> None:
    await node.say("REPLICAOF", "127.0.0.1", primary.port)
