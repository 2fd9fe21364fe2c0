"""Consumers that compete: batches, concurrency, retries by schedule, deaths."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from delayq import Queue, Retry, RetryLater, Server, scripts
from delayq.events import (
    Acked,
    DeadLettered,
    Ended,
    Inherited,
    LeaseEnded,
    NameTaken,
    Refused,
    Retried,
    StoodBy,
)
from delayq.keys import GROUP
from delayq.lease import Lease, LeaseStore
from delayq.survey import SURVEY_S, Survey
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe
from tests.state import messages, owners


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    return make_queue("none")


async def test_consumers_share_the_messages_and_each_is_handled_once(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        for name in ("c1", "c2", "c3"):
            await t.active(name, concurrency=5)
        await publish(queue, *range(300))
        await t.settled(300)
        assert sorted(t.bodies) == list(range(300))
        assert len({handled.consumer for handled in t.handled}) > 1
    assert await client.xlen(KEYS.stream) == 0
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []


async def test_as_many_are_handled_at_once_as_allowed_and_no_more(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held = {number: anyio.Event() for number in range(6)}
        await publish(queue, *range(6))
        await t.active("c1", concurrency=3)
        await t.begins(2)
        assert t.bodies == [0, 1, 2]
        t.held[1].set()
        await t.begins(3)
        assert t.bodies == [0, 1, 2, 3]
        for event in t.held.values():
            event.set()
        await t.settled(6)


async def test_a_retried_message_goes_through_the_schedule(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.failing["a"] = [RetryLater(30), ValueError("no")]
        t.poller()
        await t.active("c1")
        await publish(queue, "a", "b")
        await t.settled(2)
        assert sorted(t.bodies) == ["a", "a", "a", "b"]
        assert [h.deliveries for h in t.handled if h.body == "a"] == [1, 2, 3]
        assert t.tape.of(Retried)[0].delay_ms == 30


async def test_one_that_fails_too_often_is_a_dead_letter(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("none", Retry(max_deliveries=2, base_ms=1, cap_ms=1))
    async with troupe(server, queue) as t:
        t.failing["a"] = [ValueError("no")] * 5
        t.poller()
        await t.active("c1")
        await client.xadd(KEYS.stream, {"foreign": "1"})
        await publish(queue, "a", "b")
        await t.settled(3)
        assert sorted(t.bodies) == ["a", "a", "b"]
        assert {event.reason for event in t.tape.of(DeadLettered)} == {
            "max deliveries",
            "malformed",
        }
    assert (await messages(client))["pending"] == {}


async def test_what_a_killed_consumer_had_is_handled_by_another_within_a_second(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held = {number: anyio.Event() for number in range(20)}
        await publish(queue, *range(20))
        first = await t.active("c1", concurrency=20, lease_ttl_s=60)
        await t.begins(19)
        await t.active("c2", concurrency=50)
        began = time.monotonic()
        await t.supervisor.kill("c1")
        inherited = await t.tape.until(Inherited, "c2")
        assert (inherited.source, inherited.count) == (f"c1@{first.epoch}", 20)
        await t.begins(19, times=2)
        await client.xadd(KEYS.stream, {"body": '"behind them"'})
        await t.begins("behind them")
        for event in t.held.values():
            event.set()
        await t.settled(21)
        assert time.monotonic() - began < 2
        assert sorted(t.bodies[:-1]) == sorted([*range(20)] * 2)
    assert await owners(client) == {}
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []


async def test_one_of_many_consumers_looks_for_the_dead_for_all_of_them(
    server: Server, client: Client, queue: Queue
) -> None:
    told, enough = list[float](), anyio.Event()

    async def heard(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "survey":
            told.append(answer[0])
            if len(told) >= 40:
                enough.set()
        return answer

    await client.config_resetstat()
    async with troupe(server, queue) as t:
        scripts.interpose(heard)
        try:
            for number in range(10):
                await t.active(f"c{number}")
            await enough.wait()
        finally:
            scripts.interpose(None)
    stats = await client.info("commandstats")
    asked = stats.get("cmdstat_xinfo|consumers") or stats["cmdstat_xinfo"]
    assert told.count(0) <= 10, "of 40 looks that none took before"
    assert asked["calls"] <= 20 + told.count(0), "two of each at its start are for other purposes"


async def test_only_who_has_room_for_what_the_dead_had_looks_for_them(
    server: Server, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, enough, turn = list[str](), anyio.Event(), Survey.turn

    async def heard(survey: Survey, lease: Lease) -> tuple[float, list[str]]:
        asked.append(lease.holder.partition("@")[0])
        if asked.count("c3") == 3:
            enough.set()
        return await turn(survey, lease)

    async with troupe(server, queue) as t:
        t.held = {body: anyio.Event() for body in ("full", "dead")}
        await t.active("c1", concurrency=1)
        await publish(queue, "full")
        await t.begins("full")
        dead = await t.active("c2", concurrency=1, lease_ttl_s=60)
        await publish(queue, "dead")
        await t.begins("dead")
        monkeypatch.setattr(Survey, "turn", heard)
        await t.active("c3")
        await enough.wait()
        assert asked.count("c1") + asked.count("c2") <= 2, "each may have been about to ask"
        await t.supervisor.kill("c2")
        assert (await t.tape.until(Inherited, "c3")).source == f"c2@{dead.epoch}"
        for event in t.held.values():
            event.set()
        await t.settled(2)


async def test_who_looks_is_told_so_again_and_gives_way_when_it_does_not_come(
    client: Client, queue: Queue
) -> None:
    leases = dict[str, Lease]()
    surveys = dict[str, Survey]()
    for name in "abc":
        store = LeaseStore(Anchor(client), KEYS, name, 60)
        taken = await store.acquire(KEYS.lease(name))
        assert isinstance(taken, Lease)
        leases[name], surveys[name] = taken, Survey(queue, store)

    async def turns() -> list[bool]:
        return [(await surveys[name].turn(leases[name]))[0] == 0 for name in "abca"]

    assert await turns() == [True, False, False, True]
    assert 0 < await client.pttl(KEYS.survey) <= SURVEY_S * 1000
    await client.delete(KEYS.survey)  # as when its time is over
    assert await surveys["c"].turn(leases["c"]) == (0, [])
    assert await turns() == [False, False, True, False]
    await client.rpush(KEYS.survey + "x", 1)
    await client.rename(KEYS.survey + "x", KEYS.survey)
    assert await turns() == [True, False, False, True], "another program stops no survey"


async def test_an_heir_that_is_far_ahead_handles_what_it_inherits(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held["first"] = anyio.Event()
        await publish(queue, "first")
        await t.active("c1", concurrency=1)
        await t.begins("first")
        await t.active("c2")
        await publish(queue, "second")
        await t.settled(1)
        await t.supervisor.kill("c1")
        t.held["first"].set()
        await t.settled(2)
        assert t.bodies == ["first", "second", "first"]


async def test_a_very_long_inheritance_is_handled_once_and_acknowledged_on_the_way(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        await client.xgroup_create(KEYS.stream, GROUP, "0", mkstream=True)
        async with client.pipeline(transaction=False) as pipe:
            for number in range(9_000):
                pipe.xadd(KEYS.stream, {"body": str(number)})
            pipe.xreadgroup(GROUP, "dead@1", {KEYS.stream: ">"}, count=9_000)
            pipe.xadd(KEYS.stream, {"body": "9000"})
            await pipe.execute()
        await t.active("c1", concurrency=100)
        await t.settled(9_001)
        assert sorted(t.bodies) == list(range(9_001))
        assert len(t.tape.of(Acked)) > 9
        assert not t.tape.of(Ended)


async def test_a_stop_acknowledges_what_is_handled_before_the_longest_handler_ends(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held = {number: anyio.Event() for number in range(3)}
        await publish(queue, *range(3))
        await t.active("c1")
        await t.begins(2)
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(t.supervisor.stop, "c1")
            await anyio.wait_all_tasks_blocked()
            t.held[0].set()
            t.held[1].set()
            await t.settled(2)
            t.held[2].set()


async def test_a_long_handler_keeps_its_message_while_its_consumer_renews(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held["long"] = anyio.Event()
        await t.active("c1", lease_ttl_s=0.3)
        await publish(queue, "long")
        await t.begins("long")
        await t.active("c2", lease_ttl_s=0.3)
        for _ in range(3):
            before = await client.pttl(KEYS.lease("c1"))
            while await client.pttl(KEYS.lease("c1")) <= before:
                before = await client.pttl(KEYS.lease("c1"))
        t.held["long"].set()
        await t.settled(1)
        assert t.bodies == ["long"]


async def test_a_stalled_consumer_loses_its_messages_and_is_refused(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held["a"] = anyio.Event()
        await t.active("c1", lease_ttl_s=0.4)
        await publish(queue, "a")
        await t.begins("a")
        await t.active("c2")
        t.supervisor.stall("c1", 2.0)
        await t.tape.until(Inherited, "c2")
        await t.begins("a", times=2)
        t.held["a"].set()
        await t.settled(1)
        await t.tape.until(Refused, "c1")
        await t.tape.until(LeaseEnded, "c1")
        assert [h.deliveries for h in t.handled] == [1, 2]


async def test_a_stop_waits_for_the_handlers_and_leaves_nothing_pending(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.held = {number: anyio.Event() for number in range(3)}
        await publish(queue, *range(3))
        await t.active("c1")
        await t.begins(2)
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(t.supervisor.stop, "c1")
            for event in t.held.values():
                event.set()
        assert await owners(client) == {}
        assert await client.xlen(KEYS.stream) == 0
        assert not await client.exists(KEYS.lease("c1"))


async def test_a_killed_consumer_under_its_own_name_goes_on(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.held[0] = anyio.Event()
        await publish(queue, 0, 1)
        await t.active("c1", lease_ttl_s=60)
        await t.settled(1)
        await t.supervisor.kill("c1")
        t.held[0].set()
        await t.supervisor.restart("c1")
        await t.settled(2)
        assert t.bodies == [0, 1, 0]


async def test_a_second_consumer_of_the_same_name_stands_by_and_warns(
    server: Server, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.standby.SHOW_S", 0.3)
    async with troupe(server, queue) as t:
        await t.active("c1")
        async with troupe(server, queue) as other:
            other.consumer("c1")
            assert (await other.tape.until(StoodBy)).holder.startswith("c1@")
            with anyio.fail_after(5):
                assert (await other.tape.until(NameTaken, "c1")).holder.startswith("c1@")


async def test_a_message_that_kills_its_consumer_takes_no_other_with_it(
    server: Server, make_queue: MakeQueue
) -> None:
    queue = make_queue("none", Retry(max_deliveries=3))
    async with troupe(server, queue) as t:
        t.held = {"poison": anyio.Event()} | {number: anyio.Event() for number in range(6)}
        await publish(queue, "poison", *range(6))
        for times in (1, 2, 3):
            await t.active(f"c{times}")
            await t.begins("poison", times=times)
            if times < 3:
                await t.begins(5, times=times)
            await t.supervisor.kill(f"c{times}")
        for number in range(6):
            t.held[number].set()
        await t.active("c4")
        await t.settled(7)
        assert [event.reason for event in t.tape.of(DeadLettered)] == ["max deliveries"]
        assert t.bodies.count("poison") == 3


@pytest.mark.parametrize("missing", ["group", "stream"])
async def test_a_group_or_stream_taken_away_ends_nothing(
    server: Server, client: Client, queue: Queue, missing: str
) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        await publish(queue, "before")
        await t.settled(1)
        if missing == "group":
            await client.xgroup_destroy(KEYS.stream, GROUP)
        else:
            await client.delete(KEYS.stream)
        await publish(queue, "after")
        await t.settled(2)


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task
    task.cancel()
    await anyio.lowlevel.checkpoint()


async def test_a_handler_that_cancels_its_task_has_failed_and_its_neighbours_go_on(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.doing["self"] = [cancel_itself]
        t.held["other"] = anyio.Event()
        t.poller()
        await t.active("c1")
        await publish(queue, "other", "self")
        await t.begins("self", times=2)
        t.held["other"].set()
        await t.settled(2)
        assert sorted(t.bodies) == ["other", "self", "self"]
