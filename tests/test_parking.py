"""Parked keys: what else may happen to them while their messages wait."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delayq import Ordering, Retry, RetryLater, Server, scripts
from delayq.clock import Clock
from delayq.events import Parked
from delayq.lease import Lease, LeaseStore
from delayq.message import Delivery
from delayq.parking import Parking
from delayq.pending import Pending
from delayq.queue import Queue
from delayq.schedule import Schedule
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client, MakeQueue
from tests.failing import FAIL, LATER, dead, playing, publish

SOON = Retry(max_deliveries=30, base_ms=1, cap_ms=1)
HOUR_MS = 3_600_000
ordered = pytest.mark.parametrize("ordering", ["strict", "key"])


class Wound(Clock):
    """A clock that the test winds."""

    def __init__(self) -> None:
        self.at_ms = 10**12

    def now_ms(self) -> int:
        return self.at_ms


class Pause(RetryLater):
    """Waits until the test has all come back."""

    def __init__(self) -> None:
        super().__init__(HOUR_MS)


async def all_come_back(queue: Queue) -> None:
    """Have all that is scheduled be due now."""
    while (await Schedule(queue).promote(now_ms=10**14))[0]:
        pass


async def cancelled(client: Client, message_id: str) -> None:
    """Take a message off the schedule, as another program would."""
    [member] = [m for m in await client.zrange(KEYS.schedule, 0, -1) if m[12:] == message_id]
    await client.zrem(KEYS.schedule, member)
    await client.hdel(KEYS.bodies, message_id)


@ordered
async def test_what_was_met_before_its_blocker_goes_behind_it_and_before_what_comes_later(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}, concurrency=1) as play:
        play.held[0] = anyio.Event()
        await publish(queue, ("k", 1), ("other", 0), ("k", 2), ("k", 3))
        await play.begins(0)
        while await client.exists(KEYS.schedule):
            pass  # 1 comes back, behind 2 and 3
        await publish(queue, ("k", 4), ("k", 5))
        play.held[0].set()
        await play.drained()
    assert play.order_of("k") == [1, 2, 3, 4, 5]
    assert not await client.hgetall(KEYS.parked)


@ordered
@pytest.mark.parametrize("mark", ["cleared", "left"])
async def test_a_blocker_that_foreign_hands_took_away_holds_its_key_no_longer(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering, mark: str
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}) as play:
        play.failures[1] = Pause()
        await publish(queue, ("k", 1), ("k", 2), ("k", 3), ("k", 4))
        await play.waits("1", "2", "3", "4")
        await cancelled(client, "1")
        if mark == "cleared":
            await client.hdel(KEYS.parked, "k")
        await all_come_back(queue)
        with anyio.fail_after(10):
            await play.drained()
        await publish(queue, ("k", 5))
        await play.drained()
        assert len(play.t.tape.of(Parked)) < 20, "they do not chase each other"
    assert play.order_of("k") == [2, 3, 4, 5]
    assert not await client.hgetall(KEYS.parked)


@ordered
async def test_a_blocker_whose_deliveries_are_used_up_frees_its_key(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, Retry(3, 1, 1), on_failure="park")
    async with playing(server, client, queue, {1: [FAIL] * 9}) as play:
        await publish(queue, ("k", 1), ("k", 2), ("other", 3), ("k", 4))
        await play.drained()
    assert play.begun.count(("k", 1)) == 3
    assert play.order_of("k") == [2, 4]
    assert await dead(client) == [(1, "max deliveries")]
    assert not await client.hgetall(KEYS.parked)


@ordered
async def test_keys_that_are_free_again_are_forgotten(
    server: Server,
    client: Client,
    make_queue: MakeQueue,
    ordering: Ordering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = []

    class Watched(Parking):
        def __init__(self, pending: Pending) -> None:
            super().__init__(pending)
            every.append(self)

    monkeypatch.setattr("delayq.ordered.Parking", Watched)
    queue = make_queue(ordering, Retry(3, 1, 1), on_failure="park")
    plan = {n: [FAIL] for n in range(20)} | {0: [FAIL] * 9, 99: [FAIL]}
    async with playing(server, client, queue, plan) as play:
        play.failures[99] = Pause()
        await publish(queue, ("held", 99), ("held", 100), *((f"k{n}", n) for n in range(20)))
        await play.done(*range(1, 20))
        with anyio.fail_after(5):
            [parking] = every
            while parking._blockers != {"held": "99"}:
                await anyio.lowlevel.checkpoint()


@ordered
async def test_parked_keys_stay_parked_over_takeovers(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL], 11: [FAIL]}) as play:
        play.failures |= {1: Pause(), 11: Pause()}
        await publish(queue, ("a", 1), ("b", 11), ("a", 2), ("b", 12))
        await play.waits("1", "2", "11", "12")
        await play.takeover()
        await publish(queue, ("a", 3), ("b", 13), ("c", 21))
        await play.done(21)
        assert not {("a", 3), ("b", 13)} & set(play.begun), "their keys are parked"
        await play.waits("3", "13")
        await play.takeover()
        await all_come_back(queue)
        await play.drained()
    assert (play.order_of("a"), play.order_of("b")) == ([1, 2, 3], [11, 12, 13])
    assert play.begun.count(("a", 2)) == 1, "what waits is not delivered"
    assert not await client.hgetall(KEYS.parked)


async def test_more_parked_messages_than_one_promotion_moves_come_in_order(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", SOON, on_failure="park")
    async with playing(server, client, queue, {0: [FAIL]}) as play:
        play.failures[0] = Pause()
        await publish(queue, *(("k", n) for n in range(400)))
        await play.waits("0", "399")
        for n in range(400, 460):
            await publish(queue, ("k", n))
            if n % 20 == 0:
                await play.takeover()
        await all_come_back(queue)
        await play.drained()
    assert play.order_of("k") == list(range(460))


async def test_a_message_without_a_key_parks_nobody(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict", SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}) as play:
        await publish(queue, (None, 1), (None, 2))
        await play.drained()
    assert play.order == [2, 1]
    assert not play.t.tape.of(Parked)


async def test_the_waiting_messages_of_a_parked_key_keep_their_deliveries(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", Retry(2, 1, 1), on_failure="park")
    async with playing(server, client, queue, {1: [LATER], 2: [FAIL]}) as play:
        await publish(queue, ("k", 1), ("k", 2), ("k", 3))
        await play.drained()
    assert play.order_of("k") == [1, 2, 3], "waiting counts as no delivery"
    assert await dead(client) == []


@dataclass
class Steps:
    """What consumer and poller do with the messages of a lane, one step at a time."""

    queue: Queue
    lease: Lease
    published: list[tuple[str, int]] = field(default_factory=list)
    handled: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = Pending(self.queue)
        self.parking = Parking(self.pending)
        self.start = "-"

    async def publish(self, key: str) -> None:
        number = len(self.published)
        self.published.append((key, number))
        await self.queue.publish(number, key=key, id=str(number))

    async def promote(self, limit: int) -> int:
        """Have this many come back from the schedule."""
        k = self.queue.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead]
        moved, _ = await scripts.run(self.queue.client, "promote", keys, [10**14, limit])
        return int(moved)

    async def meet(self, *, fails: bool = False) -> int | None:
        """Fetch one message, and handle it if it may pass; tell which one it was."""
        deliveries = (await self.pending.fetch(self.lease, self.start, 1)).deliveries
        if not deliveries:
            return None
        delivery = deliveries[0]
        assert isinstance(delivery, Delivery)
        self.start = "(" + delivery.entry
        message, number = delivery.message, int(str(delivery.message.body))
        if self.parking.blocker(message) is not None:
            lost, looks = self.parking.looked_for(message), self.parking.looks(message)
            found = await self.pending.park(self.lease, delivery, lost=lost, looks=looks)
            if not self.parking.heard(message, found):
                return number
        if fails:
            await self.pending.retry_later(self.lease, delivery, HOUR_MS, park=True)
            self.parking.park(message)
        else:
            freed = (str(message.key), message.id) if self.parking.knows(message) else ("", "")
            await self.pending.ack(self.lease, [delivery.entry], freed)
            await self.parking.free(message)
            self.handled.append((str(message.key), number))
        return number

    async def take_over(self) -> None:
        self.parking, self.start = Parking(self.pending), "-"
        await self.parking.load()

    async def drain(self) -> None:
        left = 10 * len(self.published) + 10
        while await self.meet() is not None or await self.promote(256):
            left -= 1
            assert left, "they go round and round"


async def ready(client: Client, queue: Queue) -> Steps:
    await Pending(queue).ensure_group()
    lease = await LeaseStore(Anchor(client), KEYS, "c1", 10).acquire(KEYS.lease())
    assert isinstance(lease, Lease)
    return Steps(queue, lease)


async def test_one_that_waited_is_not_overtaken_by_a_newer_one_that_goes_behind_the_blocker_first(
    client: Client, queue: Queue
) -> None:
    steps = await ready(client, queue)
    await steps.publish("k")
    await steps.publish("k")
    assert await steps.meet(fails=True) == 0
    assert await steps.meet() == 1
    assert await steps.promote(1) == 1
    await steps.publish("k")
    assert await steps.promote(1) == 1
    # The stream is 0, 2, 1 now: 2 is met before 1, which has waited for 0 before.
    assert await steps.meet(fails=True) == 0
    assert (await steps.meet(), await steps.meet()) == (2, 1)
    assert steps.handled == []
    await steps.drain()
    assert steps.handled == [("k", 0), ("k", 1), ("k", 2)]
    assert not await client.exists(KEYS.parked, KEYS.waiting, KEYS.schedule)


MOVES = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["a", "a", "b"])),
    st.tuples(st.just("promote"), st.integers(1, 3)),
    st.tuples(st.just("meet"), st.booleans()),
    st.tuples(st.just("meet"), st.booleans()),
    st.tuples(st.just("take over"), st.none()),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=st.lists(MOVES, min_size=20, max_size=50))
async def test_however_steps_interleave_each_key_is_handled_in_order(
    client: Client, queue: Queue, moves: list[tuple[str, object]]
) -> None:
    await client.flushall()
    steps = await ready(client, queue)
    for move in moves:
        match move:
            case ("publish", str(key)):
                await steps.publish(key)
            case ("promote", int(limit)):
                await steps.promote(limit)
            case ("meet", bool(fails)):
                await steps.meet(fails=fails)
            case _:
                await steps.take_over()
    await steps.drain()
    for key in ("a", "b"):
        assert [m for m in steps.handled if m[0] == key] == [
            m for m in steps.published if m[0] == key
        ]
    assert not await client.exists(KEYS.parked, KEYS.waiting, KEYS.schedule)


class Counted:
    """Counts the calls of each script."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def __call__(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls[name] += 1
        return await call()


