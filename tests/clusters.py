"""Real Clusters and Sentinels for tests, formed by commands to servers of `tests.servers`."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from redis.crc import key_slot

from delayq import Server
from delayq.errors import ServerError
from delayq.scripts import command
from tests.servers import RealServer, program

SLOTS = 16_384
PRIMARIES = 3
SERVICE = "main"
_BUS = 10_000


def free_port() -> int:
    """Return a port that nobody listens on, and whose cluster bus is free as well."""
    while True:
        with socket.socket() as tried, socket.socket() as bus:
            tried.bind(("127.0.0.1", 0))
            port: int = tried.getsockname()[1]
            with suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + _BUS))
                return port


async def until(true: Callable[[], Awaitable[bool]], what: str, within_s: float = 20) -> None:
    """Look again and again: servers tell nobody what they agreed upon."""
    with anyio.move_on_after(within_s):
        while not await true():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"not within {within_s} s: {what}")


class Node(RealServer):
    """A server that listens on a port, and is told what to do by its socket."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        super().__init__("--port", str(self.port), "--bind", "127.0.0.1", *options)

    async def say(self, *words: object) -> Any:
        async with Server(self.url).client("test") as client:
            return await command(client, *words)

    async def told(self, *words: object) -> dict[str, str]:
        """Return what it tells, as a table."""
        said = await self.say(*words)
        if isinstance(said, dict):
            return {name: str(value) for name, value in said.items()}
        return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)


