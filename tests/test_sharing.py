"""Consumers share the lanes of an ordered queue: as evenly as can be, moving none needlessly."""

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayq import Queue, Server
from delayq.events import Event, HandoverAsked, TookOver
from delayq.share import Share, quota
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import Troupe, troupe

NAMES = st.sets(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=9)
LANES = 16
FEW = range(4, 7)
"""Moves where four are needed: a lane may stay free so long, on a busy machine, that others try."""


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    return make_queue(lanes=LANES)


def held(t: Troupe) -> list[int]:
    """In how many lanes each consumer that runs became active last, by name."""
    last = {event.lane: event.role for event in t.tape.of(TookOver)}
    members = t.supervisor._members.values()
    running = sorted(member.name for member in members if not member.done.is_set())
    return [list(last.values()).count(name) for name in running]


async def until(t: Troupe, *counts: int) -> None:
    """Wait until consumers, by name, are active in so many lanes."""
    while held(t) != list(counts):
        await t.tape.until(Event, after=t.tape.end)


def moves(t: Troupe, after: int) -> int:
    """How many lanes were handed over."""
    return sum(event.why != "connection gone" for event in t.tape.of(TookOver, after=after))


def alone(t: Troupe) -> bool:
    """Whether no lane had two holders: each term ends before the next one of its lane begins."""
    for lane in range(LANES):
        epochs = [e.epoch for e in t.tape.of(TookOver) if e.lane == lane]
        if epochs != sorted(set(epochs)):
            return False
    return True


@given(NAMES, st.integers(1, 1_024))
def test_all_lanes_are_given_out_evenly(members: set[str], lanes: int) -> None:
    quotas = [quota(members, me, lanes) for me in members]
    assert sum(quotas) == lanes
    assert max(quotas) - min(quotas) <= 1


@given(NAMES, st.text("abcdef", min_size=1, max_size=3), st.integers(1, 1_024))
def test_no_quota_grows_when_a_member_joins(members: set[str], new: str, lanes: int) -> None:
    for me in members:
        assert quota(members | {new}, me, lanes) <= quota(members, me, lanes)


async def test_a_place_beyond_the_quota_is_for_a_lane_that_stays_free() -> None:
    share = Share("b", 4)
    share.see({"a", "b"})
    assert [share.claim(lane) for lane in range(4)] == [True, True, False, False]
    assert share.claim(2, anyway=True)
    share.give_up(0)
    assert not share.claim(3)
    share.lose("a")
    assert share.claim(3)
    share.see({"a", "b"})
    assert share.quota == 4, "the others do not know yet that it is dead"
    share.see({"a", "b"}, told={"a"})
    assert share.quota == 2, "it showed itself again"


async def test_alone_a_consumer_has_every_lane(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.consumer("c1")
        await until(t, 16)


async def test_lanes_are_even_after_joining_dying_and_leaving(
    server: Server, queue: Queue, client: Client
) -> None:
    async with troupe(server, queue) as t:
        names = ("c1", "c2", "c3", "c4")
        for name in names:
            t.consumer(name)
        await until(t, 4, 4, 4, 4)
        while any(len(t.role(name).holders) != 4 for name in names):
            await anyio.lowlevel.checkpoint()  # one that was just handed over may be free
        theirs, place = set(t.role("c3").holders), t.tape.end
        await t.supervisor.kill("c3")
        await until(t, 6, 5, 5)
        taken = t.tape.of(TookOver, after=place)
        assert {event.lane for event in taken} == theirs, f"no other moves: {taken}"
        assert "connection gone" in {event.why for event in taken}
        place = t.tape.end
        t.consumer("c5")
        await until(t, 4, 4, 4, 4)
        assert moves(t, place) in FEW
        place = t.tape.end
        await t.supervisor.stop("c5")
        await until(t, 6, 5, 5)
        assert moves(t, place) in FEW
        assert alone(t)
        assert set(await client.zrange(KEYS.members, 0, -1)) == {"c1", "c2", "c4"}


async def test_joining_and_leaving_in_quick_succession_moves_nothing(
    server: Server, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        for name in ("c1", "c2"):
            t.consumer(name)
        await until(t, 8, 8)
        place = t.tape.end
        for _ in range(3):
            t.consumer("c3")
            while not t.role("c3").seats:
                await anyio.lowlevel.checkpoint()
            await t.supervisor.stop("c3")
        t.consumer("c3")
        await until(t, 6, 5, 5)
        assert moves(t, place) == 5


@pytest.mark.parametrize("ordering", ["strict", "key"])
async def test_the_order_of_each_key_holds_while_lanes_move(
    server: Server, make_queue: MakeQueue, ordering: str
) -> None:
    queue, keys = make_queue(ordering, lanes=LANES), [f"k{n}" for n in range(40)]
    published = 0

    async def publish() -> None:
        nonlocal published
        for _ in range(10):
            await queue.publish_many([queue.message(f"{key}-{published}", key=key) for key in keys])
            published += 1

    async with troupe(server, queue) as t:
        for name in ("c1", "c2", "c3"):
            await publish()
            t.consumer(name)
        await publish()
        await until(t, 6, 5, 5)
        await publish()
        await t.supervisor.kill("c1")
        await publish()
        await until(t, 8, 8)
        await publish()
        await t.supervisor.stop("c2")
        await publish()
        while len(set(t.bodies)) < published * len(keys):
            await t.begun.wait()
        begun = [body.split("-") for body in dict.fromkeys(t.bodies)]
        for key in keys:
            assert [int(n) for k, n in begun if k == key] == list(range(published))
        assert alone(t)


async def test_a_handover_that_is_asked_for_is_of_one_lane(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        for name in ("c1", "c2"):
            t.consumer(name)
        await until(t, 8, 8)
        lane = next(iter(t.role("c1").holders))
        place = t.tape.end
        [active] = await queue.every_lane[lane].handover()
        assert active.name == "c2"
        assert [event.lane for event in t.tape.of(HandoverAsked, after=place)] == [lane]


async def test_one_lane_is_not_shared(
    server: Server, make_queue: MakeQueue, client: Client
) -> None:
    async with troupe(server, make_queue()) as t:
        await t.active("c1")
        assert not await client.exists(KEYS.members)


@pytest.mark.parametrize("lanes", [1, 4])
async def test_competing_consumers_are_in_every_lane(
    server: Server, make_queue: MakeQueue, lanes: int
) -> None:
    queue = make_queue("none", lanes=lanes)
    async with troupe(server, queue) as t:
        for name in ("c1", "c2"):
            t.consumer(name)
        while len(t.tape.of(TookOver)) < 2 * lanes:
            await t.tape.until(TookOver, after=t.tape.end)
        every = range(lanes) if lanes > 1 else [None]
        assert {(e.role, e.lane) for e in t.tape.of(TookOver)} == {
            (name, lane) for name in ("c1", "c2") for lane in every
        }
        for n in range(40):
            await queue.publish(n)
        await t.settled(40)


async def test_a_poller_promotes_what_is_due_in_any_lane(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.poller()
        t.consumer("c1")
        for n in range(40):
            await queue.publish(n, delay=0.1, key=f"k{n}")
        await t.settled(40)
        assert sorted(t.bodies) == list(range(40))
