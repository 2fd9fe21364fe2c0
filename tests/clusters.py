"""Real Clusters and Sentinels for tests, on servers of `tests.servers`."""

from typing import Any

from delayq import Server
from delayq.scripts import command
from delayq.verify.cluster import PRIMARIES, Cluster, node_options
from delayq.verify.replicated import QUICK, Replicated, until
from delayq.verify.sentinels import SERVICE, WATCHERS, Sentinels, configuration
from delayq.verify.server import free_port
from tests.servers import RealServer, program

__all__ = ["SERVICE", "Node", "RealCluster", "RealSentinels", "Watcher", "until"]


class Node(RealServer):
    """A server that listens on a port, and is told what to do by its socket."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        super().__init__("--port", str(self.port), "--bind", "127.0.0.1", *options)

    @property
    def alive(self) -> bool:
        return self.running

    async def say(self, *words: object) -> Any:
        async with Server(self.url).client("test") as client:
            return await command(client, *words)


class Breakable:
    """What a test does to `Replicated` servers."""

    async def kill_holder(self: Replicated[Node], key: str) -> Node:
        """SIGKILL the primary that holds `key`: its replica takes its place before long."""
        node = await self.holder(key)
        node.kill()
        return node

    async def silence(self: Replicated[Node], key: str) -> None:
        """SIGSTOP the primary that holds `key`."""
        (await self.holder(key)).freeze()

    def close(self: Replicated[Node]) -> None:
        for server in self.every:
            server.close()


class RealCluster(Cluster[Node], Breakable):
    """Three primaries, each with a replica.

    :param dead_after_ms: without an answer
    :param node: what makes one of them
    """

    def __init__(self, dead_after_ms: int = 1_000, node: type[Node] = Node) -> None:
        options = (*node_options(dead_after_ms), "--appendonly", "no")
        super().__init__([node(*options) for _ in range(2 * PRIMARIES)])

    def shard(self, primary: Node) -> list[Node]:
        """Return one of the first primaries, and its first replica."""
        at = self.nodes.index(primary) % PRIMARIES
        return [self.nodes[at], self.nodes[at + PRIMARIES]]


class Watcher(Node):
    """A Sentinel that watches the primary at a port."""

    lines: tuple[str, ...] = ()
    """More of its configuration."""

    def __init__(self, primary: int, dead_after_ms: int = 500) -> None:
        super().__init__()
        self._watched = primary, dead_after_ms

    def command(self) -> list[str]:
        conf = self.socket.with_name("sentinel.conf")
        if not conf.exists():  # else it is as the Sentinel left it
            written = configuration(self.socket, self.port, *self._watched)
            conf.write_text("\n".join([written, *self.lines]))
        return [program(), str(conf), "--sentinel"]


class RealSentinels(Sentinels[Node], Breakable):
    """A primary and a replica, and three Sentinels that watch them.

    :param dead_after_ms: without an answer
    :param node: what makes one of them
    :param watcher: what makes a Sentinel
    """

    def __init__(
        self,
        dead_after_ms: int = 500,
        node: type[Node] = Node,
        watcher: type[Watcher] = Watcher,
    ) -> None:
        nodes = [node(*QUICK, "--appendonly", "no") for _ in range(2)]
        super().__init__(nodes, [watcher(nodes[0].port, dead_after_ms) for _ in range(WATCHERS)])

    async def follow_another_than(self, node: Node) -> bool:
        """Whether a Sentinel knows of another primary."""
        return await self.holder() is not node