@pytest.fixture
def counted() -> Iterator[Counter[str]]:
    around = Counted()
    scripts.interpose(around)
    yield around.calls
    scripts.interpose(None)


async def test_a_failure_sends_only_the_next_few_round(
    server: Server, client: Client, make_queue: MakeQueue, counted: Counter[str]
) -> None:
    queue, many, times = make_queue("key", SOON, on_failure="park"), 1_000, 5
    async with playing(server, client, queue, {0: [FAIL] * times, 500: [FAIL] * times}) as play:
        await publish(queue, *(("k", n) for n in range(many)))
        await play.drained()
    assert play.order_of("k") == list(range(many))
    # Each goes behind the first failure once, and asks once whether it may pass.
    assert counted["park"] <= 2 * many + 2 * times * 34


async def test_what_waits_is_not_due_and_not_shown_as_next(client: Client, queue: Queue) -> None:
    steps = await ready(client, queue)
    for _ in range(3):
        await steps.publish("k")
    assert await steps.meet(fails=True) == 0
    assert (await steps.meet(), await steps.meet()) == (1, 2)
    await queue.publish("later", key="l", delay=2 * HOUR_MS / 1000, id="later")
    page = await queue.list("scheduled")
    assert [r.id for r in page.records if r.due_ms is None] == ["1", "2"]
    assert len((await queue.stats()).next_due_ms) == 2, "of the blocker, and of what is published"
    await queue.reschedule("0")
    moved, _ = await Schedule(queue).promote()
    assert moved == 1, "the blocker alone"


