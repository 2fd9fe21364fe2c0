"""Parked keys: what else may happen to them while their messages wait."""

import anyio
import pytest

from delayq import Ordering, Retry, RetryLater, Server
from delayq.events import Parked
from tests.conftest import KEYS, Client, MakeQueue
from tests.failing import FAIL, LATER, dead, playing, publish

SOON = Retry(max_deliveries=30, base_ms=1, cap_ms=1)
ordered = pytest.mark.parametrize("ordering", ["strict", "key"])


class Pause(RetryLater):
    def __init__(self) -> None:
        super().__init__(600)


async def cancelled(client: Client, message_id: str) -> None:
    """Take a message off the schedule, as foreign hands would."""
    [member] = [m for m in await client.zrange(KEYS.schedule, 0, -1) if m[12:] == message_id]
    await client.zrem(KEYS.schedule, member)
    await client.hdel(KEYS.bodies, message_id)


@ordered
async def test_what_was_met_before_its_blocker_goes_behind_it_and_before_what_comes_later(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}, concurrency=1) as play:
        play.held[0] = anyio.Event()
        await publish(queue, ("k", 1), ("other", 0), ("k", 2), ("k", 3))
        await play.begins(0)
        while await client.exists(KEYS.schedule):
            pass  # 1 comes back, behind 2 and 3
        await publish(queue, ("k", 4), ("k", 5))
        play.held[0].set()
        await play.drained()
    assert play.order_of("k") == [1, 2, 3, 4, 5]
    assert not await client.hgetall(KEYS.parked)


@ordered
@pytest.mark.parametrize("mark", ["cleared", "left"])
async def test_a_blocker_that_foreign_hands_took_away_holds_its_key_no_longer(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering, mark: str
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}) as play:
        play.failures[1] = Pause()
        await publish(queue, ("k", 1), ("k", 2), ("k", 3), ("k", 4))
        await play.waits("1", "2", "3", "4")
        await cancelled(client, "1")
        if mark == "cleared":
            await client.hdel(KEYS.parked, "k")
        with anyio.fail_after(10):
            await play.drained()
        await publish(queue, ("k", 5))
        await play.drained()
        assert len(play.t.tape.of(Parked)) < 20, "they do not chase each other"
    assert play.order_of("k") == [2, 3, 4, 5]
    assert not await client.hgetall(KEYS.parked)


@ordered
async def test_a_blocker_whose_deliveries_are_used_up_frees_its_key(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, Retry(3, 1, 1), on_failure="park")
    async with playing(server, client, queue, {1: [FAIL] * 9}) as play:
        await publish(queue, ("k", 1), ("k", 2), ("other", 3), ("k", 4))
        await play.drained()
    assert play.begun.count(("k", 1)) == 3
    assert play.order_of("k") == [2, 4]
    assert await dead(client) == [(1, "max deliveries")]
    assert not await client.hgetall(KEYS.parked)


@ordered
async def test_parked_keys_stay_parked_over_takeovers(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue = make_queue(ordering, SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL], 11: [FAIL]}) as play:
        play.failures |= {1: Pause(), 11: Pause()}
        await publish(queue, ("a", 1), ("b", 11), ("a", 2), ("b", 12))
        await play.waits("1", "2", "11", "12")
        await play.takeover()
        await publish(queue, ("a", 3), ("b", 13), ("c", 21))
        await play.done(21)
        await play.waits("3", "13")
        await play.takeover()
        await play.drained()
    assert (play.order_of("a"), play.order_of("b")) == ([1, 2, 3], [11, 12, 13])
    assert play.begun.count(("a", 2)) == 1, "what waits is not delivered"
    assert not await client.hgetall(KEYS.parked)


async def test_more_parked_messages_than_one_promotion_moves_come_in_order(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", SOON, on_failure="park")
    async with playing(server, client, queue, {0: [FAIL]}) as play:
        play.failures[0] = Pause()
        await publish(queue, *(("k", n) for n in range(400)))
        await play.waits("0", "399")
        for n in range(400, 460):
            await publish(queue, ("k", n))
            if n % 20 == 0:
                await play.takeover()
        await play.drained()
    assert play.order_of("k") == list(range(460))


async def test_a_message_without_a_key_parks_nobody(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict", SOON, on_failure="park")
    async with playing(server, client, queue, {1: [FAIL]}) as play:
        await publish(queue, (None, 1), (None, 2))
        await play.drained()
    assert play.order == [2, 1]
    assert not play.t.tape.of(Parked)


async def test_the_waiting_messages_of_a_parked_key_keep_their_deliveries(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("key", Retry(2, 1, 1), on_failure="park")
    async with playing(server, client, queue, {1: [LATER], 2: [FAIL]}) as play:
        await publish(queue, ("k", 1), ("k", 2), ("k", 3))
        await play.drained()
    assert play.order_of("k") == [1, 2, 3], "waiting counts as no delivery"
    assert await dead(client) == []
