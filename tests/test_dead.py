"""Dead letters: sent again, deleted, and what becomes of their order."""

from typing import Any

import anyio
import pytest

from delayq import Queue, Reject, Server, ServerError
from delayq.dead import Redriven
from delayq.events import DeadLettered
from delayq.lease import Lease
from delayq.message import Delivery
from delayq.pending import Pending
from delayq.publishing import PROMOTE_LIMIT
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe
from tests.state import dump, messages

FAR_MS = 10**14


async def letters(client: Client, count: int, **fields: str) -> None:
    async with client.pipeline() as pipe:
        for number in range(count):
            entry: dict[Any, Any] = {"id": f"m{number}", "body": str(number), "due": "7"}
            pipe.xadd(KEYS.dead, entry | fields)
        await pipe.execute()


async def died(queue: Queue, pending: Pending, lease: Lease, *names: str) -> None:
    for name in names:
        await queue.publish(name, id=name, key="k", headers={"h": "v"})
    batch = await pending.fetch(lease, "-", len(names))
    for delivery in batch.deliveries:
        await pending.dead_letter(lease, delivery.entry, 3, "why", "what")


async def test_a_redriven_message_is_as_it_was_published(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await died(queue, pending, lease, "a")
    [letter] = (await queue.dead.list()).records
    assert await queue.dead.redrive() == 1
    state = await messages(client)
    assert (state["scheduled"], state["dead"]) == (["a"], [])
    now_ms = (await queue.stats()).now_ms
    record = await queue.get("a")
    assert record
    assert record.due_ms
    assert now_ms - 5_000 < record.due_ms <= now_ms
    assert (record.published_ms, record.deliveries) == (letter.published_ms, 0)
    await Schedule(queue).promote()
    delivery = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(delivery, Delivery)
    message = delivery.message
    assert (message.id, message.body, message.key, message.headers) == ("a", "a", "k", {"h": "v"})
    assert message.deliveries == 1
    [(_, fields)] = await client.xrange(KEYS.stream)
    assert set(fields) == {"id", "due", "body", "key", "headers", "published"}


async def test_redriven_messages_keep_their_order_and_overtake_nothing(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await died(queue, pending, lease, "a", "b", "c")
    await queue.publish(1, id="ready")
    await client.zadd(KEYS.schedule, {"000000000001due": 1})
    await client.hset(KEYS.bodies, "due", '000000000001["body","1"]')
    await client.set(KEYS.arrival, 1)
    assert await queue.dead.redrive() == 3
    await Schedule(queue).promote(now_ms=FAR_MS)
    assert (await messages(client))["ready"] == ["ready", "due", "a", "b", "c"]


async def test_a_redriven_message_rings_the_bell_and_is_handled(
    server: Server, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    async with troupe(server, queue) as t:
        t.failing[1] = [Reject("once")]
        t.poller()
        t.consumer("c1")
        await queue.publish(1)
        await t.settled(1)
        assert await queue.dead.redrive() == 1
        await t.settled(2)
        assert t.bodies == [1, 1]


async def test_to_redrive_rings_the_bell(client: Client, queue: Queue) -> None:
    await letters(client, 1)
    await queue.publish(1, delay=60)
    before = await client.xrange(KEYS.bell)
    await queue.dead.redrive()
    assert await client.xrange(KEYS.bell) != before


async def test_to_redrive_while_handlers_fail_again_comes_to_an_end(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        for body in range(5):
            t.failing[body] = [Reject("always") for _ in range(100)]
        t.poller()
        t.consumer("c1")
        await publish(queue, *range(5))
        await t.settled(5)

        # With each page the messages before it are dead again before the next one is read.
        moved: list[Redriven] = []
        assert await queue.dead.redrive(rate=20, on_page=moved.append) == 5
        assert len(moved) > 1
        await t.settled(10)
        assert len(t.tape.of(DeadLettered)) == 10
        assert (await queue.stats()).dead == 5


@pytest.mark.parametrize("count", [1, PROMOTE_LIMIT, 2 * PROMOTE_LIMIT + 1])
async def test_all_pages_are_redriven(client: Client, queue: Queue, count: int) -> None:
    await letters(client, count)
    seen: list[Redriven] = []
    assert await queue.dead.redrive(on_page=seen.append) == count
    assert seen[-1] == Redriven(count, 0)
    pages = [b.moved - a.moved for a, b in zip([Redriven(), *seen], seen, strict=False)]
    assert max(pages) <= 64
    assert (await messages(client))["scheduled"] == [f"m{n}" for n in range(count)]


async def test_what_is_asked_for_is_redriven_or_deleted_alone(client: Client, queue: Queue) -> None:
    await letters(client, 300, reason="one")
    await letters(client, 3, reason="two", id="x")
    assert await queue.dead.redrive(ids=["m299", "m0", "none", "m0"]) == 2
    assert await queue.dead.redrive(ids=[]) == 0
    assert await queue.dead.redrive(reason="none") == 0
    assert await queue.dead.redrive(reason="two", ids=["m1"]) == 0
    assert await queue.dead.purge(ids=["m1", "m298"]) == 2
    assert await queue.dead.purge(ids=[]) == 0
    assert await queue.dead.redrive(reason="two") == 3
    assert await queue.dead.purge(reason="two") == 0
    assert (await messages(client))["scheduled"][:3] == ["m0", "m299", "x"]
    assert len((await messages(client))["scheduled"]) == 5, "equal ids do not replace each other"
    assert await queue.dead.purge(ids=[f"m{n}" for n in range(1_200)]) == 296
    assert (await queue.stats()).dead == 0


async def test_letters_without_a_message_stay_and_are_counted(client: Client, queue: Queue) -> None:
    await client.xadd(KEYS.dead, {"id": "raw", "raw": "{", "reason": "malformed"})
    await client.xadd(KEYS.dead, {"foreign": "1"})
    await client.xadd(KEYS.dead, {"body": "1"} | {f"f{n}": "v" for n in range(200)})
    await client.xadd(KEYS.dead, {"body": "2"})
    seen: list[Redriven] = []
    assert await queue.dead.redrive(on_page=seen.append) == 1
    assert seen == [Redriven(1, 3)]
    assert (await queue.stats()).dead == 3


async def test_letters_are_deleted_by_their_age(client: Client, queue: Queue) -> None:
    now_ms = (await queue.stats()).now_ms
    for ago_ms in (60_000, 30_000, 10_000):
        await client.xadd(KEYS.dead, {"body": "1"}, id=f"{now_ms - ago_ms}-0")
    assert await queue.dead.purge(older_than_ms=100_000) == 0
    assert await queue.dead.purge(older_than_ms=20_000) == 2
    assert await queue.dead.purge(older_than_ms=0) == 1


async def test_a_rate_is_kept(client: Client, queue: Queue, monkeypatch: Any) -> None:
    await letters(client, 30)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("delayq.dead.mono_s", lambda: sum(slept))
    monkeypatch.setattr(anyio, "sleep", sleep)
    assert await queue.dead.redrive(rate=10) == 30
    assert sum(slept) == pytest.approx(3)
    assert max(slept) == pytest.approx(0.1)
    for rate in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            await queue.dead.redrive(rate=rate)
    with pytest.raises(ValueError, match="older_than_ms"):
        await queue.dead.purge(older_than_ms=-1)


async def test_redriving_and_deleting_go_on_at_maxmemory(client: Client, queue: Queue) -> None:
    await letters(client, 3)
    await client.config_set("maxmemory", "1")
    assert await queue.dead.redrive(ids=["m0"]) == 1
    assert await queue.dead.purge() == 2


@pytest.mark.parametrize("part", ["dead", "schedule", "bodies", "arrival", "bell"])
async def test_a_key_of_the_wrong_type_stops_it_before_anything_changes(
    client: Client, queue: Queue, part: str
) -> None:
    await letters(client, 1)
    key = getattr(KEYS, part)
    await client.delete(key)
    await client.sadd(key, "foreign")
    before = await dump(client)
    with pytest.raises(ServerError):
        await queue.dead.redrive()
    assert await dump(client) == before
