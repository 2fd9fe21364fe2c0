"""The groups of a queue, transition by transition: what one does, and what the others see of it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from delayq import InvalidName, LaneKeys, Message, Poller, Queue, Server
from delayq.errors import GroupInUse, GroupMissing
from delayq.groups import slowest
from delayq.keys import GROUP
from delayq.lease import Lease, LeaseStore
from delayq.message import Delivery
from delayq.pending import Pending
from delayq.publishing import PROMOTE_LIMIT
from delayq.resize import resize
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client, MakeQueue
from tests.sides import Side, side
from tests.state import dump

Settle = Callable[[Side, Delivery], Awaitable[object]]
SETTLED: dict[str, Settle] = {
    "acknowledged": lambda s, d: s.pending.ack(s.lease, [d.entry]),
    "acknowledged with a fetch": lambda s, d: s.fetch(d.entry),
    "retried": lambda s, d: s.pending.retry_later(s.lease, d, 5),
    "retried, and its key parked": lambda s, d: s.pending.retry_later(s.lease, d, 5, park=True),
    "put off": lambda s, d: s.pending.put_off(s.lease, d.entry, 5),
    "dead": lambda s, d: s.pending.dead_letter(s.lease, d.entry, 1, "why"),
}


@pytest.mark.parametrize("ends", SETTLED)
@pytest.mark.parametrize("first", [0, 1])
async def test_an_entry_is_kept_until_both_are_done_with_it(
    client: Client, ours: Side, theirs: Side, first: int, ends: str
) -> None:
    one, other = (ours, theirs) if first == 0 else (theirs, ours)
    await ours.queue.publish("a", key="k")
    delivery = await one.one()
    await SETTLED[ends](one, delivery)
    assert await client.xlen(KEYS.stream) == 1, "not read by the other"
    assert await other.one() == delivery
    await SETTLED[ends](one, delivery)
    assert await client.xlen(KEYS.stream) == 1, "pending for the other"
    await SETTLED[ends](other, delivery)
    assert await client.xlen(KEYS.stream) == 0


AGAIN: dict[str, Settle] = {
    **{ends: SETTLED[ends] for ends in SETTLED if ends != "acknowledged with a fetch"},
    "acknowledged, and its key freed": lambda s, d: s.pending.ack(
        s.lease, [d.entry], ("k", d.message.id)
    ),
    "put behind what it waits for": lambda s, d: s.pending.park(s.lease, d),
}


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("ends", AGAIN)
async def test_what_is_kept_for_another_group_is_settled_once(
    client: Client, ours: Side, theirs: Side, ends: str, first: int, *, read: bool
) -> None:
    """A call made again after a lost reply finds the entry in the stream."""
    one, other = (ours, theirs) if first == 0 else (theirs, ours)
    await ours.queue.publish_many([ours.queue.message(n, key="k") for n in range(3)])
    blocker, delivery, _ = await one.fetch()
    assert isinstance(blocker, Delivery)
    assert isinstance(delivery, Delivery)
    await one.pending.retry_later(one.lease, blocker, 60_000, park=True)
    if read:
        await other.fetch()
    await AGAIN[ends](one, delivery)
    before = await dump(client)
    assert await AGAIN[ends](one, delivery) in {0, 2}, "it is gone"
    assert await dump(client) == before
    assert len(await client.xrange(KEYS.stream)) == 3


async def test_a_lane_does_not_halt_at_what_is_kept_for_another_group(
    ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a", id="a")
    delivery = await ours.one()
    assert await ours.pending.halt(ours.lease, delivery, "why", "")
    assert await ours.queue.resume(skip=True) == ("a",)
    assert not await ours.pending.halt(ours.lease, delivery, "why", "")
    assert await ours.pending.halted() is None
    assert (await theirs.one()).message.id == "a"


async def test_a_message_that_was_cancelled_while_it_waited_may_not_pass(
    ours: Side, theirs: Side
) -> None:
    await ours.queue.publish_many([ours.queue.message(n, id=str(n), key="k") for n in range(2)])
    for each in (ours, theirs):
        blocker, delivery = await each.fetch()
        assert isinstance(blocker, Delivery)
        assert isinstance(delivery, Delivery)
        await each.pending.retry_later(each.lease, blocker, 60_000, park=True)
        assert await each.pending.park(each.lease, delivery) == 1
        for message_id in "01":
            await each.queue.cancel(message_id)
        assert await each.pending.park(each.lease, delivery) == 2


async def test_what_one_acknowledges_is_deleted_one_by_one(
    client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish_many(range(5))
    entries = [d.entry for d in await ours.fetch()]  # type: ignore[attr-defined]
    await theirs.fetch(count=4)
    await theirs.pending.ack(theirs.lease, entries[1:3])
    await ours.pending.ack(ours.lease, entries)
    assert [entry for entry, _ in await client.xrange(KEYS.stream)] == [entries[0], *entries[3:]]


async def test_a_retry_comes_back_to_its_group_alone(
    client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a", id="a")
    delivery = await theirs.one()
    await ours.pending.ack(ours.lease, [(await ours.one()).entry])
    await theirs.pending.retry_later(theirs.lease, delivery, 5)
    assert (await ours.queue.stats()).scheduled == 0
    assert (await theirs.queue.stats()).scheduled == 1
    assert (await ours.promote(), await theirs.promote()) == (0, 1)
    assert await ours.fetch() == []
    assert (await ours.queue.stats()).pending == 0, "it is done with what it passed unseen"
    again = await theirs.one()
    assert again.message == Message("a", "a", None, {}, *again.message[4:6], deliveries=2)
    await theirs.pending.ack(theirs.lease, [again.entry])
    assert await client.xlen(KEYS.stream) == 0


async def test_a_retry_of_the_queues_own_handler_comes_back_to_it_alone(
    ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a")
    await ours.pending.retry_later(ours.lease, await ours.one(), 5)
    await theirs.pending.ack(theirs.lease, [(await theirs.one()).entry])
    assert await ours.promote() == 1
    assert await theirs.fetch() == []
    assert (await ours.one()).message.deliveries == 2


async def test_what_a_group_publishes_is_for_all(ours: Side, theirs: Side) -> None:
    await theirs.queue.publish("now")
    await theirs.queue.publish("later", delay=60)
    assert ((await ours.queue.stats()).scheduled, (await theirs.queue.stats()).scheduled) == (1, 0)
    assert (await ours.one()).message.body == "now"
    assert (await theirs.one()).message.body == "now"


@pytest.mark.parametrize("count", [1, 10])
async def test_much_that_is_for_others_is_passed_in_one_call_or_two(
    ours: Side, theirs: Side, count: int
) -> None:
    await ours.queue.publish_many(range(700))
    for delivery in await theirs.fetch(count=700):
        await theirs.pending.retry_later(theirs.lease, delivery, 0)  # type: ignore[arg-type]
    for delivery in await ours.fetch(count=700):
        await ours.pending.ack(ours.lease, [delivery.entry])  # type: ignore[attr-defined]
    while await theirs.promote():
        pass
    await ours.queue.publish("behind them")
    passed = await ours.pending.fetch(ours.lease, "(0", count)
    assert (passed.deliveries, passed.last_id) == ([], ""), "there is more"
    [delivery] = await ours.fetch(count=count)
    assert delivery.message.body == "behind them"  # type: ignore[attr-defined]


async def test_what_is_pending_for_a_dead_one_and_for_another_group_is_passed(
    client: Client, make_queue: MakeQueue
) -> None:
    """As an older delayq left it."""
    queue = make_queue("none")
    ours, theirs = await side(client, queue), await side(client, queue.group("billing"))
    await queue.publish("a")
    await ours.pending.ack(ours.lease, [(await ours.one()).entry])
    await theirs.pending.retry_later(theirs.lease, await theirs.one(), 0)
    await theirs.promote()
    words = ("GROUP", GROUP, ours.lease.holder, "STREAMS", KEYS.stream, ">")
    [[_, [[entry, _]]]] = await client.execute_command("XREADGROUP", *words)
    assert await ours.pending.redeliver(ours.lease, [(entry, 1)]) == []
    assert (await queue.stats()).pending == 0
    await theirs.pending.ack(theirs.lease, [(await theirs.one()).entry])
    assert await client.xlen(KEYS.stream) == 0


@pytest.mark.parametrize("ends", ["retried", "retried, and its key parked", "put off", "dead"])
async def test_what_came_back_for_one_group_is_not_kept_for_one_that_is_away(
    client: Client, ours: Side, theirs: Side, ends: str
) -> None:
    await theirs.queue.publish("a", key="k")
    await theirs.pending.retry_later(theirs.lease, await theirs.one(), 0)
    for _ in range(3):
        await theirs.promote()
        assert await client.xlen(KEYS.stream) == 2
        delivery = await theirs.one()
        await SETTLED[ends](theirs, delivery)
        assert await client.xlen(KEYS.stream) == 1, "what was published is kept"
        await theirs.queue.dead.redrive()
    assert (await ours.one()).message.deliveries == 1


async def test_a_retry_says_for_whom_it_is_only_where_there_are_others(
    client: Client, ours: Side
) -> None:
    await ours.queue.publish("a")
    await ours.pending.retry_later(ours.lease, await ours.one(), 5)
    await ours.promote()
    [(_, fields)] = await client.xrange(KEYS.stream)
    assert "for" not in fields


async def test_a_poller_of_a_group_promotes_both_schedules(
    server: Server, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a")
    await theirs.pending.retry_later(theirs.lease, await theirs.one(), 60_000)
    due_ms = (await ours.queue.publish("b", delay=30)).due_ms
    poller = Poller(server, theirs.queue)
    assert await poller.turn(due_ms - 500) == 0.5
    assert await poller.turn(due_ms + 60_000) == math.inf
    assert (await theirs.queue.stats()).ready == 2
    assert (await theirs.queue.stats()).scheduled == (await ours.queue.stats()).scheduled == 0


async def test_a_last_delivery_of_another_group_holds_nothing_back(
    client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    ours, theirs = await side(client, queue), await side(client, queue.group("billing"))
    await queue.publish("a")
    entry = (await theirs.one()).entry
    message = Message("a", "a", deliveries=queue.retry.max_deliveries - 1)  # type: ignore[operator]
    await theirs.pending.retry_later(theirs.lease, Delivery(entry, message, 1), 0)
    await theirs.promote()
    await queue.publish("b")
    batch = await ours.pending.fetch(ours.lease, "-", 10, busy=True)
    assert [type(d) for d in batch.deliveries] == [Delivery, Delivery]
    assert not batch.held_back
    alone = await theirs.pending.fetch(theirs.lease, "-", 10, busy=True)
    assert alone.held_back, "in its own group it is the last"


async def test_a_group_begins_at_the_beginning_of_what_is_kept_or_now(
    client: Client, queue: Queue, ours: Side
) -> None:
    await queue.publish_many(["gone", "kept"])
    gone, _ = await ours.fetch()
    await ours.pending.ack(ours.lease, [gone.entry])  # type: ignore[attr-defined]
    early = await side(client, queue.group("early"))
    late = await side(client, queue.group("late", start="now"))
    await queue.publish("new")
    assert [d.message.body for d in await early.fetch()] == ["kept", "new"]  # type: ignore[attr-defined]
    assert [d.message.body for d in await late.fetch()] == ["new"]  # type: ignore[attr-defined]


async def test_a_group_that_foreign_hands_took_away_begins_with_what_is_kept(
    client: Client, queue: Queue
) -> None:
    late = await side(client, queue.group("late", start="now"))
    await queue.publish("a")
    await client.xgroup_destroy(KEYS.stream, "late")
    with pytest.raises(GroupMissing):
        await late.fetch()
    await late.pending.make_group_anew()
    assert (await late.one()).message.body == "a"


async def test_dead_letters_are_sent_again_to_their_group_alone(
    client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a", id="a")
    for each in (ours, theirs):
        await each.pending.dead_letter(each.lease, (await each.one()).entry, 1, each.queue.name)
    assert await client.xlen(KEYS.stream) == 0
    assert (await ours.queue.stats()).dead == (await theirs.queue.stats()).dead == 1
    assert await theirs.queue.dead.redrive() == 1
    assert (await ours.queue.stats()).dead == 1
    await theirs.promote()
    assert await ours.fetch() == []
    assert (await theirs.one()).message[:2] == ("a", "a")
    assert await ours.queue.dead.redrive() == 1
    await ours.promote()
    assert (await ours.one()).message.body == "a"
    [redriven] = await theirs.fetch()
    assert isinstance(redriven, Delivery)
    assert redriven.message.deliveries == 2, "its own, that is pending still"


async def test_nothing_is_sent_again_to_a_group_that_is_not_there(
    client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a")
    await theirs.pending.dead_letter(theirs.lease, (await theirs.one()).entry, 1, "why")
    await client.xgroup_destroy(KEYS.stream, "billing")
    with pytest.raises(GroupMissing):
        await theirs.queue.dead.redrive()
    assert (await theirs.queue.stats()).dead == 1


async def test_keys_are_parked_for_their_group(ours: Side, theirs: Side) -> None:
    await ours.queue.publish_many([ours.queue.message(n, key="k") for n in (1, 2)])
    one, two = await theirs.fetch()
    assert isinstance(one, Delivery)
    assert isinstance(two, Delivery)
    await theirs.pending.retry_later(theirs.lease, one, 5, park=True)
    assert await theirs.pending.park(theirs.lease, two) == 1
    assert await theirs.pending.parked() == {"k": one.message.id}
    assert await ours.pending.parked() == {}
    assert ((await ours.queue.stats()).parked, (await theirs.queue.stats()).parked) == (0, 1)
    await theirs.promote()
    first, second = await theirs.fetch()
    assert isinstance(first, Delivery)
    assert isinstance(second, Delivery)
    assert (first.message.body, second.message.body) == (1, 2)
    await theirs.pending.ack(theirs.lease, [first.entry], ("k", first.message.id))
    assert await theirs.pending.park(theirs.lease, second) == 3


async def test_a_lane_halts_and_goes_on_for_its_group(ours: Side, theirs: Side) -> None:
    await ours.queue.publish("a", id="a")
    delivery = await theirs.one()
    assert await theirs.pending.halt(theirs.lease, delivery, "why", "")
    assert (await ours.queue.stats()).halted is None
    assert (await theirs.queue.stats()).halted is not None
    assert await ours.queue.resume() == ()
    assert await theirs.queue.resume(skip=True) == ("a",)
    assert ((await ours.queue.stats()).dead, (await theirs.queue.stats()).dead) == (0, 1)
    assert (await ours.queue.stats()).ready == 1


@pytest.mark.parametrize("acked", [0, 3])
async def test_stats_of_a_group_are_what_is_for_it(
    client: Client, ours: Side, theirs: Side, acked: int
) -> None:
    await ours.queue.publish_many(range(10))
    entries = [d.entry for d in await ours.fetch(count=7)]  # type: ignore[attr-defined]
    await theirs.fetch(count=2)
    await ours.pending.ack(ours.lease, entries[:acked])
    mine, other = await ours.queue.stats(), await theirs.queue.stats()
    assert (mine.ready, mine.pending) == (3, 7 - acked)
    assert (other.ready, other.pending) == (8, 2)
    await theirs.pending.ack(theirs.lease, entries[1:2])  # a gap in what is kept
    mine, other = await ours.queue.stats(), await theirs.queue.stats()
    assert (mine.ready, other.ready, other.pending) == (3, 8, 1)
    assert other.oldest_ms is not None
    assert mine.oldest_ms is not None
    assert await client.xlen(KEYS.stream) == (9 if acked else 10)


@pytest.mark.parametrize("count", [99, 100, 250])
async def test_what_the_server_does_not_count_is_counted_one_by_one(
    client: Client, ours: Side, theirs: Side, count: int
) -> None:
    await ours.queue.publish_many(range(count))
    first, second = await ours.fetch(count=2)
    await client.xdel(KEYS.stream, second.entry)  # type: ignore[attr-defined] # by another program
    assert isinstance(first, Delivery)
    await client.xdel(KEYS.stream, (await client.xrevrange(KEYS.stream, count=2))[1][0])
    assert (await theirs.queue.stats()).ready == count - 2


@pytest.mark.parametrize("read", [0, 3, 120])
async def test_what_is_too_much_to_be_counted_is_told_by_what_was_read(
    client: Client, ours: Side, theirs: Side, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.browse._COUNTED", 200)
    await ours.queue.publish_many(range(400))
    every = [entry for entry, _ in await client.xrange(KEYS.stream)]
    await client.xdel(KEYS.stream, every[-2])  # by another program
    if read:
        await theirs.fetch(count=read)
    assert (await theirs.queue.stats()).ready == 399 - read


async def test_a_group_that_is_not_there_has_nothing(queue: Queue, theirs: Side) -> None:
    await queue.publish("a")
    stats = await queue.stats()
    assert (stats.ready, stats.pending, stats.oldest_ms) == (0, 0, None)
    assert await queue.purge("ready") == 0
    assert (await theirs.one()).message.body == "a"


async def test_the_limit_of_the_backlog_counts_what_is_kept_for_the_slowest(
    make_queue: MakeQueue, client: Client
) -> None:
    queue = make_queue(max_backlog=3)
    ours, theirs = await side(client, queue), await side(client, queue.group("billing"))
    await queue.publish_many([1, 2])
    entries = [d.entry for d in await ours.fetch()]  # type: ignore[attr-defined]
    await ours.pending.ack(ours.lease, entries)
    await queue.publish(3)
    with pytest.raises(Exception, match="3 messages"):
        await queue.publish(4)
    for delivery in await theirs.fetch():
        assert isinstance(delivery, Delivery)
        await theirs.pending.retry_later(theirs.lease, delivery, 60_000)
    [last] = await ours.fetch()
    await ours.pending.ack(ours.lease, [last.entry])  # type: ignore[attr-defined]
    assert await client.xlen(KEYS.stream) == 0


async def test_purging_what_is_ready_is_for_one_group(
    client: Client, ours: Side, theirs: Side
) -> None:
    count = PROMOTE_LIMIT + 3
    await ours.queue.publish_many(range(count))
    [begun] = await theirs.fetch(count=1)
    assert await theirs.queue.purge("ready") == count - 1
    assert await client.xlen(KEYS.stream) == count
    assert (await theirs.queue.stats()).ready == 0
    await ours.queue.publish("new")
    assert [d.message.body for d in (await theirs.fetch())[1:]] == ["new"]  # type: ignore[attr-defined]
    assert await ours.queue.purge("ready") == count + 1
    assert await client.xlen(KEYS.stream) == 2, "what is pending stays"
    assert isinstance(begun, Delivery)


async def test_purging_what_comes_back_for_another_group_frees_no_key(
    ours: Side, theirs: Side
) -> None:
    await ours.queue.publish_many([ours.queue.message(n, id=str(n), key="k") for n in range(2)])
    for each in (ours, theirs):
        blocker, follower = await each.fetch()
        assert isinstance(blocker, Delivery)
        assert isinstance(follower, Delivery)
        await each.pending.retry_later(each.lease, blocker, 60_000, park=True)
        assert await each.pending.park(each.lease, follower) == 1
    await theirs.promote()
    assert await ours.queue.purge("ready") == 2
    assert await ours.pending.parked() == {"k": "0"}
    assert await theirs.queue.purge("scheduled") == 0
    assert len(await theirs.fetch()) == 2


async def test_a_group_dropped_leaves_what_the_others_want(
    client: Client, ours: Side, theirs: Side
) -> None:
    count = 2 * PROMOTE_LIMIT + 5
    await ours.queue.publish_many(
        range(count),
    )
    entries = [d.entry for d in await ours.fetch(count=count)]  # type: ignore[attr-defined]
    await ours.pending.ack(ours.lease, entries[5:])
    fetched = await theirs.fetch(count=PROMOTE_LIMIT + 9)
    dead, later = fetched[0], fetched[1]
    assert isinstance(later, Delivery)
    await theirs.pending.dead_letter(theirs.lease, dead.entry, 1, "why")  # type: ignore[attr-defined]
    await theirs.pending.retry_later(theirs.lease, later, 60_000)
    with pytest.raises(GroupInUse, match="c1"):
        await theirs.queue.drop()
    await client.delete(theirs.lease.key)
    assert await theirs.queue.drop()
    assert [entry for entry, _ in await client.xrange(KEYS.stream)] == entries[:5]
    assert await ours.queue.groups() == (GROUP,)
    assert await client.keys("*:group:*") == []
    await ours.pending.ack(ours.lease, entries)
    assert await client.xlen(KEYS.stream) == 0
    assert not await theirs.queue.drop(), "it is gone"


async def test_the_only_group_dropped_leaves_the_messages(client: Client, theirs: Side) -> None:
    await theirs.queue.publish_many(range(3))
    await theirs.fetch(count=1)
    await theirs.store.release(theirs.lease)
    assert await theirs.queue.drop()
    assert await client.xlen(KEYS.stream) == 3
    assert await theirs.queue.groups() == ()


async def test_a_competing_consumer_keeps_its_group_from_being_dropped(
    client: Client, queue: Queue
) -> None:
    billing = queue.group("billing")
    await Pending(billing).ensure_group()
    store = LeaseStore(Anchor(client), billing.keys, "c1", 10)
    lease = await store.acquire(billing.keys.lease("c1"))
    assert isinstance(lease, Lease)
    await queue.publish("a")
    await Pending(billing).fetch(lease, "-", 1)
    with pytest.raises(GroupInUse, match=r"c1@"):
        await billing.drop()


async def test_a_group_is_dropped_in_all_lanes_or_in_none(
    client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(lanes=3)
    billing = queue.group("billing", ordering="strict")
    sides = [await side(client, lane) for lane in billing.every_lane]
    await queue.publish_many(range(30))
    assert (await billing.stats()).ready == (await queue.seen_by("billing").stats()).ready == 30
    for each in sides[:2]:
        await each.store.release(each.lease)
    with pytest.raises(GroupInUse, match=r"orders/billing: c1@"):
        await billing.drop()
    assert await client.xinfo_groups(billing.every_lane[0].keys.stream)
    await sides[2].store.release(sides[2].lease)
    assert await billing.drop()
    assert await queue.groups() == ()
    await queue.destroy()
    assert await client.keys("*{*") == []


async def test_a_foreign_field_is_not_taken_for_a_group(client: Client, ours: Side) -> None:
    await client.xadd(KEYS.stream, {"body": "1", "for": "alice"})
    assert (await ours.one()).message.body == 1


async def test_the_own_group_dropped_leaves_the_schedule(
    client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("later", delay=60)
    await ours.store.release(ours.lease)
    assert await ours.queue.drop()
    assert (await ours.queue.stats()).scheduled == 1
    assert await theirs.queue.groups() == ("billing",)
    await ours.promote()
    await theirs.pending.ack(theirs.lease, [(await theirs.one()).entry])
    assert await client.xlen(KEYS.stream) == 0


async def test_a_queue_destroyed_leaves_no_key_of_any_group(
    client: Client, ours: Side, theirs: Side
) -> None:
    before = {key for key in await client.keys("*") if "{orders:0}" not in key}
    await ours.queue.publish("a")
    await theirs.pending.dead_letter(theirs.lease, (await theirs.one()).entry, 1, "why")
    await ours.queue.destroy()
    assert set(await client.keys("*")) == before


async def test_a_message_is_looked_for_as_a_group_sees_it(ours: Side, theirs: Side) -> None:
    await ours.queue.publish("a", id="a")
    await ours.pending.ack(ours.lease, [(await ours.one()).entry])
    assert await ours.queue.get("a") is None, "done with, and kept for the other"
    found = await theirs.queue.get("a")
    assert found
    assert found.state == "ready"
    await theirs.pending.retry_later(theirs.lease, await theirs.one(), 5)
    found = await theirs.queue.get("a")
    assert found
    assert found.state == "scheduled"
    assert await theirs.queue.cancel("a")


async def test_the_slowest_is_for_whom_most_is_kept(ours: Side, theirs: Side) -> None:
    assert slowest(await ours.queue.every_stats()) is None
    await ours.queue.publish("later", delay=60)
    assert slowest(await ours.queue.every_stats()) is None
    await ours.queue.publish_many([1, 2])
    entries = [d.entry for d in await ours.fetch()]  # type: ignore[attr-defined]
    await ours.pending.ack(ours.lease, entries[:1])
    assert slowest(await ours.queue.every_stats()) == "billing"
    for delivery in await theirs.fetch():
        await theirs.pending.retry_later(theirs.lease, delivery, 60_000)  # type: ignore[arg-type]
    assert slowest(await ours.queue.every_stats()) == "billing", "retries count"
    await theirs.queue.purge("scheduled")
    assert slowest(await ours.queue.every_stats()) == GROUP


async def test_a_queue_is_not_resized_while_something_is_for_a_group(
    ours: Side, theirs: Side
) -> None:
    await ours.queue.publish("a")
    await ours.pending.ack(ours.lease, [(await ours.one()).entry])
    delivery = await theirs.one()
    await theirs.pending.dead_letter(theirs.lease, delivery.entry, 1, "why")
    for each in (ours, theirs):
        await each.store.release(each.lease)
    assert await resize(ours.queue, 2) == {0: "1 dead"}
    assert await theirs.queue.dead.purge() == 1
    assert await resize(ours.queue, 2) == {}


async def test_a_lane_that_goes_leaves_of_its_groups_their_epochs(
    client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(lanes=2)
    _, last = queue.group("billing", ordering="strict").every_lane
    theirs = await side(client, last)
    await last.publish("a", key="k")
    await theirs.pending.dead_letter(theirs.lease, (await theirs.one()).entry, 1, "why")
    assert await last.dead.purge() == 1
    await theirs.store.release(theirs.lease)
    assert await client.exists(last.keys.dead)
    assert await resize(queue, 1) == {}
    assert await client.keys("*:1}:*") == [last.keys.epoch]


@pytest.mark.parametrize("part", ["schedule", "dead", "lease"])
async def test_a_lane_does_not_go_that_is_used_for_a_group_meanwhile(
    client: Client, make_queue: MakeQueue, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> str:
        return ""

    queue = make_queue(lanes=2)
    _, last = queue.group("billing", ordering="strict").every_lane
    theirs = await side(client, last)
    await last.publish("a", key="k")
    delivery = await theirs.one()
    if part == "schedule":
        await theirs.pending.retry_later(theirs.lease, delivery, 60_000)
    elif part == "dead":
        await theirs.pending.dead_letter(theirs.lease, delivery.entry, 1, "why")
    else:
        await theirs.pending.ack(theirs.lease, [delivery.entry])
    if part != "lease":
        await theirs.store.release(theirs.lease)
    monkeypatch.setattr("delayq.resize._held", nothing)
    assert await resize(queue, 1) == {1: "used right now"}
    assert await client.exists(last.keys.stream)


def test_no_key_of_a_group_is_one_of_another() -> None:
    names = [GROUP, "lease", "group", "stream", "a", "group.a"]
    every = [replace(KEYS, group=name) for name in names]
    own = [key for keys in every for key in [*keys.own, keys.lease("a"), keys.lease("lease")]]
    shared = {KEYS.stream, KEYS.recent, KEYS.dedup, KEYS.ticked}
    assert len({*own, *shared}) == len(own) + len(shared)
    assert {keys.stream for keys in every} == {KEYS.stream}
    assert all(keys.shared == KEYS for keys in every)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "x" * 129])
async def test_the_name_of_a_group_is_checked(queue: Queue, name: str) -> None:
    with pytest.raises(InvalidName, match="group"):
        queue.group(name)
    with pytest.raises(InvalidName, match="group"):
        LaneKeys("test", "orders", group=name)


async def test_what_is_declared_of_a_group_is_its_own(make_queue: MakeQueue) -> None:
    queue = make_queue("key", max_backlog=7)
    billing = queue.group("billing", on_failure="park", start="now")
    assert (billing.ordering, billing.on_failure, billing.start) == ("none", "park", "now")
    assert (billing.full_name, queue.full_name) == ("orders/billing", "orders")
    assert (billing.max_backlog, queue.ordering) == (7, "key")
    with pytest.raises(ValueError, match="start"):
        queue.group("x", start="later")  # type: ignore[arg-type]
