"""Scripts in a slot that is being moved: a key that one deletes is out of its reach from then on.

Where all its keys are at the source a script runs there; where one is missing it is refused as a
whole. So one that asks for a key after having deleted it fails half-way.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from delayq import Queue, Server, ServerUnreachable, scripts
from delayq.schedule import Schedule
from tests.clusters import RealCluster
from tests.conftest import KEYS, Client

PLACE = "5-1"
KEY = "k"


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[RealCluster]:
    cluster = RealCluster(dead_after_ms=60_000)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def client(cluster: RealCluster) -> AsyncIterator[Client]:
    """A client of a Cluster that has every key of the lane, and then moves its slot away."""
    async with Server(cluster.url).client() as client:
        await client.flushall(target_nodes="primaries")
        for stream in (KEYS.dead, KEYS.bell):
            await client.xadd(stream, {"some": "thing"})
        await client.hset(KEYS.lease(), "epoch", "1")
        await client.zadd(KEYS.recent, {"c:some": 10**15})
        yield client


@asynccontextmanager
async def moving(cluster: RealCluster) -> AsyncIterator[None]:
    """Have the slot be moved meanwhile; its keys are, in the end."""
    source, target = await cluster.begin_move(KEYS.stream)
    try:
        yield
    finally:
        await cluster.move_keys(KEYS.stream, source, target)
        await cluster.end_move(KEYS.stream, source, target)


def row(place: str, message_id: str) -> str:
    """What stands in `waiting` for a message of the key."""
    ms, number = place.split("-")
    return f"{len(KEY):08x}{KEY}{int(ms):016x}{int(number):016x} {message_id}"


async def test_the_last_message_is_promoted_and_nothing_of_the_schedule_is_left(
    cluster: RealCluster, client: Client
) -> None:
    queue = Queue(lambda: client, KEYS)
    await queue.publish("ready")
    await queue.publish("scheduled", delay=0.001)
    async with moving(cluster):
        with pytest.raises(ServerUnreachable):  # it cannot tell when the next is due
            await Schedule(queue).promote(10**14)
    assert await client.xlen(KEYS.stream) == 2
    assert not await client.exists(KEYS.schedule, KEYS.bodies, KEYS.arrival)
    assert await Schedule(queue).promote() == (0, None)


async def parked(client: Client, message_id: str) -> str:
    """Have the key wait for a message that is pending, and is the only one that waits."""
    await Queue(lambda: client, KEYS, "key").publish("far", delay=600)
    entry = await client.xadd(KEYS.stream, {"id": "m", "key": KEY, "place": PLACE, "body": "1"})
    await client.xgroup_create(KEYS.stream, "delayq", "0")
    await client.xreadgroup("delayq", "c1@1", {KEYS.stream: ">"})
    await client.hset(KEYS.parked, KEY, message_id)
    await client.zadd(KEYS.waiting, {row(PLACE, message_id): 0})
    return str(entry)


PENDING = [KEYS.schedule, KEYS.bodies]
PARKING = [KEYS.bell, KEYS.parked, KEYS.waiting]


async def test_a_message_for_which_the_last_key_waits_dies_once(
    cluster: RealCluster, client: Client
) -> None:
    entry = await parked(client, "m")
    keys = [KEYS.lease(), KEYS.stream, KEYS.dead, *PENDING, *PARKING]
    args = ["1", "delayq", "", entry, 1, "rejected", "no"]
    async with moving(cluster):
        assert await scripts.run(client, "dead_letter", keys, args) == 1
    assert await client.xlen(KEYS.dead) == 2
    assert not await client.xlen(KEYS.stream)
    assert not await client.exists(KEYS.parked, KEYS.waiting)


async def test_a_message_that_waits_under_another_id_is_in_one_place(
    cluster: RealCluster, client: Client
) -> None:
    entry = await parked(client, "another")
    keys = [KEYS.lease(), KEYS.stream, *PENDING, KEYS.arrival, *PARKING]
    args = ["1", "delayq", "", entry, 1_000, 1, 1]
    async with moving(cluster):
        assert int(await scripts.run(client, "retry", keys, args)) > 0
    assert not await client.xlen(KEYS.stream)
    assert await client.zrange(KEYS.waiting, 0, -1) == [row(PLACE, "m")]
    assert await client.zcard(KEYS.schedule) == 2
