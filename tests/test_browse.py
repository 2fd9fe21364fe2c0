"""Looking at a queue: counting, finding, listing; and what another program left in it."""

import json
from typing import Any

import pytest

from delayq import Queue, ServerError
from delayq.browse import Browser, Halted
from delayq.errors import InvalidCursor
from delayq.keys import GROUP
from delayq.lease import Lease
from delayq.message import Delivery
from delayq.pending import Pending
from delayq.record import Record, State
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client
from tests.state import dump

STATES: tuple[State, ...] = ("scheduled", "ready", "pending", "dead")


async def every(queue: Queue, state: State, limit: int = 500) -> list[Record]:
    page = await queue.list(state, limit)
    records = page.records
    while page.next:
        page = await queue.list(state, limit, page.next)
        records += page.records
    return records


async def one_in_each_place(queue: Queue, pending: Pending, lease: Lease) -> None:
    for name in ("dead", "pending", "ready"):
        await queue.publish({"n": name}, id=name, key="k", headers={"h": "v"})
    await queue.publish({"n": "scheduled"}, id="scheduled", key="k", headers={"h": "v"}, delay=60)
    first, _ = (await pending.fetch(lease, "-", 2)).deliveries
    await pending.dead_letter(lease, first.entry, 3, "why", "what")


async def test_nothing_at_all_is_counted_as_nothing(client: Client, queue: Queue) -> None:
    stats = await queue.stats()
    assert (stats.scheduled, stats.ready, stats.pending, stats.dead, stats.lag) == (0, 0, 0, 0, 0)
    assert (stats.holder, stats.epoch, stats.since_ms, stats.halted) == (None, None, None, None)
    assert (stats.oldest_ms, stats.next_due_ms, stats.consumers) == (None, (), {})
    assert await client.keys("*") == []
    for state in STATES:
        assert await every(queue, state) == []
    assert await queue.get("a") is None


async def test_a_stream_without_a_group_is_ready(client: Client, queue: Queue) -> None:
    await client.xadd(KEYS.stream, {"body": "1"})
    assert (await queue.stats()).ready == 1
    assert (await queue.stats()).oldest_ms is not None
    assert [record.body for record in await every(queue, "ready")] == [1]
    assert await every(queue, "pending") == []


