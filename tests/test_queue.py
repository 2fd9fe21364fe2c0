import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from delayq import InvalidMessage, Queue, Retry, Server
from delayq import schedule as schedule_module
from delayq.clock import Clock
from delayq.delivered import Malformed
from delayq.errors import GroupMissing
from delayq.keys import GROUP
from delayq.lease import Lease
from delayq.message import Delivery, Message
from delayq.pending import Pending
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client, MakeQueue
from tests.state import NOTHING, dump, messages, owners

FAR_MS = 10**14


async def fetched(pending: Pending, lease: Lease, start: str = "-", count: int = 100) -> list[str]:
    batch = await pending.fetch(lease, start, count)
    return [d.message.id for d in batch.deliveries if isinstance(d, Delivery)]


async def test_a_message_due_now_is_ready(client: Client, queue: Queue) -> None:
    receipt = await queue.publish({"n": 1}, id="a", key="k", headers={"h": "v"})
    assert await messages(client) == NOTHING | {"ready": ["a"]}
    [(entry, fields)] = await client.xrange(KEYS.stream)
    assert fields == {
        "id": "a",
        "body": '{"n":1}',
        "key": "k",
        "headers": '{"h":"v"}',
    }
    assert receipt.due_ms <= int(str(entry).split("-")[0])


async def test_a_delayed_message_is_scheduled(client: Client, queue: Queue) -> None:
    at = datetime(2040, 1, 1, tzinfo=UTC)
    assert (await queue.publish(1, id="a", deliver_at=at)).due_ms == at.timestamp() * 1000
    await queue.publish(2, id="b", delay=3600)
    assert await messages(client) == NOTHING | {"scheduled": ["b", "a"]}


async def test_what_breaks_a_limit_is_not_written(client: Client, queue: Queue) -> None:
    before = await dump(client)
    bad: list[tuple[str, dict[str, Any]]] = [
        ("body", {"body": object()}),
        ("delay", {"delay": -1}),
        ("delay", {"delay": math.nan}),
        ("delay", {"delay": "5"}),
        ("deliver_at", {"deliver_at": "2040"}),
        ("deliver_at", {"deliver_at": datetime(2040, 1, 1)}),  # noqa: DTZ001
        ("id", {"id": ""}),
        ("id", {"id": 5}),
        ("dedup_id", {"dedup_id": "d" * 129}),
        ("key", {"key": 5}),
        ("headers", {"headers": {"a": 1}}),
        ("dealy: no such option", {"dealy": 5}),
    ]
    for named, options in bad:
        with pytest.raises(InvalidMessage, match=f"^{named}"):
            await queue.publish(**({"body": 1} | options))
    assert await dump(client) == before


@pytest.mark.parametrize("delay", [0, 5, 7200])
async def test_a_repeated_publish_is_one(client: Client, queue: Queue, delay: float) -> None:
    first = await queue.publish(1, id="a", delay=delay)
    again = await queue.publish(1, id="a", delay=delay)
    assert (first.duplicate, again.duplicate, again.due_ms) == (False, True, first.due_ms)
    state = await messages(client)
    assert [*state["scheduled"], *state["ready"]] == ["a"]


async def test_a_publish_repeated_after_promotion_or_ack_is_one_message(
    client: Client, queue: Queue, schedule: Schedule, pending: Pending, lease: Lease
) -> None:
    first = await queue.publish(1, id="a", delay=1)
    await schedule.promote(now_ms=first.due_ms)
    assert (await queue.publish(1, id="a", delay=1)).duplicate
    batch = await pending.fetch(lease, "-", 1)
    await pending.ack(lease, [batch.deliveries[0].entry])
    assert (await queue.publish(1, id="a")).duplicate
    assert await messages(client) == NOTHING


async def test_an_id_whose_time_is_over_is_new_also_where_nothing_was_published_since(
    client: Client, queue: Queue
) -> None:
    first = await queue.publish(1, id="a")
    await client.zadd(KEYS.recent, {"i:a": first.due_ms - 1})
    assert not (await queue.publish(2, id="a")).duplicate
    assert len((await messages(client))["ready"]) == 2


async def test_what_was_published_lately_is_forgotten_in_time(client: Client, queue: Queue) -> None:
    await client.zadd(KEYS.recent, {f"{kind}:{n}": n for n in range(12) for kind in "cid"})
    await client.hset(KEYS.dedup, mapping={f"{k}:{n}": f"1 {n}" for n in range(12) for k in "cd"})
    for number in range(4):
        await queue.publish(1, id=f"{number}")
    assert await client.zcard(KEYS.recent) == 4
    assert await client.hlen(KEYS.dedup) == 0


