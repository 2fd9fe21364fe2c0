"""Several groups served at once, each by consumers and pollers of its own."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from delayq import App, Context, LanesDiffer, Queue, Retry, RetryLater, Server, testing
from delayq.events import Acked, DeadLettered, Ended, TookOver
from delayq.keys import GROUP
from delayq.pending import Pending
from delayq.testing.quiet import NotQuiet
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import Troupe, publish, troupe
from tests.state import emptied

QUICK = Retry(base_ms=1, cap_ms=1)


@asynccontextmanager
async def troupes(server: Server, *queues: Queue) -> AsyncIterator[list[Troupe]]:
    """One for each group."""
    if not queues:
        yield []
        return
    async with troupe(server, queues[0]) as t, troupes(server, *queues[1:]) as others:
        yield [t, *others]


def acked(t: Troupe) -> list[str]:
    return [message_id for event in t.tape.of(Acked) for message_id in event.ids]


async def test_each_group_has_every_message_and_nothing_is_left(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict")
    before = set(await client.keys("*"))
    async with troupes(
        server, queue, queue.group("billing"), queue.group("mail", ordering="key")
    ) as ts:
        for t in ts:
            await t.active("c1")
        ts[1].poller()  # any group's poller promotes what is published
        await publish(queue, *range(20))
        for n in range(20, 40):
            await queue.publish(n, delay=0.05, key=str(n % 3))
        for t in ts:
            await t.settled(40)
        assert ts[0].bodies == list(range(40))
        assert sorted(ts[1].bodies) == list(range(40))
        assert [n for n in ts[2].bodies if n % 3 == 2 and n >= 20] == list(range(20, 40, 3))
        assert {t.handled[0].deliveries for t in ts} == {1}
    assert await client.xlen(KEYS.stream) == 0
    lasting = {KEYS.stream, KEYS.recent, KEYS.dedup, "test:lanes"}
    left = set(await client.keys("*")) - before - lasting
    names = {key.rpartition(":")[2] for key in left} - {"survey"}  # which fades
    assert names == {"epoch", "vacancy", "bell"}
    assert [key for key in left if await client.pttl(key) < 0 and ":epoch" not in key] == []


@pytest.mark.parametrize("failing", ["none", "strict"])
async def test_a_group_that_always_fails_leaves_the_others_untouched(
    server: Server, client: Client, make_queue: MakeQueue, failing: str
) -> None:
    queue = make_queue("strict")
    billing = queue.group("billing", ordering=failing, retry=QUICK)  # type: ignore[arg-type]
    async with troupes(server, queue, billing) as (ours, theirs):
        await ours.active("c1")
        await theirs.active("c1")
        theirs.poller()
        for n in range(30):
            theirs.failing[n] = [ValueError("no")] * 5
            await queue.publish(n)
        await ours.settled(30)
        await theirs.settled(30)
        await publish(
            queue, "end"
        )  # behind what is for one group alone, which the other passes unseen
        await ours.begins("end")
        await theirs.begins("end")
        assert ours.bodies == [*range(30), "end"]
        assert {handled.deliveries for handled in ours.handled} == {1}
        assert len(acked(ours)) == len(set(acked(ours))) >= 30
        assert len(theirs.tape.of(DeadLettered)) == 30
        assert len(theirs.handled) == 151
    assert await client.xlen(KEYS.stream) == 0
    assert ((await queue.stats()).dead, (await billing.stats()).dead) == (0, 30)
    assert (await billing.stats()).scheduled == 0


async def test_the_slowest_decides_what_is_kept(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict")
    billing = queue.group("billing", ordering="strict")
    async with troupes(server, queue, billing) as (ours, theirs):
        theirs.held[0] = anyio.Event()
        await theirs.active("c1")
        await ours.active("c1")
        await publish(queue, *range(50))
        await theirs.begins(0)
        await ours.settled(50)
        assert await client.xlen(KEYS.stream) == 50
        mine, other = await queue.stats(), await billing.stats()
        assert mine.ready + mine.pending == 0
        assert other.ready + other.pending == 50
        theirs.held[0].set()
        await theirs.settled(50)
    assert await client.xlen(KEYS.stream) == 0


async def test_a_failover_of_one_group_is_none_of_another(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict")
    async with troupes(server, queue, queue.group("billing", ordering="strict")) as (ours, theirs):
        await ours.active("c1")
        await theirs.active("c1")
        theirs.consumer("c2")
        theirs.held["a"] = anyio.Event()
        await publish(queue, "a", "b")
        await theirs.begins("a")
        epoch = await client.get(KEYS.epoch)
        await theirs.supervisor.kill("c1")
        theirs.held["a"].set()
        await theirs.settled(2)
        await ours.settled(2)
        assert theirs.bodies == ["a", "a", "b"]
        assert ours.bodies == ["a", "b"]
        assert len(ours.tape.of(TookOver)) == 1
        assert await client.get(KEYS.epoch) == epoch
        [active] = await theirs.queue.who()
        assert active
        assert active.name == "c2"
        await theirs.hand_over()
        assert len(ours.tape.of(TookOver)) == 1


async def test_a_group_destroyed_by_foreign_hands_begins_with_what_is_kept(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict")
    late = queue.group("late", ordering="strict", start="now")
    async with troupes(server, queue, late) as (ours, theirs):
        await theirs.active("c1")
        theirs.held["a"] = anyio.Event()
        await publish(queue, "a")
        await theirs.begins("a")
        await client.xgroup_destroy(KEYS.stream, "late")
        await ours.active("c1")  # first, so that "b" is kept for it
        ours.held["b"] = anyio.Event()
        await publish(queue, "b")
        await ours.begins("b")
        theirs.held["a"].set()
        await theirs.begins("b")
        ours.held["b"].set()
        await ours.settled(2)
    assert "b" in theirs.bodies


@pytest.mark.parametrize("seed", range(3))
async def test_three_groups_under_kills_each_see_exactly_what_they_were_to(
    server: Server, client: Client, make_queue: MakeQueue, seed: int
) -> None:
    lots, count = random.Random(seed), 150
    queue = make_queue("none")
    strict = queue.group("strict", ordering="strict", retry=QUICK)
    keyed = queue.group("keyed", ordering="key", on_failure="park", retry=QUICK)
    async with troupes(server, queue, strict, keyed) as ts:
        for t in ts:
            await t.active("c1", batch=5)
            t.consumer("c2", batch=5)
            t.poller()
            for n in lots.sample(range(count), 25):
                t.failing[n] = [RetryLater(1), ValueError("no")][: lots.randint(1, 2)]
        async with anyio.create_task_group() as killing:
            for t in ts:
                killing.start_soon(keep_killing, t, lots, count)
            for n in range(count):
                await queue.publish(n, id=str(n), key=str(n % 7), delay=0.02)
        await queue.publish("end")  # behind what is for one group alone, which others pass unseen
        for t in ts:
            await t.begins("end")
        await emptied(client)  # what the killed had in hand is inherited
    for t in ts:
        assert sorted(done(t)) == list(range(count))
        assert not t.tape.of(DeadLettered)
        assert len([end for end in t.tape.of(Ended) if end.how == "killed"]) == KILLS
    assert done(ts[1]) == list(range(count))
    for key in range(7):
        assert [n for n in done(ts[2]) if n % 7 == key] == list(range(key, count, 7))
    assert await client.xlen(KEYS.stream) == 0
    parts = {key.rpartition(":")[2] for key in await client.keys("*")}
    assert not parts & {"schedule", "bodies", "arrival", "waiting", "parked", "dead"}


async def test_a_kill_in_one_group_of_several_lanes_is_none_of_the_other(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue, count = make_queue("none", lanes=4), 80
    billing = queue.group("billing", ordering="key", on_failure="park", retry=QUICK)
    late = queue.group("late", start="now")
    async with troupes(server, queue, billing, late) as (ours, theirs, last):
        for t in (ours, theirs):
            t.consumer("c1")
            t.consumer("c2")
        theirs.poller()
        while len({event.lane for event in theirs.tape.of(TookOver)}) < 4:
            await theirs.tape.until(TookOver, after=theirs.tape.end)
        for n in range(count):
            theirs.failing[n] = [ValueError("no")] * (n % 3)
            await queue.publish(n, key=str(n % 8))
        await theirs.begins(count // 4)
        await theirs.supervisor.kill("c1")
        await ours.settled(count)
        while len(done(theirs)) < count:
            await theirs.begun.wait()
        ours.held["kept"] = anyio.Event()
        await publish(queue, "kept")
        await ours.begins("kept")
        last.consumer("c1")
        while len(last.tape.of(TookOver)) < 4:
            await last.tape.until(TookOver, after=last.tape.end)
        await publish(queue, "end")
        ours.held["kept"].set()
        for t in (ours, theirs, last):
            await t.begins("end")
    assert sorted(n for n in ours.bodies if n not in {"kept", "end"}) == list(range(count))
    assert {handled.deliveries for handled in ours.handled} == {1}
    for key in range(8):
        assert [n for n in done(theirs) if n % 8 == key] == list(range(key, count, 8))
    assert last.bodies == ["end"]
    for lane in queue.every_lane:
        assert await client.xlen(lane.keys.stream) == 0


KILLS = 3


def done(t: Troupe) -> list[int]:
    """What was handled, in order: without what a kill had handled again."""
    return [body for body in dict.fromkeys(t.succeeded) if body not in {"end", "kept"}]


async def keep_killing(t: Troupe, lots: random.Random, count: int) -> None:
    """Kill a consumer now and then, until all is handled."""
    kills = 0
    while len(done(t)) < count:
        await t.begun.wait()
        if kills < KILLS and len(done(t)) > (kills + 1) * count / (KILLS + 3):
            kills += 1
            name = f"c{lots.randint(1, 2)}"
            await t.supervisor.kill(name)
            await t.supervisor.restart(name)


async def test_no_group_misses_what_waited_before_any_consumer_ran(server: Server) -> None:
    app, told = App(redis_url=server.url), list[tuple[str, int]]()
    orders = app.queue("orders", int)
    billing = orders.group("billing", ordering="strict")
    done = anyio.Event()

    async def handle(group: str, body: int) -> None:
        told.append((group, body))
        if len(told) == 200:
            done.set()

    @orders.handler()
    async def own(body: int, _context: Context) -> None:
        await handle("own", body)

    @billing.handler()
    async def bill(body: int, _context: Context) -> None:
        await handle("billing", body)

    with anyio.fail_after(30):
        async with app:
            await orders.publish_many(range(100))
            await app.start()
            await done.wait()
    assert {group: sorted(n for g, n in told if g == group) for group in ("own", "billing")} == {
        "own": list(range(100)),
        "billing": list(range(100)),
    }


async def test_names_of_any_length_that_is_allowed_go_together(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYQ_NAME", "p" * 128)
    app = App(redis_url=server.url)
    orders, handled = app.queue("q" * 128, int), anyio.Event()

    @orders.group("g" * 128).handler()
    async def bill(_body: int, _context: Context) -> None:
        handled.set()

    with anyio.fail_after(30):
        async with app:
            await orders.publish(1)
            await app.start()
            await handled.wait()


async def test_a_consumer_creates_all_groups_that_have_a_handler(server: Server) -> None:
    app = App(redis_url=server.url)
    orders = app.queue("orders", int)
    orders.group("unhandled")
    orders.group("billing").handler()(lambda _body, _context: None)
    async with app:
        await Pending(orders).ensure_group()
        assert set(await orders.groups()) == {GROUP, "billing"}


async def test_a_queue_without_a_handler_of_its_own_has_no_group_of_its_own(server: Server) -> None:
    app, handled = App(redis_url=server.url), anyio.Event()
    billing = app.queue("orders", int).group("billing")

    @billing.handler()
    async def bill(_body: int, _context: Context) -> None:
        handled.set()

    assert set(app.roles("p")) == {"orders/billing.p", "orders/billing:poller.p"}
    with anyio.fail_after(30):
        async with app:
            await app.start()
            await billing.publish(1, delay=0.05)
            await handled.wait()
            assert await app.queues["orders"].groups() == ("billing",)


def test_groups_are_declared_once() -> None:
    app = App(redis_url="redis://x")
    orders = app.queue("orders", int)
    billing = orders.group("billing")
    for queue in (orders, billing):
        for name in ("billing", GROUP):
            with pytest.raises(ValueError, match=f"orders.*{name}"):
                queue.group(name)
    assert billing.group("mail").every_group == orders.every_group
    billing.handler()(lambda _body, _context: None)
    assert not orders.handled
    with pytest.raises(ValueError, match="orders/billing"):
        billing.handler()(lambda _body, _context: None)


async def test_a_test_of_yours_waits_for_all_groups() -> None:
    app = App()
    orders = app.queue("orders", str, ordering="strict")
    billing = orders.group("billing", retry=Retry(base_ms=3_600_000, cap_ms=3_600_000))
    told: list[tuple[str, str, int]] = []

    @orders.handler()
    async def own(body: str, context: Context) -> None:
        told.append(("own", body, context.deliveries))

    @billing.handler()
    async def bill(body: str, context: Context) -> None:
        told.append(("billing", body, context.deliveries))
        if context.deliveries == 1:
            raise RetryLater(3_600_000)

    async with testing.running(app, processes=2) as stage:
        await orders.publish("a", delay=timedelta(days=1))
        await stage.clock.advance(days=1)
        assert sorted(told) == [("billing", "a", 1), ("own", "a", 1)]
        await stage.kill("p1")
        await stage.clock.advance(hours=1)
        assert sorted(told) == [("billing", "a", 1), ("billing", "a", 2), ("own", "a", 1)]


async def test_a_test_of_yours_is_told_which_group_does_not_end() -> None:
    app = App()
    orders = app.queue("orders", str)
    billing, let_go = orders.group("billing"), anyio.Event()
    orders.handler()(lambda _body, _context: None)

    @billing.handler()
    async def bill(_body: str, _context: Context) -> None:
        await let_go.wait()

    async with testing.running(app, patience_s=0.5) as stage:
        await orders.publish("a", id="a")
        with pytest.raises(NotQuiet, match="in hand of orders/billing: a"):
            await stage.settle()
        let_go.set()
        await stage.settle()


async def test_an_app_of_groups_alone_is_refused_before_it_starts_if_its_lanes_differ(
    server: Server,
) -> None:
    async with App(redis_url=server.url, namespace="test") as other:
        await other.queue("orders", lanes=2).publish(1)
    app = App(redis_url=server.url, namespace="test")

    @app.queue("orders").group("billing").handler()
    async def charge(body: object, context: Context) -> None:
        pass

    async with app:
        with pytest.raises(LanesDiffer, match="orders: it has 2 lanes, and 1 are declared here"):
            await app.start()
