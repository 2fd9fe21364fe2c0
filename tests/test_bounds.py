"""A script takes few messages where they are large: it holds the server no longer than for many."""

from delayq import Queue
from delayq.dead import Redriven
from delayq.lease import Lease
from delayq.pending import Pending
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client, MakeQueue
from tests.state import NOTHING, messages

FAR_MS = 10**14
COUNT, MOST = 40, 14
"""Messages of 100 KB: so many are some 1.4 MB."""
NAMES = [f"m{n}" for n in range(COUNT)]


async def publish(queue: Queue, delay: float = 0) -> None:
    large = "x" * 100_000
    await queue.publish_many([queue.message(large, id=name, delay=delay) for name in NAMES])


async def bury(client: Client) -> None:
    for name in NAMES:
        await client.xadd(KEYS.dead, {"id": name, "body": "1" * 100_000, "reason": "one"})


async def scripts_run(client: Client) -> int:
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def test_what_is_large_is_promoted_in_small_parts(client: Client, queue: Queue) -> None:
    await publish(queue, delay=5)
    parts = []
    while (part := (await Schedule(queue).promote(FAR_MS))[0]) > 0:
        parts.append(part)
    assert (sum(parts), max(parts) <= MOST) == (COUNT, True)
    assert await messages(client) == {**NOTHING, "ready": NAMES}


async def test_what_is_large_is_read_for_correction_in_small_parts(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await publish(queue, delay=5)
    seen, wait_s = await Schedule(queue).due(FAR_MS)
    assert 0 < len(seen) <= MOST
    assert wait_s == 0


async def test_dead_letters_that_are_large_are_redriven_in_small_parts(
    client: Client, queue: Queue
) -> None:
    await bury(client)
    seen: list[Redriven] = []
    assert await queue.dead.redrive(on_page=seen.append) == COUNT
    assert max(b.moved - a.moved for a, b in zip([Redriven(), *seen], seen, strict=False)) <= MOST
    assert await messages(client) == {**NOTHING, "scheduled": NAMES}


async def test_what_is_large_is_purged_in_small_parts(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await bury(client)
    before = await scripts_run(client)
    assert await queue.dead.purge() == COUNT
    assert await scripts_run(client) - before >= COUNT / MOST

    await publish(queue)
    before = await scripts_run(client)
    assert await queue.purge("ready") == COUNT
    assert await scripts_run(client) - before >= COUNT / MOST

    await queue.publish(1, id="first", key="k")
    (first,) = (await pending.fetch(lease, "-", 1)).deliveries
    await pending.retry_later(lease, first, 3_600_000, park=True)  # type: ignore[arg-type]
    await publish(queue, delay=60)
    before = await scripts_run(client)
    assert await queue.purge("scheduled") == COUNT + 1
    assert await scripts_run(client) - before >= COUNT / MOST
    assert await messages(client) == NOTHING


async def test_what_is_large_is_fetched_in_small_parts(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish_many(["x" * 1_000_000] * 5)
    assert len((await pending.fetch(lease, "-", 500)).deliveries) == 2


async def test_what_a_group_has_to_read_is_counted_in_small_parts(
    client: Client, queue: Queue
) -> None:
    for name in NAMES:
        await client.xadd(KEYS.stream, {"id": name, "body": "1" * 100_000})
    entries = [entry for entry, _ in await client.xrange(KEYS.stream)]
    await client.xgroup_create(KEYS.stream, KEYS.group, entries[COUNT // 2])
    await client.xgroup_create(KEYS.stream, "other", "0")
    await client.xdel(KEYS.stream, entries[-1])  # so that the server does not tell it
    assert 1 < (await queue.stats()).ready <= MOST