class RealCluster:
    """Three primaries, each with a replica.

    :param dead_after_ms: without an answer
    """

    def __init__(self, dead_after_ms: int = 1_000) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(dead_after_ms))
        quick = ("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
        self.nodes = [Node(*options, *quick, "--appendonly", "no") for _ in range(2 * PRIMARIES)]
        self._ids: dict[str, Node] = {}

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    async def start(self) -> None:
        async with anyio.create_task_group() as starting:
            for node in self.nodes:
                starting.start_soon(node.start)
        self._ids = {await node.say("CLUSTER MYID"): node for node in self.nodes}
        each = SLOTS / PRIMARIES
        for at, node in enumerate(self.nodes):
            await node.say("CLUSTER SET-CONFIG-EPOCH", at + 1)
            if at < PRIMARIES:
                slots = range(round(at * each), round((at + 1) * each))
                await node.say("CLUSTER ADDSLOTS", *slots)
            await self.nodes[0].say("CLUSTER MEET", "127.0.0.1", node.port)
        await until(self._all_know_all, "all nodes know each other")
        for at, node_id in enumerate(list(self._ids)[:PRIMARIES]):
            await self.nodes[PRIMARIES + at].say("CLUSTER REPLICATE", node_id)
        await until(self.healthy, "the cluster is whole")

    async def healthy(self) -> bool:
        """Whether every node that runs thinks all is well, and replicas follow."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            with suppress(ServerError):
                if (await node.told("CLUSTER INFO")).get("cluster_state") != "ok":
                    return False
                about = await node.told("INFO", "replication")
                if about["role"] == "slave" and about["master_link_status"] != "up":
                    return False
                continue
            return False
        return True

    async def _all_know_all(self) -> bool:
        known = [(await node.told("CLUSTER INFO"))["cluster_known_nodes"] for node in self.nodes]
        return set(known) == {str(len(self.nodes))}

    async def primaries(self) -> list[Node]:
        """Return the nodes that hold slots, as one that runs sees it."""
        ports = {row[2][1] for row in await self._slots()}
        return [node for node in self.nodes if node.port in ports and node.running]

    async def holder(self, key: str) -> Node:
        """Return the primary that holds the slot of `key`."""
        slot = key_slot(key.encode())
        port = next(row[2][1] for row in await self._slots() if row[0] <= slot <= row[1])
        return next(node for node in self.nodes if node.port == port)

    def shard(self, primary: Node) -> list[Node]:
        """Return one of the first primaries, and its first replica."""
        at = self.nodes.index(primary) % PRIMARIES
        return [self.nodes[at], self.nodes[at + PRIMARIES]]

    async def kill_holder(self, key: str) -> Node:
        """SIGKILL the primary that holds `key`: its replica is elected before long."""
        node = await self.holder(key)
        node.kill()
        return node

    async def silence(self, key: str) -> None:
        """SIGSTOP the primary that holds `key`."""
        (await self.holder(key)).stall()

    async def begin_move(self, key: str) -> tuple[Node, Node]:
        """Begin to move the slot of `key` to another primary; return from where to where."""
        source = await self.holder(key)
        target = next(node for node in await self.primaries() if node is not source)
        slot = key_slot(key.encode())
        await target.say("CLUSTER SETSLOT", slot, "IMPORTING", await source.say("CLUSTER MYID"))
        await source.say("CLUSTER SETSLOT", slot, "MIGRATING", await target.say("CLUSTER MYID"))
        return source, target

    async def move_keys(self, key: str, source: Node, target: Node) -> None:
        """Move the keys of a slot that is being moved."""
        slot = key_slot(key.encode())
        while keys := await source.say("CLUSTER GETKEYSINSLOT", slot, 100):
            await source.say("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)

    async def end_move(self, key: str, source: Node, target: Node) -> None:
        """End the move of a slot whose keys were moved."""
        slot, to = key_slot(key.encode()), await target.say("CLUSTER MYID")
        for node in (target, source, *await self.primaries()):
            await node.say("CLUSTER SETSLOT", slot, "NODE", to)

    async def _slots(self) -> list[Any]:
        return list(await next(node for node in self.nodes if node.running).say("CLUSTER SLOTS"))

    def close(self) -> None:
        for node in self.nodes:
            node.close()


class Watcher(Node):
    """A Sentinel that watches one primary, by its port."""

    def __init__(self, primary: int, dead_after_ms: int = 500) -> None:
        super().__init__()
        self._primary, self._dead_after_ms = primary, dead_after_ms

    def command(self) -> list[str]:
        conf = self.socket.with_name("sentinel.conf")
        if not conf.exists():  # else it is as the Sentinel left it
            lines = [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"unixsocket {self.socket}",
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary} 2",
                f"sentinel down-after-milliseconds {SERVICE} {self._dead_after_ms}",
                f"sentinel failover-timeout {SERVICE} 2000",
            ]
            conf.write_text("\n".join(lines))
        return [program(), str(conf), "--sentinel"]


class RealSentinels:
    """A primary and a replica, and three Sentinels that watch them.

    :param dead_after_ms: without an answer
    """

    def __init__(self, dead_after_ms: int = 500) -> None:
        quick = ("--appendonly", "no", "--repl-diskless-sync-delay", "0")
        self.nodes = [Node(*quick), Node(*quick)]
        self.watchers = [Watcher(self.nodes[0].port, dead_after_ms) for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in self.watchers)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def start(self) -> None:
        primary, replica = self.nodes
        for node in self.nodes:
            await node.start()
        await replica.say("REPLICAOF", "127.0.0.1", primary.port)
        # A Sentinel asks a primary every 10 s who follows it, and once at the start.
        await until(self._are_two, "the replica follows")
        for watcher in self.watchers:
            await watcher.start()
        await until(self.healthy, "the Sentinels know each other, and the replica")

    async def healthy(self) -> bool:
        """Whether there is a primary that is followed, and every Sentinel knows all."""
        aware = [await self._is_aware(watcher) for watcher in self.watchers]
        return all(aware) and await self._are_two()

    async def _are_two(self) -> bool:
        return sorted([await _role(node) for node in self.nodes]) == ["followed", "following"]

    async def _is_aware(self, watcher: Watcher) -> bool:
        about = (await watcher.say("SENTINEL MASTERS"))[SERVICE]
        others = (about["num-other-sentinels"], about["num-slaves"])
        return others == (2, 1) and about["flags"] == "master"

    async def primary(self) -> Node:
        """Return the primary, as the first Sentinel knows it."""
        about = (await self.watchers[0].say("SENTINEL MASTERS"))[SERVICE]
        return next(node for node in self.nodes if node.port == about["port"])

    async def kill_holder(self, _key: str) -> Node:
        """SIGKILL the primary: the replica takes its place before long."""
        node = await self.primary()
        node.kill()
        return node

    async def silence(self, _key: str) -> None:
        """SIGSTOP the primary."""
        (await self.primary()).stall()

    async def follow_another_than(self, node: Node) -> bool:
        """Whether the first Sentinel knows of another primary."""
        return await self.primary() is not node

    def close(self) -> None:
        for server in (*self.watchers, *self.nodes):
            server.close()


async def _role(node: Node) -> str:
    about = await node.told("INFO", "replication")
    if about["role"] == "slave":
        return "following" if about["master_link_status"] == "up" else "looking"
    return "followed" if about["connected_slaves"] != "0" else "alone"
