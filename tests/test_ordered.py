"""The ordered consumer: active, standby, failover."""

import asyncio
import time
from collections import Counter
from typing import Any

import anyio
import pytest

from delayq import Consumer, InvalidName, Queue, Reject, Retry, Server
from delayq.delivered import Batch
from delayq.events import (
    DeadLettered,
    Ended,
    LeaseEnded,
    Refused,
    Released,
    Retried,
    StoodBy,
    TookOver,
)
from delayq.keys import GROUP
from delayq.pending import Pending
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe
from tests.state import messages, owners


async def test_messages_are_handled_in_order_and_leave_redis(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await publish(queue, *range(50))
        await t.active("c1")
        await publish(queue, *range(50, 250))
        await t.settled(250)
        assert t.bodies == list(range(250))
    assert await client.xlen(KEYS.stream) == 0
    assert await owners(client) == {}
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []


async def test_a_second_consumer_stands_by_and_says_for_whom(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        t.consumer("c2")
        stood_by = await t.tape.until(StoodBy, "c2")
        assert stood_by.holder.startswith("c1@")
        await publish(queue, 1, 2, 3)
        await t.settled(3)
        assert {handled.consumer for handled in t.handled} == {stood_by.holder}


async def test_after_a_stop_the_standby_goes_on_and_nothing_is_handled_twice(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        t.held[1] = anyio.Event()
        await publish(queue, *range(10))
        await t.begins(1)
        place = t.tape.end
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(t.supervisor.stop, "c1")
            t.held[1].set()
        took_over = await t.tape.until(TookOver, "c2", after=place)
        await t.settled(10)
        assert t.bodies == list(range(10))
        assert took_over.why == "released"
        assert t.tape.of(Released, "c1")


async def test_after_a_kill_the_standby_takes_everything_in_order(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        first = await t.active("c1", batch=4)
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        t.held[2] = anyio.Event()
        await publish(queue, *range(10))
        await t.begins(2)
        owned = Counter((await owners(client)).values())
        place = t.tape.end
        await t.supervisor.kill("c1")
        took_over = await t.tape.until(TookOver, "c2", after=place)
        old = f"c1@{first.epoch}"
        assert took_over.why == "connection gone"
        assert took_over.reclaimed == {old: owned[old]}
        assert took_over.deleted == (old,)
        assert took_over.epoch > first.epoch
        left = [fields["body"] for _, fields in await client.xrange(KEYS.stream)]
        assert "2" in left, "what is in hand is not acknowledged"
        await t.begins(2, times=2)
        t.held[2].set()
        await t.settled(10)
        assert sorted(set(t.bodies)) == list(range(10))
        second_term = [h.body for h in t.handled if h.consumer.startswith("c2@")]
        assert second_term == list(range(second_term[0], 10))
        assert second_term[0] <= 2


async def test_a_killed_consumer_under_its_own_name_goes_on(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.held[0] = anyio.Event()
        await publish(queue, 0, 1)
        await t.active("c1")
        await t.begins(0)
        await t.supervisor.kill("c1")
        t.held[0].set()
        place = t.tape.end
        await t.supervisor.restart("c1")
        took_over = await t.tape.until(TookOver, "c1", after=place)
        assert sum(took_over.reclaimed.values()) == 1, "the other one was not worth fetching yet"
        await t.settled(2)
        assert t.bodies == [0, 0, 1]


async def test_a_stalled_consumer_is_refused_when_it_wakes(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        stalled = await t.active("c1", lease_ttl_s=1, batch=1)
        t.consumer("c2", lease_ttl_s=10)
        await t.tape.until(StoodBy, "c2")
        t.held[0] = anyio.Event()
        await publish(queue, 0, 1)
        await t.begins(0)
        t.supervisor.stall("c1", 2)
        t.held[0].set()
        took_over = await t.tape.until(TookOver, "c2")
        assert took_over.why == "expired"
        refused = await t.tape.until(Refused, "c1")
        assert refused.epoch == stalled.epoch
        assert refused.operation in {"acknowledge and fetch", "renew"}, "whichever wakes first"
        await t.tape.until(LeaseEnded, "c1")
        assert (await t.tape.until(StoodBy, "c1")).epoch == took_over.epoch
        await t.settled(2)
        assert t.bodies == [0, 0, 1]


async def test_a_stall_that_is_shorter_than_the_lease_loses_nothing(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1", lease_ttl_s=1)
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        t.supervisor.stall("c1", 0.1)
        t.held[0] = anyio.Event()
        await publish(queue, 0)
        await t.begins(0)
        with anyio.move_on_after(0.5):
            await t.tape.until(LeaseEnded)
        t.held[0].set()
        await t.settled(1)
        assert not t.tape.of(LeaseEnded)


async def test_a_woken_consumer_begins_nothing_of_the_rest_of_its_batch(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1", lease_ttl_s=0.4)
        t.consumer("c2", lease_ttl_s=10)
        await t.tape.until(StoodBy, "c2")
        t.held[0] = anyio.Event()
        await publish(queue, 0, 1, 2)
        await t.begins(0)
        t.supervisor.stall("c1", 0.8)
        t.held[0].set()
        await t.tape.until(LeaseEnded, "c1")
        await t.settled(3)
        assert t.bodies == [0, 0, 1, 2]


async def test_the_handler_is_cancelled_when_trust_ends(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1", lease_ttl_s=0.6)
        t.held[0] = anyio.Event()
        await publish(queue, 0)
        await t.begins(0)
        await client.hset(KEYS.lease(), "epoch", "999")
        assert await t.tape.until(LeaseEnded, "c1")
        await client.delete(KEYS.lease())
        await t.begins(0, times=2)
        t.held[0].set()
        await t.settled(1)


@pytest.mark.parametrize("count", [150, 10_000])
async def test_however_long_the_pending_list_is_it_is_reclaimed_in_order(
    server: Server, client: Client, queue: Queue, count: int
) -> None:
    async with troupe(server, queue) as t:
        async with client.pipeline(transaction=False) as pipe:
            for number in range(count + 10):
                pipe.xadd(KEYS.stream, {"body": str(number)})
            pipe.xgroup_create(KEYS.stream, GROUP, "0")
            pipe.xreadgroup(GROUP, "old@1", {KEYS.stream: ">"}, count=count)
            await pipe.execute()
        took_over = await t.active("c1")
        assert took_over.reclaimed == {"old@1": count}
        assert took_over.deleted == ("old@1",)
        await t.settled(count + 10)
        assert t.bodies == list(range(count + 10))


async def test_of_those_that_start_at_one_instant_one_becomes_active(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        for number in range(50):
            place = t.tape.end
            for name in (f"a{number}", f"b{number}"):
                t.consumer(name)
            active = await t.tape.until(TookOver, after=place)
            standby = await t.tape.until(StoodBy, after=place)
            assert standby.epoch == active.epoch
            assert len(t.tape.of(TookOver, after=place)) == 1
            await t.supervisor.kill(standby.role)
            await t.supervisor.stop(active.role)


async def test_a_failing_message_is_retried_in_place_and_blocks_those_behind_it(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.failing[1] = [ValueError("no"), ValueError("no")]
        await publish(queue, 0, 1, 2)
        await t.active("c1")
        await t.begins(2)
        assert t.bodies == [0, 1, 1, 1, 2]
        await t.settled(3)
        assert [h.deliveries for h in t.handled] == [1, 1, 2, 3, 1]
        assert [event.deliveries for event in t.tape.of(Retried)] == [1, 2]


async def test_a_stop_while_a_message_is_to_be_retried_begins_none_behind_it(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:

        async def fail() -> None:
            if t.handled[-1].deliveries == 2:
                t.role("c1").stop()
            if t.handled[-1].deliveries == 2 or t.role("c1").seats[0]._service._pool.line:
                raise ValueError("no")

        t.doing = {body: [fail, fail] for body in range(500)}
        await publish(queue, *range(500))
        await t.active("c1")
        await t.tape.until(Ended, "c1")
        left = [int(fields["body"]) for _, fields in await client.xrange(KEYS.stream)]
        assert left == list(range(t.bodies[-1], 500)), "the one that failed, and all behind it"


async def test_a_message_that_fails_too_often_is_a_dead_letter_and_the_next_goes_on(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.failing[0] = [ValueError("no")] * 9
        t.failing[1] = [Reject("never")]
        await publish(queue, 0, 1, 2)
        await t.active("c1")
        await t.settled(3)
        assert t.bodies == [0, 0, 0, 0, 0, 1, 2]
        reasons = [fields["reason"] for _, fields in await client.xrange(KEYS.dead)]
        assert reasons == ["max deliveries", "rejected"]


async def test_a_message_that_kills_its_consumer_is_a_dead_letter_in_the_end(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(retry=Retry(max_deliveries=3))
    async with troupe(server, queue) as t:
        t.held["poison"] = anyio.Event()
        await publish(queue, "poison", *range(5))
        for times in (1, 2, 3):
            await t.active(f"c{times}", lease_ttl_s=60)
            await t.begins("poison", times=times)
            await t.supervisor.kill(f"c{times}")
        await t.active("c4")
        await t.settled(6)
        assert t.bodies == ["poison"] * 3 + list(range(5))
        assert [event.reason for event in t.tape.of(DeadLettered)] == ["max deliveries"]
    assert (await messages(client))["pending"] == {}


async def test_a_malformed_entry_blocks_nothing(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await publish(queue, 0)
        await client.xadd(KEYS.stream, {"foreign": "1"})
        await client.xadd(KEYS.stream, {"body": '"from redis-cli"'})
        await t.active("c1")
        await t.settled(3)
        assert t.bodies == [0, "from redis-cli"]
        assert [event.reason for event in t.tape.of(DeadLettered)] == ["malformed"]


async def test_a_group_that_foreign_hands_destroyed_is_made_again(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        await publish(queue, 0)
        await t.settled(1)
        await client.xgroup_destroy(KEYS.stream, GROUP)
        await publish(queue, 1)
        await t.settled(2)
        await client.delete(KEYS.stream)
        await publish(queue, 2)
        await t.settled(3)
        assert t.bodies == [0, 1, 2]


async def test_without_acknowledging_the_next_consumer_starts_from_the_beginning(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(retry=Retry(max_deliveries=None))
    async with troupe(server, queue) as t:
        await publish(queue, *range(5))
        for number in range(3):
            took_over = await t.active(f"c{number}", acknowledge=False)
            assert sum(took_over.reclaimed.values()) == (5 if number else 0)
            await t.begins(4, times=number + 1)
            await t.supervisor.stop(f"c{number}")
        assert t.bodies == list(range(5)) * 3
        assert len(await owners(client)) == 5


async def test_a_handover_to_a_standby_takes_milliseconds(server: Server, queue: Queue) -> None:
    took_ms = []
    async with troupe(server, queue) as t:
        await t.active("c0")
        for number in range(10):
            t.consumer(f"c{number + 1}")
            await t.tape.until(StoodBy, f"c{number + 1}")
            place = t.tape.end
            began = time.monotonic()
            await t.supervisor.stop(f"c{number}")
            await t.tape.until(TookOver, f"c{number + 1}", after=place)
            took_ms.append((time.monotonic() - began) * 1000)
    assert sorted(took_ms)[5] < 200, "a handover does not wait for a poll"


async def test_a_consumer_that_stands_by_stops_at_once(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        with anyio.fail_after(1):
            await t.supervisor.stop("c2")
        assert t.tape.of(Ended, "c2")[0].how == "stopped"


async def test_a_message_that_is_handled_leaves_no_key_behind(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        before = set(await client.keys("*"))
        await publish(queue, 1)
        await t.settled(1)
        assert set(await client.keys("*")) - before == {KEYS.recent, KEYS.dedup}
        assert await client.pttl(KEYS.recent) > 0


async def cancelled_task() -> None:
    task = asyncio.ensure_future(anyio.sleep_forever())
    task.cancel()
    await task


async def test_a_handler_that_waits_for_a_cancelled_task_has_failed_and_no_more(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.doing[1] = [cancelled_task]
        await publish(queue, 0, 1, 2)
        await t.active("c1")
        await t.settled(3)
        assert t.bodies == [0, 1, 1, 2]
        assert "cancelled from inside" in t.tape.of(Retried)[0].error


async def test_an_error_that_cannot_be_encoded_is_kept_all_the_same(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.failing["\ud800"] = [Reject("bad \ud800")]
        await client.xadd(KEYS.stream, {"body": '"\\ud800"'})
        await t.active("c1")
        await t.settled(1)
        [(_, fields)] = await client.xrange(KEYS.dead)
        assert fields["error"] == "bad \\ud800"


async def test_a_group_destroyed_while_a_handler_runs_ends_nothing(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held[0] = anyio.Event()
        t.failing[0] = [ValueError("no")]
        await publish(queue, 0)
        await t.active("c1")
        await t.begins(0)
        await client.xgroup_destroy(KEYS.stream, GROUP)
        t.held[0].set()
        await publish(queue, 1)
        await t.settled(2)
        assert not t.tape.of(Ended)


async def paused(client: Client, *commands: tuple[object, ...]) -> None:
    """Run commands, and have the server answer nobody for a while after them."""
    async with client.pipeline(transaction=True) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        pipe.execute_command("CLIENT", "PAUSE", 300)
        await pipe.execute()
    await anyio.wait_all_tasks_blocked()


async def test_a_message_fetched_during_a_stop_is_handled_if_it_was_its_last_delivery(
    server: Server, client: Client, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Pending.fetch

    async def stop_meanwhile(self: Pending, *args: Any, **options: Any) -> Batch:
        batch = await fetch(self, *args, **options)
        if batch.deliveries and not t.bodies:
            t.supervisor._members["c1"].role.stop()
        return batch

    monkeypatch.setattr(Pending, "fetch", stop_meanwhile)
    queue = make_queue(retry=Retry(max_deliveries=1))
    async with troupe(server, queue) as t:
        await t.active("c1")
        await client.xadd(KEYS.stream, {"body": "1"})
        await t.supervisor.finished("c1")
        await t.active("c2")
        await client.xadd(KEYS.stream, {"body": "2"})
        await t.settled(2)
        assert t.bodies == [1, 2]
        assert not t.tape.of(DeadLettered)


async def test_a_holder_whose_connection_is_cut_names_its_new_one(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1", lease_ttl_s=60)
        named = await client.hget(KEYS.lease(), "connection")
        await client.client_kill_filter(_id=named)
        with anyio.fail_after(5):
            while await client.hget(KEYS.lease(), "connection") == named:
                pass
        assert not t.tape.of(LeaseEnded)


async def test_a_stop_while_the_lease_is_being_taken_leaves_none_behind(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c0")
        await t.supervisor.stop("c0")
        await paused(client)
        t.consumer("c1")
        await anyio.wait_all_tasks_blocked()
        await t.supervisor.stop("c1")
        assert not await client.exists(KEYS.lease())


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"batch": 1_001}, {"concurrency": 0}, {"lease_ttl_s": 0}]
)
async def test_numbers_that_cannot_work_are_refused(queue: Queue, options: dict[str, int]) -> None:
    async def handle(_body: object, _context: object) -> None:
        raise NotImplementedError

    with pytest.raises(ValueError, match=next(iter(options))):
        Consumer(Server("unix:///none"), queue, handle, name="c1", **options)  # type: ignore[arg-type]


async def test_a_handler_that_is_no_function_is_refused(queue: Queue) -> None:
    with pytest.raises(TypeError, match="handler: a function"):
        Consumer(Server("unix:///none"), queue, 5, name="c1")  # type: ignore[arg-type]


async def test_an_ordering_that_there_is_not_is_refused(make_queue: MakeQueue) -> None:
    with pytest.raises(ValueError, match="ordering: one of"):
        make_queue("strickt")


async def test_a_name_that_cannot_stand_in_a_key_is_refused(queue: Queue) -> None:
    async def handle(_body: object, _context: object) -> None:
        raise NotImplementedError

    with pytest.raises(InvalidName, match="consumer 'a b'"):
        Consumer(Server("unix:///none"), queue, handle, name="a b")
