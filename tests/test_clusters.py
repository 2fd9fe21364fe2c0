"""Servers that fail over: a Cluster, and a primary that Sentinels watch."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from delayq import NotConfirmed, Queue, Retry, Server, ServerUnreachable, check
from delayq.connection import outlast
from delayq.errors import ServerRefused
from delayq.events import LeaseEnded, StoodBy, TookOver
from delayq.transport.address import parsed
from delayq.transport.anchor import Anchor
from delayq.transport.link import Link
from delayq.transport.sentinels import Sentinels
from delayq.transport.wire import ANSWER_S
from delayq.verify.cluster import state
from tests.clusters import SERVICE, Node, RealCluster, RealSentinels, Watcher, until
from tests.conftest import KEYS
from tests.roles import Troupe, troupe

COUNT = 60
SOON_S = 8
"""Within which all goes on after a failover: it takes the servers some 2 s."""
UNCOPIED = 5
"""Messages at most that a primary accepted and did not copy before it died."""
EACH = pytest.mark.parametrize("servers", [RealSentinels, RealCluster], ids=["sentinel", "cluster"])


@pytest.fixture
async def cluster() -> AsyncIterator[RealCluster]:
    cluster = RealCluster()
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def sentinels() -> AsyncIterator[RealSentinels]:
    sentinels = RealSentinels()
    try:
        await sentinels.start()
        yield sentinels
    finally:
        sentinels.close()


class Load:
    """A load in the middle of which something fails: one publisher, two consumers, a poller.

    :param url: instead of the servers' own
    """

    def __init__(self, servers: RealCluster | RealSentinels, url: str = "") -> None:
        self._url = url or servers.url
        self.longest_s = 0.0
        """The longest time until a message was accepted, tried again and again."""
        self.took_s = 0.0
        """From the fault until all was handled."""
        self.t: Troupe
        self.queue: Queue

    async def run(self, fault: Callable[[], Awaitable[object]]) -> None:
        """Have `fault` happen; return when all that is left of the messages was handled."""
        server = Server(self._url)
        async with server.client() as client:
            self.queue = Queue(lambda: client, KEYS, "strict", Retry(base_ms=1, cap_ms=1))
            async with troupe(server, self.queue) as self.t:
                await self.t.active("c1")
                self.t.consumer("c2")
                await self.t.tape.until(StoodBy, "c2")
                self.t.poller()
                await self._publish(range(COUNT))
                began_s = anyio.current_time()
                async with anyio.create_task_group() as going_on:
                    going_on.start_soon(self._publish, range(COUNT, 3 * COUNT))
                    await fault()
                await self.t.begins(3 * COUNT - 1)
                await until(self._is_done, "everything is acknowledged")
                self.took_s = anyio.current_time() - began_s

    async def _publish(self, numbers: range) -> None:
        for number in numbers:
            began_s = anyio.current_time()
            delay = 0.05 if number % 3 == 0 else 0
            await outlast(lambda: self.queue.publish(number, id=f"m{number}", delay=delay))  # noqa: B023
            self.longest_s = max(self.longest_s, anyio.current_time() - began_s)

    async def _is_done(self) -> bool:
        stats = await outlast(self.queue.stats)
        return not (stats.scheduled or stats.ready or stats.pending)

    @property
    def begun(self) -> list[int]:
        """Those without a delay, in the order in which they were begun first."""
        return [body for body in dict.fromkeys(self.t.bodies) if body % 3]

    def went_on(self) -> None:
        """Check that it did: soon, in order, and with all but what had no copy yet."""
        assert self.longest_s < SOON_S
        assert self.took_s < SOON_S + ANSWER_S  # one call more may go to who answers nobody
        assert self.begun == sorted(self.begun)
        assert len(set(self.t.bodies)) >= 3 * COUNT - UNCOPIED


async def test_a_cluster_whose_primary_dies_goes_on(cluster: RealCluster) -> None:
    load = Load(cluster)
    await load.run(lambda: cluster.kill_holder(KEYS.stream))
    load.went_on()


async def test_a_slot_that_moves_holds_its_lane_up_and_loses_nothing(cluster: RealCluster) -> None:
    async def move() -> None:
        source, target = await cluster.begin_move(KEYS.stream)
        await cluster.move_keys(KEYS.stream, source, target)
        await cluster.end_move(KEYS.stream, source, target)

    load = Load(cluster)
    await load.run(move)
    load.went_on()
    assert load.t.bodies == sorted(set(load.t.bodies), key=load.t.bodies.index)
    assert len(load.t.bodies) == 3 * COUNT
    assert not load.t.tape.of(LeaseEnded)


async def test_a_primary_that_dies_is_followed_by_sentinels(sentinels: RealSentinels) -> None:
    load = Load(sentinels)
    await load.run(lambda: sentinels.kill_holder(KEYS.stream))
    load.went_on()


async def test_a_primary_that_comes_back_too_soon_is_not_believed(sentinels: RealSentinels) -> None:
    """It is empty, and a primary until the Sentinels tell it otherwise, seconds later."""

    async def come_back() -> None:
        primary = await sentinels.kill_holder(KEYS.stream)
        await until(partial(sentinels.follow_another_than, primary), "there is another")
        await primary.start()

    load = Load(sentinels)
    await load.run(come_back)
    load.went_on()


async def test_the_sentinel_that_knows_of_the_latest_failover_is_believed(
    sentinels: RealSentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Node()
    stray = Watcher(old.port)
    ask, answered = Redis.sentinel_masters, anyio.Event()

    async def ask_the_stray_first(sentinel: Any) -> Any:
        if sentinel.connection_pool.connection_kwargs["port"] != stray.port:
            await answered.wait()
            return await ask(sentinel)
        try:
            return await ask(sentinel)
        finally:
            answered.set()

    try:
        await old.start()
        await stray.start()
        before = await sentinels.holder()
        await sentinels.watchers[0].say("SENTINEL FAILOVER", SERVICE)
        await until(partial(sentinels.follow_another_than, before), "there is another")
        monkeypatch.setattr(Redis, "sentinel_masters", ask_the_stray_first)
        url = sentinels.url.replace("://", f"://127.0.0.1:{stray.port},")
        async with Server(url).client() as client:
            assert (await client.info("server"))["tcp_port"] == (await sentinels.holder()).port
    finally:
        stray.close()
        old.close()


@pytest.mark.parametrize("down", [0, 1, 2])
async def test_a_sentinel_that_alone_thinks_that_the_primary_is_down_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, down: int
) -> None:
    async def answer(sentinel: Any) -> Any:
        at = sentinel.connection_pool.connection_kwargs["port"] - 1
        up = {"ip": "127.0.0.1", "port": 9, "config-epoch": "7", "is_odown": False}
        return {"main": up | {"is_master": True, "num-other-sentinels": 2, "is_sdown": at == down}}

    monkeypatch.setattr(Redis, "sentinel_masters", answer)
    url = "redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/main"
    found = await Sentinels(parsed(url)).discover_master("main")
    assert found == ("127.0.0.1", 9)


async def test_a_call_that_is_given_up_while_sentinels_are_asked_ends_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer_all_the_same(_: Any) -> dict[str, Any]:
        """Do what redis-py does if the answer comes as the call is cancelled."""
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return {}

    monkeypatch.setattr("redis.asyncio.Redis.sentinel_masters", answer_all_the_same)
    async with Server("redis+sentinel://127.0.0.1:1/main").client() as client:
        with anyio.move_on_after(0.1) as waiting:
            await client.ping()
        assert waiting.cancelled_caught


async def test_a_failover_that_is_asked_for_ends_no_lease(sentinels: RealSentinels) -> None:
    load = Load(sentinels)
    await load.run(lambda: sentinels.watchers[0].say("SENTINEL FAILOVER", SERVICE))
    load.went_on()
    assert not load.t.tape.of(LeaseEnded)


@EACH
async def test_what_a_replica_has_survives_its_primary(
    servers: type[RealSentinels | RealCluster],
) -> None:
    real = servers()
    try:
        await real.start()
        server = Server(real.url)
        async with server.client() as client:
            queue = Queue(lambda: client, KEYS, "strict", durability="replicated")
            await queue.publish_many(range(COUNT))
            await real.kill_holder(KEYS.stream)
            async with troupe(server, queue) as t:
                await t.active("c1")
                await t.settled(COUNT)
            assert t.bodies == list(range(COUNT))
    finally:
        real.close()


@EACH
async def test_a_primary_that_is_silent_is_given_up(
    servers: type[RealSentinels | RealCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.transport.client.CALL_S", 1.0)
    real = servers()
    try:
        await real.start()
        load = Load(real)
        await load.run(lambda: real.silence(KEYS.stream))
    finally:
        real.close()
    load.went_on()


async def test_a_consumer_that_dies_on_a_cluster_is_followed_at_once(cluster: RealCluster) -> None:
    server = Server(cluster.url)
    async with server.client() as client:
        queue = Queue(lambda: client, KEYS, "strict")
        async with troupe(server, queue) as t:
            await t.active("c1", lease_ttl_s=60)
            t.consumer("c2", lease_ttl_s=60)
            await t.tape.until(StoodBy, "c2")
            await t.supervisor.kill("c1")
            assert (await t.tape.until(TookOver, "c2")).why == "connection gone"


@asynccontextmanager
async def anchored(cluster: RealCluster) -> AsyncIterator[tuple[Anchor, Anchor, Node]]:
    """Give the anchor of a holder, that of a standby, which knows the other's node, and that."""
    server = Server(cluster.url)
    async with server.link("holder") as holder, server.link("standby") as standby:
        await standby.anchor.identity()
        identity = await holder.anchor.identity()
        node = identity.partition("/")[0]
        assert await standby.anchor.gone([identity, f"{node}/999999"]) == {f"{node}/999999"}
        port = int(node.rpartition(":")[2])
        yield holder.anchor, standby.anchor, next(n for n in cluster.nodes if n.port == port)


