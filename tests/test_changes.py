"""Changing what waits: cancel, reschedule, promote, purge."""

from datetime import UTC, datetime

import anyio
import pytest

from delayq import InvalidMessage, Queue, Server, ServerError
from delayq.events import Promoted
from delayq.lease import Lease
from delayq.pending import Pending
from delayq.publishing import PROMOTE_LIMIT
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client
from tests.roles import troupe
from tests.state import dump, messages

FAR_MS = 10**14


async def rung(client: Client) -> str:
    entries = await client.xrange(KEYS.bell)
    return str(entries[0][0]) if entries else ""


async def test_what_is_cancelled_is_gone_with_all_that_was_kept_for_it(
    client: Client, queue: Queue
) -> None:
    await queue.publish(1, id="a", delay=5, key="k")
    await queue.publish(2, id="b", delay=5)
    assert await queue.cancel("a")
    assert (await messages(client))["scheduled"] == ["b"]
    assert not await queue.cancel("a")
    assert await queue.cancel("b")
    assert await client.keys("test:{*") == [KEYS.bell]


async def test_a_cancelled_id_may_be_published_anew(client: Client, queue: Queue) -> None:
    for delay in (5, 3600):
        await queue.publish(1, id="a", delay=delay)
        assert await queue.cancel("a")
        assert not (await queue.publish(2, id="a", delay=delay)).duplicate
        assert (await messages(client))["scheduled"] == ["a"]
        assert await queue.cancel("a")


async def test_a_dedup_id_stays_known_when_its_message_is_cancelled(queue: Queue) -> None:
    await queue.publish(1, id="a", dedup_id="d", delay=5)
    await queue.cancel("a")
    assert (await queue.publish(1, id="b", dedup_id="d", delay=5)).duplicate