async def test_counts_are_one_snapshot_that_changes_nothing(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await one_in_each_place(queue, pending, lease)
    await client.hset(KEYS.lease(), "since", 123)
    await client.hset(KEYS.parked, mapping={"k1": "a", "k2": "b"})
    await client.hset(KEYS.halted, mapping={"id": "a", "reason": "why", "error": "what"})
    before = await dump(client)
    stats = await queue.stats()
    assert (stats.scheduled, stats.ready, stats.pending, stats.dead) == (1, 1, 1, 1)
    assert stats.lag == 1
    assert (stats.holder, stats.epoch, stats.since_ms) == (lease.holder, lease.epoch, 123)
    assert stats.consumers == {lease.holder: 1}
    assert (stats.parked, stats.halted) == (2, Halted("a", "why", "what"))
    assert stats.next_due_ms[0] > stats.now_ms
    assert await dump(client) == before


async def test_the_oldest_is_that_which_waits_longest_whether_pending_or_ready(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    seconds, _ = await client.time()
    for ago in (100, 50, 20):
        await client.xadd(KEYS.stream, {"body": "1"}, id=f"{(seconds - ago) * 1000}-1")
    batch = await pending.fetch(lease, "-", 2)
    for ago, settled in ((100, batch.deliveries[0]), (50, batch.deliveries[1]), (20, None)):
        assert ago * 1000 <= ((await queue.stats()).oldest_ms or 0) < (ago + 5) * 1000
        if settled:
            await pending.ack(lease, [settled.entry])


@pytest.mark.parametrize("part", ["stream", "schedule", "dead", "parked", "halted"])
async def test_a_key_of_the_wrong_type_is_named(client: Client, queue: Queue, part: str) -> None:
    await client.sadd(getattr(KEYS, part), "foreign")
    with pytest.raises(ServerError, match=part):
        await queue.stats()


async def test_each_message_is_found_where_it_is(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await one_in_each_place(queue, pending, lease)
    before = await dump(client)
    for state in STATES:
        record = await queue.get(state)
        assert record is not None
        assert [record] == await every(queue, state)
        assert (record.state, record.id, record.body) == (state, state, {"n": state})
        assert (record.key, record.headers) == ("k", {"h": "v"})
        assert (record.entry == "") == (state == "scheduled")
        assert record.consumer == (lease.holder if state == "pending" else None)
        assert record.deliveries == {"dead": 3, "pending": 1}.get(state, 0)
        assert (record.reason, record.error) == (
            ("why", "what") if state == "dead" else (None,) * 2
        )
        assert (record.dead_ms is None) == (state != "dead")
        assert record.due_ms
        assert record.published_ms
    assert await queue.get("none") is None
    assert await dump(client) == before


async def test_what_is_far_back_is_found_in_bounded_pages(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    async with client.pipeline() as pipe:
        for number in range(1_201):
            pipe.xadd(KEYS.stream, {"id": f"m{number}", "body": "1"})
        await pipe.execute()
    await client.config_resetstat()
    found = await queue.get("m1200")
    assert found is not None
    assert found.state == "ready"
    assert (await client.info("commandstats"))["cmdstat_xrange"]["calls"] == 3
    while batch := (await pending.fetch(lease, "-", 500)).deliveries:
        await pending.ack(lease, [d.entry for d in batch[:499]])
        if len(batch) < 500:
            break
    found = await queue.get("m1200")
    assert found is None


async def test_a_message_that_goes_back_to_the_schedule_meanwhile_is_found(
    client: Client, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Browser._range

    async def moving(browser: Browser, state: State, stream: str, *part: Any) -> list[Record]:
        if await client.xlen(KEYS.stream):
            await client.delete(KEYS.stream)
            await queue.publish(1, id="b", delay=60)
        return await read(browser, state, stream, *part)

    await queue.publish(1, id="a")
    monkeypatch.setattr(Browser, "_range", moving)
    found = await queue.get("b")
    assert found
    assert found.state == "scheduled"


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_pages_together_are_the_whole_list_in_order(
    client: Client, queue: Queue, pending: Pending, lease: Lease, limit: int
) -> None:
    for number in range(20):
        await queue.publish(number, id=f"s{number}", delay=60 + number % 3)
        await queue.publish(number, id=f"r{number}")
        await client.xadd(KEYS.dead, {"id": f"d{number}"})
    await pending.fetch(lease, "-", 10)
    ids = {state: [record.id for record in await every(queue, state, limit)] for state in STATES}
    assert ids["scheduled"] == [f"s{n}" for rest in range(3) for n in range(rest, 20, 3)]
    assert ids["pending"] == [f"r{n}" for n in range(10)]
    assert ids["ready"] == [f"r{n}" for n in range(10, 20)]
    assert ids["dead"] == [f"d{n}" for n in range(20)]


async def test_paging_skips_and_repeats_nothing_while_messages_are_removed(
    client: Client, queue: Queue
) -> None:
    due_ms = 10**13
    async with client.pipeline() as pipe:
        for number in range(1_000):
            member = f"{number + 1:012x}m{number}"
            pipe.zadd(KEYS.schedule, {member: due_ms})
            pipe.hset(KEYS.bodies, f"m{number}", f'{number + 1:012x}["body","{number}"]')
        await pipe.execute()
    seen: list[Any] = []
    after = ""
    while True:
        page = await queue.list("scheduled", 30, after)
        seen += [record.body for record in page.records]
        if page.next is None:
            break
        after = page.next
        # The place of the cursor, one before it, and the last: gone between the pages.
        assert await queue.cancel(f"m{seen[-1]}")
        assert await queue.cancel(f"m{seen[-2]}")
    assert seen == list(range(1_000))


async def test_ready_pages_pass_over_what_was_delivered_meanwhile(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    for number in range(10):
        await queue.publish(number)
    page = await queue.list("ready", 2)
    await pending.fetch(lease, "-", 5)
    assert page.next
    assert [r.body for r in (await queue.list("ready", 10, page.next)).records] == [5, 6, 7, 8, 9]


async def test_what_foreign_hands_wrote_is_listed(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    entries: list[dict[Any, Any]] = [
        {"what": "ever"},
        {"body": "no json", "due": "soon", "deliveries": "many", "published": ""},
        {"body": "NaN", "headers": "[1]", "due": "inf"},
        {"body": '{"a":1}', "headers": '{"n":1}', "key": ""},
        {"body": "[" * 5_000 + "]" * 5_000},
        {"body": b"\xff\xfe", "id": b"\xff"},
        {"body": "[" * 100_000},
        {f"f{number}": "v" for number in range(300)},
    ]
    for entry in entries:
        await client.xadd(KEYS.stream, entry)
        await client.xadd(KEYS.dead, entry)
    for packed in ("", "{", "[1]", '["body"]', "[]", '["key","k"]', "[" * 100_000):
        await client.zadd(KEYS.schedule, {f"{len(packed):012x}{packed[:9]}x": "inf"})
        await client.hset(KEYS.bodies, f"{packed[:9]}x", f"{len(packed):012x}{packed}")
    await client.zadd(KEYS.schedule, {"short": 1.5, "": -3})
    assert [r.body for r in await every(queue, "ready", 3)][1:4] == ["no json", "NaN", {"a": 1}]
    batch = await pending.fetch(lease, "-", 100)
    await client.xdel(KEYS.stream, batch.deliveries[0].entry)
    for state, count in (("pending", 8), ("dead", 8), ("scheduled", 9)):
        records = await every(queue, state, 3)  # type: ignore[arg-type]
        assert len(records) == count
        for record in records:
            assert json.dumps(record.body) is not None
    assert (await every(queue, "pending"))[0].consumer == lease.holder
    found = await queue.get("{x")
    assert found
    assert (found.body, found.due_ms) == ("{", None)


@pytest.mark.parametrize(("depth", "kind"), [(150, list), (300, str)])
async def test_a_body_nested_too_deeply_is_shown_as_its_text(
    client: Client, queue: Queue, depth: int, kind: type
) -> None:
    await client.xadd(KEYS.stream, {"body": "[" * depth + "]" * depth})
    [record] = await every(queue, "ready")
    assert isinstance(record.body, kind)


async def test_a_buried_letter_shows_its_raw_text(
    client: Client, queue: Queue, schedule: Schedule
) -> None:
    await client.zadd(KEYS.schedule, {"000000000001bad": 1})
    await client.hset(KEYS.bodies, "bad", "000000000001{")
    await schedule.promote()
    [record] = await every(queue, "dead")
    assert (record.id, record.body, record.due_ms) == ("bad", "000000000001{", 1)
    assert record.reason == "malformed"


async def test_a_letter_that_never_had_an_id_bears_that_of_its_entry(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    entry = await client.xadd(KEYS.stream, {"body": "1"})
    delivery = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(delivery, Delivery)
    await pending.dead_letter(lease, delivery.entry, 1, "why")
    found = await queue.get(str(entry))
    assert found
    assert (found.state, found.id) == ("dead", entry)
    assert found.due_ms == found.published_ms == int(str(entry).split("-")[0])


@pytest.mark.parametrize("after", ["x", "é", "bnVsbA", "W10", "WyJyZWFkeSIsICJ4Il0"])
async def test_what_is_no_cursor_is_refused(queue: Queue, after: str) -> None:
    for state in STATES:
        with pytest.raises(InvalidCursor, match="after"):
            await queue.list(state, 10, after)


async def test_a_cursor_of_another_list_is_refused(queue: Queue) -> None:
    for _ in range(2):
        await queue.publish(1)
    page = await queue.list("ready", 1)
    assert page.next
    with pytest.raises(InvalidCursor):
        await queue.list("dead", 1, page.next)


async def test_a_state_or_limit_that_is_none_is_refused(queue: Queue) -> None:
    for state, limit in (("gone", 1), ("ready", 0), ("ready", 501)):
        with pytest.raises(ValueError, match=r"state|limit"):
            await queue.list(state, limit)  # type: ignore[arg-type]


async def test_other_groups_are_not_ours(client: Client, queue: Queue) -> None:
    await queue.publish(1)
    await client.xgroup_create(KEYS.stream, GROUP, "0")
    await client.xgroup_create(KEYS.stream, "other", "0")
    await client.xreadgroup("other", "o1", {KEYS.stream: ">"})
    stats = await queue.stats()
    assert (stats.ready, stats.pending, stats.consumers) == (1, 0, {})