async def test_a_publisher_is_remembered_once_however_much_it_publishes(
    client: Client, queue: Queue
) -> None:
    for number in range(20):
        await queue.publish(number)
        await queue.publish(number, delay=60)
    await queue.publish_many(range(2_000))
    assert await client.zcard(KEYS.recent) == await client.hlen(KEYS.dedup) == 2
    for key in (KEYS.recent, KEYS.dedup):
        assert 3_600_000 < await client.pttl(key) <= 7_200_000


async def test_what_is_known_for_long_does_not_end_sooner_as_others_know_less_long(
    client: Client, queue: Queue
) -> None:
    await replace(queue, dedup_window_s=86_400).publish(1, dedup_id="a")
    await queue.publish(2, dedup_id="b")
    await queue.publish(3)
    for key in (KEYS.recent, KEYS.dedup):
        assert await client.pttl(key) > 86_400_000


@pytest.mark.parametrize(
    "declared",
    [
        {"max_backlog": 0},
        {"dedup_window_s": 0.5},
        {"dedup_window_s": math.inf},
        {"patience_s": -1},
        {"patience_s": math.inf},
        {"patience_s": math.nan},
    ],
)
async def test_a_number_out_of_range_is_refused(
    make_queue: MakeQueue, declared: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(declared))}: "):
        make_queue(**declared)


async def test_a_fetch_that_failed_tells_its_repeat_of_no_deliveries_before_it(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish_many(range(5))
    assert len((await pending.fetch(lease, "-", 2, call="first")).deliveries) == 2
    await client.xgroup_destroy(KEYS.stream, GROUP)
    with pytest.raises(GroupMissing):
        await pending.fetch(lease, "-", 9, call="second")
    await pending.ensure_group()
    assert len((await pending.fetch(lease, "-", 9, call="second")).deliveries) == 5


async def test_equal_bodies_are_different_messages(
    client: Client, queue: Queue, schedule: Schedule
) -> None:
    ids = [(await queue.publish("same", delay=1)).id for _ in range(10)]
    assert await schedule.promote(now_ms=FAR_MS) == (10, None)
    assert (await messages(client))["ready"] == ids


@pytest.mark.parametrize("told", [None, "new"])
async def test_a_publish_due_now_overtakes_nothing_due(
    client: Client, queue: Queue, told: str | None
) -> None:
    before = await queue.publish(0)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    async with client.pipeline() as pipe:
        for number in range(300):
            member = f"{number + 1:012x}m{number}"
            pipe.zadd(KEYS.schedule, {member: past.timestamp() * 1000})
            pipe.hset(KEYS.bodies, f"m{number}", f'{number + 1:012x}["body","1"]')
        pipe.set(KEYS.arrival, 300)
        await pipe.execute()
    new = await queue.publish(1, id=told)
    schedule = Schedule(queue)
    while (await schedule.promote())[1] == 0:
        pass
    older = [before.id, *(f"m{n}" for n in range(300))]
    assert (await messages(client))["ready"] == [*older, new.id]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dues=st.lists(st.integers(0, 5), min_size=1, max_size=40))
@example(dues=[0] * 20)
async def test_messages_come_out_by_due_time_then_arrival(
    client: Client, queue: Queue, dues: list[int]
) -> None:
    await client.flushall()
    at = datetime(2040, 1, 1, tzinfo=UTC).timestamp()
    for number, due in enumerate(dues):
        moment = datetime.fromtimestamp(at + due / 1000, UTC)
        await queue.publish(number, id=str(number), deliver_at=moment)
    promoted, wait_s = await Schedule(queue).promote(now_ms=FAR_MS)
    assert (promoted, wait_s) == (len(dues), None)
    by_due = sorted(range(len(dues)), key=lambda number: dues[number])
    assert (await messages(client))["ready"] == [str(number) for number in by_due]
    assert not await client.exists(KEYS.arrival, KEYS.bodies, KEYS.schedule)


async def test_nothing_is_promoted_early_and_the_wait_is_told(
    queue: Queue, schedule: Schedule
) -> None:
    due_ms = (await queue.publish(1, delay=60)).due_ms
    assert await schedule.promote(now_ms=due_ms - 1) == (0, 0.001)
    assert await schedule.promote(now_ms=due_ms - 250) == (0, 0.25)
    assert await schedule.promote(now_ms=due_ms) == (1, None)


