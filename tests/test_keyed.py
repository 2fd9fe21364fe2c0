"""The consumer of a queue that is ordered by key: one line a key, lines side by side."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from delayq import Queue, Reject, Retry, RetryLater, Server
from delayq.delivered import Batch
from delayq.events import Acked, DeadLettered, Refused, StoodBy, TookOver
from delayq.keyed import MOST_IN_HAND
from delayq.keys import GROUP
from delayq.lease import Lease
from delayq.pending import Pending
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import Troupe, troupe
from tests.state import messages, owners


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    return make_queue("key")


async def publish(queue: Queue, *bodies: str) -> None:
    """Publish bodies of a key and a number, such as a1."""
    await queue.publish_many([queue.message(body, key=body[0]) for body in bodies])


def of(t: Troupe, key: str) -> list[Any]:
    return [body for body in t.bodies if body[0] == key]


async def test_keys_go_side_by_side_and_each_in_order(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.held["a1"] = anyio.Event()
        await publish(queue, "a1", "a2", "b1", "a3", "b2")
        await t.active("c1")
        await t.settled(2)
        assert t.bodies == ["a1", "b1", "b2"]
        t.held["a1"].set()
        await t.settled(5)
        assert of(t, "a") == ["a1", "a2", "a3"]


async def test_messages_without_a_key_wait_for_none(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.held["1"] = anyio.Event()
        await queue.publish_many(["1", "2", "3"])
        await t.active("c1")
        await t.settled(2)
        assert t.bodies == ["1", "2", "3"]
        t.held["1"].set()
        await t.settled(3)


async def test_no_more_are_handled_at_once_than_allowed(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        bodies = [f"{key}1" for key in "abcde"]
        t.held = {body: anyio.Event() for body in bodies}
        await publish(queue, *bodies)
        await t.active("c1", concurrency=2)
        await t.begins("b1")
        assert t.bodies == ["a1", "b1"]
        t.held["b1"].set()
        await t.begins("c1")
        assert t.bodies == ["a1", "b1", "c1"]
        for event in t.held.values():
            event.set()
        await t.settled(5)


async def test_a_key_that_is_retried_in_place_holds_back_its_own_alone(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.failing["a1"] = [RetryLater(200)]
        await publish(queue, "a1", "a2", "b1", "b2")
        await t.active("c1", concurrency=1)
        await t.settled(2)
        assert t.bodies == ["a1", "b1", "b2"]
        await t.settled(4)
        assert of(t, "a") == ["a1", "a1", "a2"]


async def test_a_key_with_more_messages_than_may_be_in_hand_is_handled_in_order(
    server: Server, client: Client, queue: Queue
) -> None:
    count = MOST_IN_HAND + 300
    async with troupe(server, queue) as t:
        t.held["a0"] = anyio.Event()
        await publish(queue, *(f"a{number}" for number in range(count)))
        await t.active("c1")
        await t.begins("a0")
        service = t.role("c1").seats[0]._service
        while len(await owners(client)) < MOST_IN_HAND or not service._paused:
            await anyio.lowlevel.checkpoint()
        assert len(await owners(client)) == MOST_IN_HAND
        t.held["a0"].set()
        await t.settled(count)
        assert t.bodies == [f"a{number}" for number in range(count)]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_whoever_follows_goes_on_in_the_order_of_each_key(
    server: Server, client: Client, queue: Queue, how: str
) -> None:
    async with troupe(server, queue) as t:
        t.held = {"a2": anyio.Event(), "b1": anyio.Event()}
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        await publish(queue, "a1", "a2", "b1", "a3", "b2", "c1")
        await t.begins("a2")
        await t.begins("b1")
        await t.begins("c1")
        await t.settled(2)
        place = t.tape.end
        if how == "kill":
            await t.supervisor.kill("c1")
            for event in t.held.values():
                event.set()
        else:
            async with anyio.create_task_group() as stopping:
                stopping.start_soon(t.supervisor.stop, "c1")
                for event in t.held.values():
                    event.set()
        await t.tape.until(TookOver, "c2", after=place)
        await t.settled(6)
        again = ["a2"] if how == "kill" else []
        assert of(t, "a") == ["a1", "a2", *again, "a3"]
        assert of(t, "b") == ["b1", *(["b1"] if how == "kill" else []), "b2"]
        assert of(t, "c") == ["c1"]
        assert not t.tape.of(Refused)
    assert await client.xlen(KEYS.stream) == 0


@pytest.mark.parametrize("ordering", ["strict", "key"])
async def test_what_a_stop_finds_fetched_and_not_begun_is_not_counted(
    server: Server, client: Client, make_queue: MakeQueue, ordering: str
) -> None:
    queue = make_queue(ordering)
    async with troupe(server, queue) as t:
        t.held["a0"] = anyio.Event()
        await publish(queue, *(f"a{number}" for number in range(4)))
        await t.active("c0")
        await t.begins("a0")
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(t.supervisor.stop, "c0")
            await anyio.lowlevel.checkpoint()
            t.held["a0"].set()
        assert t.bodies == ["a0"]
        rows = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 10)
        assert all(row["times_delivered"] == 0 for row in rows)
        assert len(rows) == (3 if ordering == "key" else 0), (
            "strict fetches no further than it handles"
        )
        await t.active("c9")
        await t.settled(4)
        assert [(h.body, h.deliveries) for h in t.handled] == [(f"a{n}", 1) for n in range(4)]


async def test_a_last_delivery_is_made_with_no_other_beside_it(
    server: Server, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", Retry(max_deliveries=2, base_ms=1, cap_ms=1))
    async with troupe(server, queue) as t:
        t.held = {"b1": anyio.Event(), "c1": anyio.Event()}
        t.failing["a1"] = [ValueError("no")]
        await publish(queue, "a1", "b1", "c1")
        await t.active("c1")
        await t.begins("b1")
        await t.begins("c1")
        await idle_but_for(t, 2)
        assert t.bodies.count("a1") == 1
        t.held["b1"].set()
        t.held["c1"].set()
        await t.settled(3)
        assert t.bodies[-1] == "a1"


async def idle_but_for(t: Troupe, handlers: int) -> None:
    """Wait until so many handlers run, and one message wants to be alone."""
    service = t.role("c1").seats[0]._service
    for _ in range(100):  # that it stays so is what counts
        while not (service._lone and service._running == handlers):
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()


async def test_whatever_settles_a_message_waits_for_acknowledgements_under_way(
    server: Server, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue("key")
    fetch = Pending.fetch
    async with troupe(server, queue) as t:

        async def slow(pending: Pending, lease: Lease, *args: Any, **options: Any) -> Batch:
            acks = args[2]
            if acks:
                t.held["b1"].set()
                with anyio.move_on_after(0.3):
                    await t.tape.until(DeadLettered)
            return await fetch(pending, lease, *args, **options)

        monkeypatch.setattr(Pending, "fetch", slow)
        t.held["b1"] = anyio.Event()
        t.failing["b1"] = [Reject("no")]
        await publish(queue, "a1", "b1")
        await t.active("c1", concurrency=2)
        await t.settled(2)
        assert [type(e) for e in t.tape.of(Acked | DeadLettered)] == [Acked, DeadLettered]  # type: ignore[arg-type]


async def test_a_malformed_entry_blocks_no_key(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await client.xadd(KEYS.stream, {"foreign": "1", "key": "a"})
        await publish(queue, "a1", "b1")
        await t.active("c1")
        await t.settled(3)
        assert sorted(t.bodies) == ["a1", "b1"]
    assert len((await messages(client))["dead"]) == 1


async def test_a_group_destroyed_under_its_handlers_doubles_nothing_in_hand(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held["a1"] = anyio.Event()
        await publish(queue, "a1", "a2")
        await t.active("c1")
        await t.begins("a1")
        await client.xgroup_destroy(KEYS.stream, GROUP)
        await publish(queue, "b1")
        await t.begins("b1")
        t.held["a1"].set()
        await t.settled(3)
        assert of(t, "a") == ["a1", "a2"]
