"""Lanes: a key belongs to one of them, in every process and every language alike."""

import pytest

from delayq import Ordering, Queue, Server
from delayq.errors import BacklogFull, LanesDiffer
from delayq.events import LaneFailed
from delayq.keys import LaneKeys, lane_of
from delayq.registry import queues
from tests.conftest import Client
from tests.roles import troupe

KEYS = LaneKeys("test", "orders")


@pytest.fixture
def queue(client: Client) -> Queue:
    return Queue(lambda: client, KEYS, lanes=4)


async def bodies_of(queue: Queue) -> list[list[object]]:
    return [[r.body for r in (await lane.list("ready")).records] for lane in queue.every_lane]


def test_the_lane_of_a_key_is_what_every_language_computes() -> None:
    # The check value of CRC-32 (IEEE), of "123456789", is 0xCBF43926.
    assert lane_of("123456789", 1_024) == 0xCBF43926 % 1_024
    assert lane_of("größe", 1_000_000) == 0x5BD3A989 % 1_000_000


def test_a_queue_of_one_lane_is_its_lane() -> None:
    queue = Queue(lambda: None, KEYS)  # type: ignore[arg-type, return-value]
    assert queue.every_lane == (queue,)
    assert queue.every_lane[0] is queue


@pytest.mark.parametrize("lanes", [0, 1_025])
def test_a_number_of_lanes_that_cannot_be_is_refused(lanes: int) -> None:
    with pytest.raises(ValueError, match=f"lanes: 1 to 1024 \\(got {lanes}\\)"):
        Queue(lambda: None, KEYS, lanes=lanes)  # type: ignore[arg-type, return-value]


async def test_messages_of_one_key_are_in_one_lane_in_their_order(queue: Queue) -> None:
    for n in range(40):
        await queue.publish(n, key=f"k{n % 8}")
    found = await bodies_of(queue)
    assert sum(len(of_lane) for of_lane in found) == 40
    for lane, of_lane in enumerate(found):
        assert of_lane == [n for n in range(40) if lane_of(f"k{n % 8}", 4) == lane]
    assert all(found)


async def test_an_empty_key_is_a_key_and_in_one_lane(queue: Queue) -> None:
    for n in range(8):
        await queue.publish(n, key="", dedup_id=None if n % 2 else f"d{n}")
    assert [list(range(8))] == [of_lane for of_lane in await bodies_of(queue) if of_lane]


async def test_in_bulk_they_are_in_the_same_lanes_and_order(queue: Queue, client: Client) -> None:
    receipts = await queue.publish_many(
        queue.message(n, key=f"k{n % 8}", id=f"m{n}") for n in range(2_000)
    )
    assert [r.id for r in receipts] == [f"m{n}" for n in range(2_000)]
    for lane, of_lane in zip(range(4), queue.every_lane, strict=True):
        ids = [entry[1]["id"] for entry in await client.xrange(of_lane.keys.stream)]
        assert ids == [f"m{n}" for n in range(2_000) if lane_of(f"k{n % 8}", 4) == lane]


async def test_a_repeat_is_one_message_by_its_id_or_its_dedup_id(queue: Queue) -> None:
    for n in range(20):
        assert not (await queue.publish(n, id=f"m{n}")).duplicate
        assert (await queue.publish(n, id=f"m{n}")).duplicate
        assert not (await queue.publish(n, dedup_id=f"d{n}")).duplicate
        assert (await queue.publish(n, dedup_id=f"d{n}")).duplicate


async def test_another_number_of_lanes_is_refused_and_nothing_written(
    queue: Queue, client: Client
) -> None:
    await queue.publish(1, key="k")
    other = Queue(lambda: client, KEYS, lanes=8)
    before = set(await client.keys("*"))
    with pytest.raises(LanesDiffer, match="orders: it has 4 lanes, and 8 are declared here"):
        await other.publish(2, key="other")
    with pytest.raises(LanesDiffer):
        await other.publish_many([1, 2, 3])
    assert set(await client.keys("*")) == before


async def test_of_a_bulk_the_error_tells_how_many_were_accepted(client: Client) -> None:
    queue = Queue(lambda: client, KEYS, lanes=2, max_backlog=600)
    keys = [next(f"k{n}" for n in range(99) if lane_of(f"k{n}", 2) == lane) for lane in (0, 1)]
    messages = [queue.message(n, key=keys[0]) for n in range(900)]
    with pytest.raises(BacklogFull, match="600 of 900 were accepted"):
        await queue.publish_many(messages)


async def test_what_is_published_after_it_was_destroyed_has_it_listed_again(
    queue: Queue, client: Client
) -> None:
    await queue.publish(1)
    await queue.destroy()
    await queue.publish(1)
    assert await queues(client, queue.keys.namespace) == {queue.name: queue.lanes}


async def test_destroying_it_leaves_no_key_of_any_lane(queue: Queue, client: Client) -> None:
    await queue.publish_many([queue.message(n, delay=60, key=f"k{n}") for n in range(40)])
    await queue.destroy()
    assert await client.keys("*") == []


async def test_a_handler_is_told_the_lane(server: Server, queue: Queue) -> None:
    lane = queue.every_lane[lane_of("k", 4)]
    async with troupe(server, lane) as t:
        await queue.publish(1, key="k")
        await t.active("c1")
        await t.settled(1)
    assert [handled.lane for handled in t.handled] == [lane.keys.lane] != [0]


@pytest.mark.parametrize("ordering", ["none", "strict"])
async def test_where_a_script_fails_in_one_lane_the_others_go_on(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, ordering: Ordering
) -> None:
    for module in ("poller", "seat"):
        monkeypatch.setattr(f"delayq.{module}.REST_S", 0.01)
    queue = Queue(lambda: client, KEYS, ordering, lanes=4)
    keys = {lane_of(f"k{n}", 4): f"k{n}" for n in range(40)}
    foreign = [queue.every_lane[1].keys.schedule, queue.every_lane[1].keys.stream]
    for key in foreign:
        await client.set(key, "foreign")
    async with troupe(server, queue) as t:
        t.poller()
        t.consumer("c1", lease_ttl_s=1)
        for role in ("poller", "c1"):
            assert (await t.tape.until(LaneFailed, role)).lane == 1
        for lane in (0, 2, 3):
            await queue.publish(lane, delay=0.01, key=keys[lane])
        await t.settled(3)
        assert sorted(t.bodies) == [0, 2, 3]
        await client.delete(*foreign)
        await queue.publish(1, delay=0.01, key=keys[1])
        await t.settled(4)
        assert {event.lane for event in t.tape.of(LaneFailed)} == {1}