async def test_what_is_not_scheduled_cannot_be_changed(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish(1, id="pending")
    await pending.fetch(lease, "-", 1)
    await queue.publish(1, id="ready")
    await client.xadd(KEYS.dead, {"id": "dead", "body": "1"})
    before = await dump(client)
    for name in ("pending", "ready", "dead", "none", ""):
        assert not await queue.cancel(name)
        assert not await queue.reschedule(name, delay=5)
        assert not await queue.promote(name)
    assert await dump(client) == before


async def test_to_cancel_a_blocker_lets_its_key_go_on(client: Client, queue: Queue) -> None:
    await queue.publish(1, id="blocker", key="k", delay=5)
    await queue.publish(1, id="other", key="k", delay=5)
    await client.hset(KEYS.parked, mapping={"k": "0-0 5 blocker", "l": "0-0 5 x"})
    await queue.cancel("other")
    assert await client.hgetall(KEYS.parked) == {"k": "0-0 5 blocker", "l": "0-0 5 x"}
    await queue.cancel("blocker")
    assert await client.hgetall(KEYS.parked) == {"l": "0-0 5 x"}


async def test_a_malformed_body_can_be_cancelled(client: Client, queue: Queue) -> None:
    await client.hset(KEYS.parked, "k", "bad")
    for packed in ("", "{", "1", '[["key"],"k"]', '["key",["k"]]'):
        await client.zadd(KEYS.schedule, {"000000000001bad": 1})
        await client.hset(KEYS.bodies, "bad", f"000000000001{packed}")
        assert await queue.cancel("bad")
        assert await client.exists(KEYS.schedule, KEYS.bodies) == 0


async def test_a_rescheduled_message_keeps_its_arrival(client: Client, queue: Queue) -> None:
    at = datetime(2040, 1, 1, tzinfo=UTC)
    for name in "abc":
        await queue.publish(1, id=name, delay=60)
    for name in "cba":
        assert await queue.reschedule(name, deliver_at=at)
    scored = await client.zrange(KEYS.schedule, 0, -1, withscores=True)
    assert [(member[12:], score) for member, score in scored] == [
        (name, at.timestamp() * 1000) for name in "abc"
    ]


async def test_what_is_due_and_is_made_due_keeps_its_place(client: Client, queue: Queue) -> None:
    await client.zadd(KEYS.schedule, {"000000000001a": 1})
    await client.hset(KEYS.bodies, "a", '000000000001["body","1"]')
    assert await queue.promote("a")
    assert await client.zscore(KEYS.schedule, "000000000001a") == 1


async def test_the_bell_rings_at_a_new_earliest_time_alone(client: Client, queue: Queue) -> None:
    for number, name in enumerate("abc"):
        await queue.publish(1, id=name, delay=100 * (number + 1))
    first = await rung(client)
    await queue.reschedule("c", delay=150)
    await queue.reschedule("a", delay=120)
    assert await rung(client) == first
    await queue.reschedule("c", delay=10)
    assert await rung(client) != first


@pytest.mark.parametrize("delay", [-1, 10**13, "soon"])
async def test_a_time_that_breaks_a_limit_is_refused(queue: Queue, delay: float) -> None:
    await queue.publish(1, id="a", delay=5)
    with pytest.raises(InvalidMessage):
        await queue.reschedule("a", delay=delay)


async def test_a_publish_repeated_after_a_promotion_is_one_message(
    client: Client, queue: Queue
) -> None:
    await queue.publish(1, id="a", delay=3600)
    await queue.promote("a")
    await Schedule(queue).promote()
    assert await client.pttl(KEYS.recent) > 0
    assert (await queue.publish(1, id="a", delay=3600)).duplicate


async def test_a_sleeping_poller_is_woken_by_a_nearer_time(server: Server, queue: Queue) -> None:
    due_ms = (await queue.publish(1, id="a", delay=3600)).due_ms
    async with troupe(server, queue) as t:
        t.poller()
        await queue.publish(0)
        assert await queue.reschedule("a", delay=0.4)
        record = await queue.get("a")
        assert record
        assert record.due_ms
        assert record.due_ms < due_ms
        await t.tape.until(Promoted)
        stats = await queue.stats()
        assert stats.scheduled == 0
        assert stats.now_ms >= record.due_ms
        await queue.publish(2, id="b", delay=3600)
        place = t.tape.end
        with anyio.fail_after(0.5):  # by the bell: the safety poll comes within 1 s alone
            assert await queue.promote("b")
            await t.tape.until(Promoted, after=place)


@pytest.mark.parametrize("count", [3, PROMOTE_LIMIT, 2 * PROMOTE_LIMIT + 1])
async def test_the_schedule_is_purged(client: Client, queue: Queue, count: int) -> None:
    await queue.publish_many(
        [queue.message(n, id=f"s{n}", delay=5, key=f"k{n}") for n in range(count)]
    )
    await queue.publish(1, id="ready")
    await client.hset(KEYS.parked, mapping={"k0": "0-0 5 s0", "k1": "0-0 5 elsewhere"})
    assert await queue.purge("scheduled") == count
    assert await messages(client) == {
        "scheduled": [],
        "ready": ["ready"],
        "pending": {},
        "dead": [],
    }
    assert await client.hgetall(KEYS.parked) == {"k1": "0-0 5 elsewhere"}
    assert await client.zrange(KEYS.recent, 0, -1) == ["i:ready"]


@pytest.mark.parametrize("count", [3, PROMOTE_LIMIT, 2 * PROMOTE_LIMIT + 1])
async def test_what_is_ready_is_purged_and_nothing_that_is_pending(
    client: Client, queue: Queue, pending: Pending, lease: Lease, count: int
) -> None:
    await queue.publish_many([queue.message(n, id=f"m{n}") for n in range(count + 2)])
    await pending.fetch(lease, "-", 2)
    await queue.publish(1, id="later", delay=5)
    assert await queue.purge("ready") == count
    state = await messages(client)
    assert (state["scheduled"], state["ready"]) == (["later"], [])
    assert list(state["pending"]) == ["m0", "m1"]
    assert not (await queue.publish(1, id="m2")).duplicate
    assert (await queue.publish(1, id="m0")).duplicate


async def test_to_purge_a_blocker_that_is_ready_lets_its_key_go_on(
    client: Client, queue: Queue
) -> None:
    await queue.publish(1, id="blocker", key="k")
    await client.hset(KEYS.parked, mapping={"k": "0-0 5 blocker", "l": "0-0 5 x"})
    assert await queue.purge("ready") == 1
    assert await client.hgetall(KEYS.parked) == {"l": "0-0 5 x"}


async def test_where_there_is_nothing_nothing_is_purged(client: Client, queue: Queue) -> None:
    for state in ("scheduled", "ready", "dead"):
        assert await queue.purge(state) == 0
    assert await client.keys("*") == []
    with pytest.raises(ValueError, match="state"):
        await queue.purge("pending")  # type: ignore[arg-type]


async def test_a_stream_without_a_group_is_purged(client: Client, queue: Queue) -> None:
    await client.xadd(KEYS.stream, {"body": "1"})
    assert await queue.purge("ready") == 1


async def test_changes_go_on_at_maxmemory(client: Client, queue: Queue) -> None:
    for name in "abc":
        await queue.publish(1, id=name, delay=60)
    await queue.publish(1)
    await client.config_set("maxmemory", "1")
    assert await queue.cancel("a")
    assert await queue.promote("b")
    assert await queue.purge("scheduled") == 2
    assert await queue.purge("ready") == 1


@pytest.mark.parametrize("part", ["schedule", "bodies", "recent", "parked", "arrival", "bell"])
async def test_a_key_of_the_wrong_type_stops_it_before_anything_changes(
    client: Client, queue: Queue, part: str
) -> None:
    await queue.publish(1, id="a", delay=60)
    key = getattr(KEYS, part)
    await client.delete(key)
    await client.xadd(key, {"foreign": "1"}) if part != "bell" else await client.sadd(key, "x")
    before = await dump(client)
    touched = {"cancel": part != "bell", "reschedule": part not in ("arrival", "parked")}
    for name, is_touched in touched.items():
        if is_touched:
            with pytest.raises(ServerError, match=part):
                await (queue.cancel("a") if name == "cancel" else queue.promote("a"))
            assert await dump(client) == before
