"""Planned handovers, halted lanes, and who is active."""

import anyio
import anyio.lowlevel
import pytest

from delayq import Queue, Retry, Server
from delayq.events import Halted, HandoverAsked, Resumed, StoodBy, TookOver
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe
from tests.state import messages


async def test_a_handover_passes_on_after_the_message_in_hand(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        t.held[0] = anyio.Event()
        await publish(queue, *range(5))
        await t.begins(0)
        async with anyio.create_task_group() as asking:
            asking.start_soon(t.hand_over)
            await t.tape.until(HandoverAsked, "c1")
            t.held[0].set()
        assert t.now_active
        assert t.now_active.name == "c2"
        assert t.tape.of(TookOver, "c2")[0].why == "released"
        await t.settled(5)
        assert t.bodies == list(range(5))
        assert (await t.tape.until(StoodBy, "c1")).holder.startswith("c2@")


async def test_where_nobody_stands_by_a_handover_comes_back(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        first = await t.active("c1")
        [active] = await queue.handover()
        assert active
        assert (active.name, active.epoch > first.epoch) == ("c1", True)


async def test_a_handover_whose_bell_was_lost_is_seen_all_the_same(
    server: Server, client: Client, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.term.HEED_S", 0.05)
    async with troupe(server, queue) as t:
        await t.active("c1")
        await client.hset(queue.keys.lease(), "handover", "1")
        with anyio.fail_after(10):
            await t.tape.until(HandoverAsked, "c1")


async def test_nobody_active_is_told(queue: Queue) -> None:
    assert await queue.who() == (None,)
    assert await queue.handover() == (None,)


async def test_who_tells_the_active_one_and_those_that_stand_by(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        took_over = await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        [active] = await queue.who()
        assert active
        assert (active.name, active.epoch) == ("c1", took_over.epoch)
        assert active.standby == ("c2",)
        assert 0 <= active.now_ms - active.since_ms < 10_000
        await t.supervisor.stop("c2")
        [active] = await queue.who()
        assert active
        assert active.standby == ()


@pytest.mark.parametrize("ordering", ["strict", "key"])
async def test_a_halted_lane_stays_halted_over_a_takeover_until_it_is_resumed(
    server: Server, client: Client, make_queue: MakeQueue, ordering: str
) -> None:
    queue = make_queue(ordering, Retry(max_deliveries=2, base_ms=1, cap_ms=1), on_failure="halt")
    async with troupe(server, queue) as t:
        t.failing[1] = [ValueError("no")] * 3
        for number in range(3):
            await queue.publish(number, key="k")
        await t.active("c1")
        halted = await t.tape.until(Halted, "c1")
        assert halted.reason == "max deliveries"
        assert t.bodies == [0, 1, 1]
        await t.supervisor.kill("c1")
        await t.active("c2")
        while not t.role("c2").idle:
            await anyio.lowlevel.checkpoint()
        assert t.bodies == [0, 1, 1]
        assert await queue.resume() == (halted.id,)
        await t.tape.until(Resumed, "c2")
        await t.settled(3)
        assert t.bodies == [0, 1, 1, 1, 1, 2]
    assert await client.xlen(KEYS.stream) == 0


async def test_a_halted_lane_resumes_past_its_message(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict", Retry(max_deliveries=1), on_failure="halt")
    async with troupe(server, queue) as t:
        t.failing[1] = [ValueError("no")] * 3
        await publish(queue, 0, 1, 2)
        await t.active("c1")
        halted = await t.tape.until(Halted, "c1")
        assert await queue.resume(skip=True) == (halted.id,)
        assert await queue.resume() == ()
        await t.begins(2)
        assert t.bodies == [0, 1, 2]
    assert (await messages(client))["dead"] == [halted.id]


async def halted_at(queue: Queue) -> str | None:
    halted = (await queue.stats()).halted
    return halted.id if halted else None


async def test_of_two_keys_that_halt_at_once_the_lane_tells_one_after_the_other(
    server: Server, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", retry=Retry(never=(ValueError,)), on_failure="halt")
    for body in (1, 2):
        await queue.publish(body, key=f"k{body}", id=f"m{body}")
    async with troupe(server, queue) as t:
        for body in (1, 2):
            t.held[body] = anyio.Event()
            t.failing[body] = [ValueError(), ValueError()]
        await t.active("c1")
        for body in (1, 2):
            await t.begins(body)
        for body in (1, 2):
            t.held[body].set()
            await t.tape.until(Halted, where=lambda event: event.id == f"m{body}")  # noqa: B023
        assert await halted_at(queue) == "m1"
        place = t.tape.end
        assert await queue.resume(skip=True) == ("m1",)
        await t.tape.until(Halted, where=lambda event: event.id == "m2", after=place)
        assert await halted_at(queue) == "m2"
        assert t.bodies == [1, 2, 2]
