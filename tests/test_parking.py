"""Parked keys: what else may happen to them while their messages wait."""

from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delayq import Ordering, Retry, RetryLater, Server, scripts
from delayq.anchor import Anchor
from delayq.events import Parked
from delayq.lease import Lease, LeaseStore
from delayq.message import Delivery
from delayq.parking import Parking
from delayq.pending import Pending
from delayq.queue import Queue
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client, MakeQueue
from tests.failing import FAIL, LATER, dead, playing, publish

SOON = Retry(max_deliveries=30, base_ms=1, cap_ms=1)
HOUR_MS = 3_600_000
ordered = pytest.mark.parametrize("ordering", ["strict", "key"])


class Pause(RetryLater):
    """Waits until the test has all come back."""

    def __init__(self) -> None:
        super().__init__(HOUR_MS)


async def all_come_back(queue: Queue) -> None:
    """Have all that is scheduled be due now."""
    while (await Schedule(queue).promote(now_ms=10**14))[0]:
        pass


async def cancelled(client: Client, message_id: str) -> None:
    """Take a message off the schedule, as foreign hands would."""
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
            lost = self.parking.looked_for(message)
            found = await self.pending.park(self.lease, delivery, lost=lost)
            if not self.parking.heard(message, found):
                return number
        if fails:
            await self.pending.retry_later(self.lease, delivery, HOUR_MS, park=True)
            self.parking.park(message)
        else:
            freed = (str(message.key), message.id) if self.parking.knows(message) else ("", "")
            await self.pending.ack(self.lease, [delivery.entry], freed)
            self.parking.free(message)
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
