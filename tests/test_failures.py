"""What a failure means where the order is kept: each policy, in each ordering."""

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delayq import OnFailure, Ordering, Retry, Server
from delayq.events import Halted, Resumed
from tests.conftest import Client, MakeQueue
from tests.failing import (
    DEADLY,
    FAIL,
    FATAL,
    KILL,
    LATER,
    REJECT,
    Fatal,
    dead,
    playing,
    publish,
    resume,
)
from tests.state import NOTHING, messages

FAST = Retry(max_deliveries=30, base_ms=1, cap_ms=4, never=(Fatal,))
ONE_TO_FOUR = [("k", 1), ("k", 2), ("k", 3), ("k", 4)]
ordered = pytest.mark.parametrize("ordering", ["strict", "key"])


@ordered
async def test_block_retries_in_place_and_those_behind_wait(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, FAST, on_failure="block")
    await publish(queue, *ONE_TO_FOUR)
    async with playing(server, client, queue, {2: [FAIL, LATER, FAIL]}) as play:
        await play.drained()
    assert [n for _, n in play.begun] == [1, 2, 2, 2, 2, 3, 4]


@ordered
async def test_park_puts_the_key_behind_its_failed_message_and_other_keys_go_on(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, FAST, on_failure="park")
    await publish(queue, ("k", 1), ("k", 2), ("other", 10), ("k", 3), ("k", 4), (None, 20))
    async with playing(server, client, queue, {2: [FAIL, LATER, FAIL]}) as play:
        await play.drained()
    assert [n for key, n in play.begun if key == "k"] == [1, 2, 2, 2, 2, 3, 4]
    assert {10, 20} <= set(play.order)
    assert play.order.index(10) < play.order.index(2), "other keys do not wait"


@ordered
async def test_dead_letter_lets_the_next_go_on_at_once(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, FAST, on_failure="dead_letter")
    await publish(queue, *ONE_TO_FOUR)
    async with playing(server, client, queue, {2: [FAIL]}) as play:
        await play.drained()
    assert [n for _, n in play.begun] == [1, 2, 3, 4]
    assert await dead(client) == [(2, "failed")]


@ordered
@pytest.mark.parametrize("skip", [False, True])
async def test_halt_stops_the_lane_over_a_takeover_until_it_is_resumed(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering, *, skip: bool
) -> None:
    queue = make_queue(ordering, Retry(2, 1, 1), on_failure="halt")
    await publish(queue, *ONE_TO_FOUR, ("other", 10))
    async with playing(server, client, queue, {2: [FAIL, FAIL]}, batch=2) as play:
        halted = await play.t.tape.until(Halted)
        assert (halted.id, halted.reason) == ("2", "max deliveries")
        begun = list(play.begun)
        await publish(queue, ("third", 11))
        await play.takeover()
        with anyio.move_on_after(0.1):
            await play.t.tape.until(Resumed)
        assert play.begun == begun, "a takeover resumes nothing"
        assert await resume(client, skip=skip) == "2"
        await play.drained()
    if skip:
        assert [n for key, n in play.begun if key == "k"] == [1, 2, 2, 3, 4]
        assert await dead(client) == [(2, "max deliveries")]
    else:
        assert [n for key, n in play.begun if key == "k"] == [1, 2, 2, 2, 3, 4]
        assert await dead(client) == []
    assert {10, 11} <= set(play.order)


async def test_two_keys_that_halt_at_once_are_resumed_one_after_the_other(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", FAST, on_failure="halt")
    async with playing(server, client, queue, {1: [FATAL], 2: [FATAL]}, resuming=True) as play:
        play.held |= {1: anyio.Event(), 2: anyio.Event()}
        await publish(queue, ("a", 1), ("b", 2), ("a", 3), ("b", 4))
        await play.begins(1)
        await play.begins(2)
        play.held[1].set()
        play.held[2].set()
        await play.drained()
    assert play.order_of("a") == [1, 3]
    assert play.order_of("b") == [2, 4]
    assert await dead(client) == []


KEY = st.sampled_from(["a", "b", "c"])
TODO: st.SearchStrategy[list[str]] = st.one_of(
    st.just([]), st.lists(st.sampled_from([FAIL, LATER, REJECT, FATAL, KILL]), max_size=3)
)


def expected_dead(policy: str, plan: dict[int, list[str]]) -> list[tuple[int, str]]:
    deadly = DEADLY[policy]
    firsts = {n: next((deadly[p] for p in todo if p in deadly), "") for n, todo in plan.items()}
    return sorted((n, reason) for n, reason in firsts.items() if reason)


@ordered
@pytest.mark.parametrize("policy", ["block", "park", "dead_letter", "halt"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(KEY, TODO), min_size=1, max_size=14), waves=st.integers(1, 3))
async def test_whatever_fails_the_order_of_each_key_is_kept_and_nothing_is_lost(
    server: Server,
    client: Client,
    make_queue: MakeQueue,
    ordering: Ordering,
    policy: OnFailure,
    rows: list[tuple[str, list[str]]],
    waves: int,
) -> None:
    keys, plan = [key for key, _ in rows], {n: todo for n, (_, todo) in enumerate(rows)}
    await client.flushall()
    queue = make_queue(ordering, FAST, on_failure=policy)
    buried = expected_dead(policy, plan)
    numbered: list[tuple[str | None, int]] = [(key, n) for n, key in enumerate(keys)]
    async with playing(server, client, queue, plan, resuming=True, concurrency=3, batch=4) as play:
        for at in range(waves):
            part = numbered[at * len(rows) // waves : (at + 1) * len(rows) // waves]
            await publish(queue, *part)
            if part and part[0][1] not in dict(buried):
                await play.done(part[0][1])
        await play.drained()
    assert sorted(await dead(client)) == buried
    gone = dict(buried)
    for key in set(keys):
        assert play.order_of(key) == [n for n, k in enumerate(keys) if k == key and n not in gone]
    if ordering == "strict" and policy != "park":
        assert play.order == [n for n in range(len(keys)) if n not in gone]
    if not play.kills:
        assert len(play.succeeded) == len(set(play.succeeded))
    found = await messages(client)
    assert found | {"dead": []} == NOTHING
    assert not await client.hgetall(queue.keys.parked)