async def test_by_the_servers_clock_the_next_is_looked_for_a_little_early(
    queue: Queue, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.publish(1, delay=60)
    monkeypatch.setattr(schedule_module, "EARLY_S", 40)
    moved, wait_s = await schedule.promote()
    assert moved == 0
    assert wait_s is not None
    assert 15 < wait_s < 20
    monkeypatch.setattr(schedule_module, "EARLY_S", 80)
    assert await schedule.promote() == (0, 0.0), "at once, and nothing is moved before its time"


async def test_a_promotion_is_bounded(queue: Queue, schedule: Schedule) -> None:
    for number in range(66):
        await queue.publish(number, delay=1)
    assert await schedule.promote(now_ms=FAR_MS) == (64, 0.0)
    assert await schedule.promote(now_ms=FAR_MS) == (2, None)


TOO_MANY = "000000000001" + json.dumps(["body", "1"] * 5_000)


@pytest.mark.parametrize(
    "packed", [None, "", "000000000001{", "000000000001[1", "000000000001{}", TOO_MANY]
)
async def test_what_is_scheduled_and_no_message_goes_to_the_dead_stream(
    client: Client, queue: Queue, schedule: Schedule, packed: str | None
) -> None:
    await queue.publish(1, id="good", delay=1)
    await client.zadd(KEYS.schedule, {"000000000001bad": 1})
    if packed is not None:
        await client.hset(KEYS.bodies, "bad", packed)
    assert (await schedule.promote(now_ms=FAR_MS))[0] == 2
    assert await messages(client) == NOTHING | {"ready": ["good"], "dead": ["bad"]}


async def test_a_retry_and_an_earlier_publish_ring_the_bell(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    async def rung() -> str:
        entries = await client.xrange(KEYS.bell)
        return str(entries[0][0]) if entries else ""

    await queue.publish(1, delay=100)
    first = await rung()
    assert first
    await queue.publish(1, delay=200)
    assert await rung() == first
    await queue.publish(1, delay=50)
    second = await rung()
    assert second != first
    await queue.publish(1)
    delivery = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(delivery, Delivery)
    await pending.retry_later(lease, delivery, 10)
    assert await rung() != second


async def test_a_corrected_message_moves_with_its_new_body_if_it_is_as_it_was_seen(
    client: Client, make_queue: MakeQueue
) -> None:
    async def hook(_: Message) -> object:
        raise NotImplementedError

    queue = make_queue(on_due=hook)
    schedule = Schedule(queue)
    for name in ("a", "b", "c"):
        await queue.publish(name, id=name, key="k", delay=1)
    seen, _ = await schedule.due(now_ms=FAR_MS)
    assert [s.message.body for s in seen] == ["a", "b", "c"]
    corrected = [s.corrected(f'"{s.message.body.upper()}"') for s in seen]
    await client.zadd(KEYS.schedule, {seen[1].member: int(seen[1].score) + 1})
    assert await schedule.promote_as(corrected) == [True, False, True]
    assert await schedule.promote_as(corrected) == [False, False, False]
    assert await messages(client) == NOTHING | {"scheduled": ["b"], "ready": ["a", "c"]}
    bodies = [fields["body"] for _, fields in await client.xrange(KEYS.stream)]
    assert bodies == ['"A"', '"C"']


async def test_fetch_delivers_pending_first_in_order_then_new(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "abcd":
        await queue.publish(1, id=name)
    assert await fetched(pending, lease, count=2) == ["a", "b"]
    assert await fetched(pending, lease, count=3) == ["a", "b", "c"]
    rows = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 10)
    assert [row["times_delivered"] for row in rows] == [2, 2, 1]
    assert set((await owners(client)).values()) == {lease.holder}


async def test_a_fetch_whose_answer_was_lost_delivers_the_same_again(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "abc":
        await queue.publish(1, id=name)
    first = (await pending.fetch(lease, "-", 1)).deliveries[0].entry
    lost = await fetched(pending, lease, "(" + first, 1)
    again = await fetched(pending, lease, "(" + first, 1)
    assert lost == again == ["b"]


async def test_fetch_acknowledges_what_was_handled(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "abc":
        await queue.publish(1, id=name)
    batch = await pending.fetch(lease, "-", 2)
    entries = [d.entry for d in batch.deliveries]
    assert await pending.fetch(lease, "(" + entries[1], 1, entries)
    assert await messages(client) == NOTHING | {"pending": {"c": lease.holder}}
    assert await client.xlen(KEYS.stream) == 1


async def test_an_empty_fetch_tells_after_which_id_to_wait(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    assert (await pending.fetch(lease, "-", 1)).last_id == "0-0"
    await queue.publish(1)
    entry = (await pending.fetch(lease, "-", 1)).deliveries[0].entry
    assert (await pending.fetch(lease, "(" + entry, 1)).last_id == entry


async def test_a_last_delivery_is_made_alone(queue: Queue, pending: Pending, lease: Lease) -> None:
    for name in "abc":
        await queue.publish(1, id=name)
    for _ in range(4):
        assert await fetched(pending, lease) == ["a", "b", "c"]
    assert await fetched(pending, lease) == ["a"]
    first = (await pending.fetch(lease, "-", 10)).deliveries
    assert len(first) == 1
    assert await fetched(pending, lease, "(" + first[0].entry) == ["b"]


async def test_a_call_made_again_counts_no_delivery_twice(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish(1, id="a")
    entry = (await pending.fetch(lease, "-", 1, call="one")).deliveries[0].entry
    for call, deliveries in (("one", 1), ("two", 2), ("two", 2)):
        delivery = (await pending.fetch(lease, "-", 1, call=call)).deliveries[0]
        assert isinstance(delivery, Delivery)
        assert delivery.message.deliveries == deliveries
    for known in (
        1,
        2,
        2,
    ):  # as the caller knows it: whatever came between, a repeat counts no other
        delivery = (await pending.redeliver(lease, [(entry, known)]))[0]
        deliveries = known + 1
        assert isinstance(delivery, Delivery)
        assert delivery.message.deliveries == deliveries
    [row] = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 10)
    assert row["times_delivered"] == 3


async def test_a_fetch_made_again_after_another_call_counts_no_delivery_twice(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish_many([1, 2])
    first = (await pending.fetch(lease, "-", 1)).deliveries[0]
    await pending.fetch(lease, "(" + first.entry, 5, call="lost")
    await pending.redeliver(lease, [(first.entry, first.delivered)])
    again = await pending.fetch(lease, "(" + first.entry, 5, call="lost")
    assert [d.delivered for d in again.deliveries] == [1]


async def test_a_last_delivery_is_held_back_while_others_are_in_hand(
    client: Client, make_queue: MakeQueue, lease: Lease
) -> None:
    queue = make_queue(retry=Retry(max_deliveries=3))
    pending = Pending(queue)
    await pending.ensure_group()
    await client.xadd(KEYS.stream, {"id": "a", "body": "1", "published": "1", "deliveries": "2"})
    await queue.publish(1, id="b")
    busy = await pending.fetch(lease, "-", 5, busy=True)
    assert (busy.deliveries, busy.held_back) == ([], True)
    alone = await pending.fetch(lease, "-", 5)
    assert [d.delivered for d in alone.deliveries] == [1]
    assert not alone.held_back
    behind = await pending.fetch(lease, "(" + alone.deliveries[0].entry, 5, busy=True)
    assert [d.delivered for d in behind.deliveries] == [1], "what was held back is not counted"


async def test_a_batch_is_bounded_in_bytes(queue: Queue, pending: Pending, lease: Lease) -> None:
    await queue.publish_many(["x" * 400_000] * 100)
    start, sizes = "-", []
    while batch := (await pending.fetch(lease, start, 500)).deliveries:
        start = "(" + batch[-1].entry
        sizes.append(len(batch))
    assert sum(sizes) == 100
    assert max(sizes) <= 16


async def test_a_fetch_made_again_delivers_what_it_delivered_and_no_more(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "abc":
        await queue.publish(1, id=name)
    entries = [d.entry for d in (await pending.fetch(lease, "-", 3)).deliveries]
    for known in (1, 2, 3):
        await pending.redeliver(lease, [(entries[1], known)])
    for _ in range(2):
        again = (await pending.fetch(lease, "-", 3, call="same")).deliveries
        assert [d.entry for d in again] == [entries[0]], "the second is at its last delivery"


async def test_a_deleted_entry_before_a_last_delivery_does_not_stay_pending(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "ab":
        await queue.publish(1, id=name)
    for _ in range(4):
        batch = await pending.fetch(lease, "-", 2)
    await client.xdel(KEYS.stream, batch.deliveries[0].entry)
    assert await fetched(pending, lease) == ["b"]
    assert len(await owners(client)) == 1


async def test_an_entry_of_thousands_of_fields_blocks_nothing(
    client: Client, pending: Pending, lease: Lease
) -> None:
    await client.xadd(KEYS.stream, {"body": "1"} | {f"f{n}": "x" for n in range(5_000)})
    bad = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(bad, Malformed)
    assert await pending.dead_letter(lease, bad.entry, 1, "malformed", bad.reason)
    assert await owners(client) == {}


async def test_pending_entries_that_foreign_hands_deleted_block_nothing(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "abc":
        await queue.publish(1, id=name)
    batch = await pending.fetch(lease, "-", 3)
    await client.xdel(KEYS.stream, batch.deliveries[0].entry, batch.deliveries[1].entry)
    assert await fetched(pending, lease) == ["c"]
    assert len(await owners(client)) == 1


async def test_a_foreign_consumer_in_an_ordered_group_keeps_nothing(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for name in "ab":
        await queue.publish(1, id=name)
    await client.xreadgroup(GROUP, "foreign", {KEYS.stream: ">"}, count=1)
    assert await fetched(pending, lease) == ["a", "b"]
    assert set((await owners(client)).values()) == {lease.holder}


async def test_a_foreign_malformed_entry_is_told_apart(
    client: Client, pending: Pending, lease: Lease
) -> None:
    await client.xadd(KEYS.stream, {"other": "1"})
    await client.xadd(KEYS.stream, {"body": b"\xff\xfe"})
    await client.xadd(KEYS.stream, {"body": '{"ok":true}'})
    bad, worse, good = (await pending.fetch(lease, "-", 10)).deliveries
    assert isinstance(bad, Malformed)
    assert isinstance(worse, Malformed)
    assert isinstance(good, Delivery)
    assert good.message.body == {"ok": True}
    assert await pending.dead_letter(lease, worse.entry, 1, "malformed", worse.reason)
    raw = await client.xrange(KEYS.dead)
    assert raw[0][1]["body"].encode("utf-8", "surrogateescape") == b"\xff\xfe"


async def test_a_retried_message_keeps_its_id_fields_and_deliveries(
    client: Client, queue: Queue, schedule: Schedule, pending: Pending, lease: Lease
) -> None:
    published = await queue.publish({"n": 1}, id="a", key="k", headers={"h": "v"})
    delivery = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(delivery, Delivery)
    published_ms = delivery.message.published_ms
    assert 0 <= published_ms - published.due_ms <= 5, (
        "the entry's time; of a script in 6.2 a later one"
    )
    due_ms = await pending.retry_later(lease, delivery, 500)
    assert await pending.retry_later(lease, delivery, 500) == 0
    assert await messages(client) == NOTHING | {"scheduled": ["a"]}
    await schedule.promote(now_ms=due_ms)
    again = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(again, Delivery)
    message = again.message
    assert (message.id, message.body, message.key) == ("a", {"n": 1}, "k")
    assert (message.headers, message.deliveries) == ({"h": "v"}, 2)
    assert (message.due_ms, message.published_ms) == (due_ms, published_ms)
    await schedule.promote(now_ms=await pending.retry_later(lease, again, 500))
    third = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(third, Delivery)
    assert (third.message.deliveries, third.message.published_ms) == (3, published_ms)


async def test_when_each_was_published_is_told_of_each_that_is_promoted_at_once(
    client: Client, make_queue: MakeQueue
) -> None:
    class At(Clock):
        ms = 1_800_000_000_000

        def now_ms(self) -> int:
            return self.ms

    clock, published = At(), list[int]()
    queue = make_queue(clock=clock)
    for _ in range(3):
        published.append((await queue.publish("x", delay=60)).due_ms - 60_000)
        clock.ms += 1_000
    assert len(set(published)) == 3
    assert await Schedule(queue).promote(clock.ms + 60_000) == (3, None)
    found = [int(fields["published"]) for _, fields in await client.xrange(KEYS.stream)]
    assert found == published


async def test_two_foreign_entries_of_one_id_survive_each_others_retry(
    client: Client, pending: Pending, lease: Lease
) -> None:
    for body in ("1", "2"):
        await client.xadd(KEYS.stream, {"id": "same", "body": body})
    for delivery in (await pending.fetch(lease, "-", 2)).deliveries:
        assert isinstance(delivery, Delivery)
        await pending.retry_later(lease, delivery, 10)
    assert len((await messages(client))["scheduled"]) == 2


async def test_a_dead_letter_keeps_its_fields_and_says_why(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish({"n": 1}, id="a", key="k")
    entry = (await pending.fetch(lease, "-", 1)).deliveries[0].entry
    assert await pending.dead_letter(lease, entry, 3, "rejected", "x" * 5_000)
    assert not await pending.dead_letter(lease, entry, 3, "rejected", "again")
    assert await messages(client) == NOTHING | {"dead": ["a"]}
    [(_, fields)] = await client.xrange(KEYS.dead)
    assert (fields["body"], fields["key"], fields["entry"]) == ('{"n":1}', "k", entry)
    assert (fields["deliveries"], fields["reason"]) == ("3", "rejected")
    assert fields["error"] == "x" * 1_000


@pytest.mark.parametrize("count", [150, 256, 600])
async def test_reclaim_takes_everything_and_deletes_the_old_consumers(
    client: Client, pending: Pending, lease: Lease, count: int
) -> None:
    for number in range(count):
        await client.xadd(KEYS.stream, {"body": str(number)})
    for name in ("old@1", "older@0"):
        await client.xreadgroup(GROUP, name, {KEYS.stream: ">"}, count=count // 2)
    await client.xgroup_createconsumer(KEYS.stream, GROUP, "idle@2")
    taken, deleted, start = 0, set[str](), "-"
    while start:
        part = await pending.reclaim(lease, start)
        taken += len(part.owners)
        deleted |= set(part.deleted)
        start = part.next_start or ""
    assert taken == count
    assert deleted == {"old@1", "older@0", "idle@2"}
    assert set((await owners(client)).values()) == {lease.holder}
    rows = await client.xpending_range(KEYS.stream, GROUP, "-", "+", count)
    assert {row["times_delivered"] for row in rows} == {1}


async def test_inherit_takes_from_the_dead_alone(
    client: Client, pending: Pending, lease: Lease
) -> None:
    await client.hset(
        KEYS.lease("other"), mapping={"holder": "other@5", "epoch": "5", "connection": "0"}
    )
    for number in range(300):
        await client.xadd(KEYS.stream, {"body": str(number)})
    await client.xreadgroup(GROUP, "other@5", {KEYS.stream: ">"}, count=300)
    assert await pending.inherit(lease, "other@5", "") == -1
    await client.hset(KEYS.lease("other"), "connection", "7")
    assert await pending.inherit(lease, "other@5", "8") == -1
    assert await pending.inherit(lease, "other@5", "7") == 256
    assert not await client.exists(KEYS.lease("other"))
    assert await pending.inherit(lease, "other@5", "") == 44
    consumers = await client.xinfo_consumers(KEYS.stream, GROUP)
    assert [consumer["name"] for consumer in consumers] == [lease.holder]


async def test_stats_tell_what_is_where(queue: Queue, pending: Pending, lease: Lease) -> None:
    for _ in range(3):
        await queue.publish(1)
    due = await queue.publish(1, delay=60)
    delivery = (await pending.fetch(lease, "-", 2)).deliveries[0]
    await pending.dead_letter(lease, delivery.entry, 1, "why")
    stats = await queue.stats()
    assert (stats.scheduled, stats.ready, stats.pending, stats.dead) == (1, 1, 1, 1)
    assert (stats.next_due_ms, stats.holder) == ((due.due_ms,), lease.holder)


@pytest.mark.usefixtures("lease")
async def test_destroy_leaves_no_key(client: Client, queue: Queue) -> None:
    await queue.publish(1)
    await queue.publish(1, delay=5)
    await queue.destroy()
    assert await client.keys("*") == []


async def test_a_group_that_is_not_there_waits_for_memory(
    client: Client, queue: Queue, server: Server
) -> None:
    await client.config_resetstat()
    await client.config_set("maxmemory", "1")
    async with server.client() as other, anyio.create_task_group() as making:
        making.start_soon(Pending(queue).ensure_group)
        refused = "errorstat_OOM"
        while refused not in await other.info("errorstats"):
            await anyio.lowlevel.checkpoint()
        assert not await client.exists(KEYS.stream)
        await client.config_set("maxmemory", "0")
    assert [group["name"] for group in await client.xinfo_groups(KEYS.stream)] == [GROUP]