async def settled(how: str, steps: Steps) -> None:
    """Settle the first message of a parked key."""
    if how == "cancel":
        await steps.queue.cancel("0")
        return
    await steps.queue.promote("0")
    await Schedule(steps.queue).promote()
    if how == "purge":
        await steps.queue.purge("ready")
    elif how == "dead letter":
        [delivery] = (await steps.pending.fetch(steps.lease, steps.start, 1)).deliveries
        await steps.pending.dead_letter(steps.lease, delivery.entry, 2, "rejected")
    elif how == "skip":
        [delivery] = (await steps.pending.fetch(steps.lease, steps.start, 1)).deliveries
        assert isinstance(delivery, Delivery)
        await steps.pending.halt(steps.lease, delivery, "why", "")
        await steps.queue.resume(skip=True)
    else:
        assert await steps.meet() == 0


@pytest.mark.parametrize("how", ["ack", "dead letter", "skip", "cancel", "purge"])
async def test_whoever_settles_the_first_lets_the_next_few_go(
    client: Client, queue: Queue, how: str
) -> None:
    steps = await ready(client, queue)
    for _ in range(41):
        await steps.publish("k")
    assert await steps.meet(fails=True) == 0
    assert [await steps.meet() for _ in range(40)] == list(range(1, 41))
    rung = await client.xrevrange(KEYS.bell, count=1)
    await settled(how, steps)
    assert await client.xrevrange(KEYS.bell, count=1) != rung, "the poller wakes"
    moved, wait_s = await Schedule(queue).promote()
    assert moved == 32
    assert wait_s is not None
    assert wait_s > 10, "the others are held"
    assert [await steps.meet() for _ in range(32)] == list(range(1, 33)), "in their order"