async def test_an_anchor_whose_node_dies_names_another_and_proves_nothing_by_the_old(
    cluster: RealCluster,
) -> None:
    async with anchored(cluster) as (holder, standby, node):
        identity = await holder.identity()
        node.kill()
        await until(lambda: _changes(holder, identity), "another is named")
        assert await standby.gone([identity]) == set()


async def test_a_node_that_does_not_answer_proves_nothing_and_stops_nobody(
    cluster: RealCluster,
) -> None:
    async with anchored(cluster) as (holder, standby, node):
        node.freeze()
        try:
            assert await standby.gone([f"{await holder.identity()}9"]) == set()
        finally:
            node.thaw()


async def _changes(anchor: Anchor, identity: str) -> bool:
    return await anchor.identity() != identity


async def test_nobody_is_asked_who_is_no_node_of_the_cluster(cluster: RealCluster) -> None:
    async with Server(cluster.url).link("standby") as link:
        await link.anchor.identity()
        assert await link.anchor.gone(["127.0.0.1:1/5", "elsewhere:6379/5", "5", "", "/"]) == set()


async def test_bells_of_a_cluster_beyond_its_readers_give_way(
    cluster: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.transport.bells.LONE_READERS", 2)
    server = Server(cluster.url)
    async with (
        server.client() as client,
        server.link("waiter") as link,
        anyio.create_task_group() as waiting,
    ):
        for name in "abcd":
            waiting.start_soon(link.bells.bell(name).wait, 30)
        with anyio.fail_after(2):
            assert await _rings(link, client, "e")
        waiting.cancel_scope.cancel()


async def _rings(link: Link, client: Any, stream: str) -> bool:
    rung: list[bool] = []
    bell = link.bells.bell(stream)

    async def wait() -> None:
        rung.append(await bell.wait(30))

    async with anyio.create_task_group() as waiting:
        waiting.start_soon(wait)
        await client.xadd(stream, {"rung": "1"})
    return rung[0]


async def test_a_cluster_that_is_down_is_an_outage_like_any_other(cluster: RealCluster) -> None:
    server = Server(cluster.url)
    async with server.client() as client:
        queue = Queue(lambda: client, KEYS, "strict", patience_s=0)
        await queue.publish(1)
        ours = await cluster.holder(KEYS.stream)
        lost = cluster.shard(next(n for n in await cluster.primaries() if n is not ours))
        for node in lost:
            node.kill()
        await until(partial(_is_down, ours), "it is down")
        with pytest.raises(ServerUnreachable, match="down"):
            await queue.publish(2)
        for node in lost:
            await node.start()
        await outlast(lambda: queue.publish(3))


async def _is_down(node: Node) -> bool:
    return (await state(node))["cluster_state"] == "fail"


async def test_a_cluster_is_checked_as_a_whole(cluster: RealCluster) -> None:
    assert await check(Server(cluster.url)) == []
    node = cluster.nodes[1]
    await node.say("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    [warning] = await check(Server(cluster.url))
    assert f"127.0.0.1:{node.port}" in warning
    assert "allkeys-lru" in warning
    with pytest.raises(ServerRefused, match=r"give a redis\+cluster:// URL"):
        await check(Server(f"redis://127.0.0.1:{node.port}"))
    node.kill()
    with pytest.raises(ServerUnreachable, match=str(node.port)):
        await check(Server(cluster.url))


async def test_a_server_that_is_no_cluster_is_told() -> None:
    plain = Node()
    try:
        await plain.start()
        with pytest.raises(ServerRefused, match="Cluster mode is not enabled"):
            await check(Server(f"redis+cluster://127.0.0.1:{plain.port}"))
    finally:
        plain.close()


async def test_a_cluster_that_is_not_made_yet_is_away() -> None:
    lone = Node("--cluster-enabled", "yes")
    try:
        await lone.start()
        with pytest.raises(ServerUnreachable, match="no node of the Cluster has a slot"):
            await check(Server(f"redis+cluster://127.0.0.1:{lone.port}"))
    finally:
        lone.close()


async def test_a_service_that_no_sentinel_knows_is_told(sentinels: RealSentinels) -> None:
    url = sentinels.url.replace(SERVICE, "other")
    with pytest.raises(ServerUnreachable, match="no Sentinel knows 'other'"):
        await check(Server(url))


async def test_a_durable_publish_follows_its_slot_and_asks_the_node_that_has_it(
    cluster: RealCluster,
) -> None:
    async with Server(cluster.url).client() as client:
        queue = Queue(lambda: client, KEYS, durability="replicated", patience_s=1)
        assert (await queue.publish(1, id="a")).durability == "replicated"
        source, target = await cluster.begin_move(KEYS.stream)
        with pytest.raises(ServerUnreachable):  # part of the keys is there, and part is not yet
            await queue.publish(2, id="b")
        await cluster.move_keys(KEYS.stream, source, target)
        await cluster.end_move(KEYS.stream, source, target)
        assert (await queue.publish(2, id="b")).durability == "replicated"
        (replica,) = (node for node in cluster.shard(target) if node is not target)
        replica.freeze()
        with pytest.raises(NotConfirmed):
            await queue.publish(3, id="c")
        replica.thaw()
        assert (await replace(queue, patience_s=10).publish(3, id="c")).duplicate
        assert await client.xlen(KEYS.stream) == 3


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_durable_publish_goes_on_at_the_replica_of_a_primary_that_is_gone(
    cluster: RealCluster, fault: str
) -> None:
    async with Server(cluster.url).client() as client:
        queue = Queue(lambda: client, KEYS, durability="replicated", patience_s=1)
        await queue.publish(1, id="a")
        holder = await cluster.holder(KEYS.stream)
        getattr(holder, fault)()
        with anyio.fail_after(2 * SOON_S), pytest.raises(NotConfirmed):  # it has no other replica
            await outlast(lambda: queue.publish(2, id="b"))