async def test_a_message_that_waits_for_its_own_retry_is_not_made_due_early(
    client: Client, queue: Queue
) -> None:
    steps = await ready(client, queue)
    for _ in range(3):
        await steps.publish("k")
    assert await steps.meet(fails=True) == 0
    assert (await steps.meet(), await steps.meet()) == (1, 2)
    await queue.reschedule("1", delay=HOUR_MS / 1000)
    await queue.cancel("0")
    moved, wait_s = await Schedule(queue).promote()
    assert moved == 0
    assert wait_s is not None
    assert wait_s < HOUR_MS / 1000, "2 is held, behind it"
    await queue.promote("1")
    await steps.drain()
    assert steps.handled == [("k", 1), ("k", 2)]


@pytest.mark.parametrize("keys", [1, 2])
async def test_a_lost_message_frees_its_key_after_the_safety_time(
    client: Client, make_queue: MakeQueue, keys: int
) -> None:
    clock = Wound()
    queue = make_queue("key", SOON, on_failure="park", clock=clock)
    steps = await ready(client, queue)
    names = ["k", "l"][:keys]
    for n in range(4 * keys):
        await steps.publish(names[n % keys])
    for n in range(4 * keys):
        assert await steps.meet(fails=n < keys) == n
    for n in range(keys):
        await cancelled(client, str(n))
    clock.at_ms += HOUR_MS + 10_000 + 10 * 4 * keys
    assert (await Schedule(queue).promote())[0] < 3 * keys, "not all at once"
    clock.at_ms += 10 * 4 * keys
    for _ in range(6 * keys):
        await Schedule(queue).promote()
        while await steps.meet() is not None:
            pass
    for n, name in enumerate(names):
        assert [m for k, m in steps.handled if k == name] == [n + keys * i for i in (1, 2, 3)]
    assert not await client.exists(KEYS.parked, KEYS.waiting, KEYS.schedule)
