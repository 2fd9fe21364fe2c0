"""The delay poller and the producer."""

import asyncio
import math
from contextlib import AbstractContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from delayq import Message, Poller, Producer, Queue, Server
from delayq.clock import Clock, real_ms
from delayq.distribution import quantile
from delayq.events import (
    Corrected,
    CorrectionFailed,
    Event,
    LeaseEnded,
    Promoted,
    Published,
    Recovered,
    TookOver,
    Unreachable,
    unobserved,
)
from delayq.promoter import NEAR_S, SAFETY_S, Promoter, until_near
from delayq.tape import Tape
from delayq.transport.bells import Bells
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import troupe
from tests.servers import RealServer
from tests.state import messages

FAR_MS = 10**14


async def shout(message: Message) -> object:
    if message.body == "bad":
        raise ValueError("cannot be corrected")
    if message.body == "no json":
        return object()
    return message.body.upper()


async def test_a_turn_moves_what_is_due_and_tells_how_long_to_wait(
    server: Server, queue: Queue
) -> None:
    poller = Poller(server, queue)
    assert await poller.turn() == math.inf
    due_ms = (await queue.publish(1, delay=10)).due_ms
    assert await poller.turn(due_ms - 400) == 0.4
    assert await poller.turn(due_ms - 5_000) == 5
    assert await poller.turn(due_ms) == math.inf
    assert (await queue.stats()).ready == 1


async def test_a_turn_corrects_and_what_fails_goes_on_as_it_was(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue, tape = make_queue(on_due=shout), Tape()
    for body in ("a", "bad", "no json", "b"):
        await queue.publish(body, id=body, delay=1)
    await Poller(server, queue, observe=tape).turn(FAR_MS)
    bodies = [fields["body"] for _, fields in await client.xrange(KEYS.stream)]
    assert bodies == ['"A"', '"bad"', '"no json"', '"B"']
    assert [event.id for event in tape.of(CorrectionFailed)] == ["bad", "no json"]
    assert sum(len(event.ids) for event in tape.of(Corrected)) == 4


async def test_a_hook_that_is_cancelled_from_inside_takes_nobody_along(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    async def hook(message: Message) -> object:
        if message.body == "b":
            raise asyncio.CancelledError
        return message.body.upper()

    queue = make_queue(on_due=hook)
    for body in "abc":
        await queue.publish(body, id=body, delay=1)
    tape = Tape()
    await Poller(server, queue, observe=tape).turn(FAR_MS)
    bodies = [fields["body"] for _, fields in await client.xrange(KEYS.stream)]
    assert bodies == ['"A"', '"b"', '"C"']
    [failed] = tape.of(CorrectionFailed)
    assert (failed.id, failed.error) == ("b", "RuntimeError: cancelled from inside: ")


async def test_a_hook_whose_error_cannot_be_said_takes_nobody_along(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise LookupError

    async def hook(_message: Message) -> object:
        raise UnspeakableError

    queue, tape = make_queue(on_due=hook), Tape()
    await queue.publish("a", delay=1)
    await Poller(server, queue, observe=tape).turn(FAR_MS)
    assert await client.xlen(KEYS.stream) == 1
    assert [e.error for e in tape.of(CorrectionFailed)] == ["UnspeakableError: it cannot be said"]


async def test_after_hooks_the_schedule_is_looked_at_again(
    server: Server, make_queue: MakeQueue
) -> None:
    queue = make_queue(on_due=shout)
    await queue.publish("a", delay=1)
    await queue.publish("b", delay=3_600)
    poller = Poller(server, queue)
    assert await poller.turn(int(real_ms()) + 2_000) == 0, (
        "what came due while hooks ran waits no more"
    )
    assert await poller.turn() > 3_000


@pytest.mark.parametrize(
    ("score", "packed"), [(1, ""), ("-inf", '["body","1"]'), (1, "[" * 200_000), (1, '["body"]')]
)
async def test_with_a_hook_a_malformed_scheduled_body_blocks_nothing(
    server: Server, client: Client, make_queue: MakeQueue, score: float | str, packed: str
) -> None:
    queue = make_queue(on_due=shout)
    await queue.publish("a", id="a", delay=1)
    await client.zadd(KEYS.schedule, {"000000000009bad": score})
    await client.hset(KEYS.bodies, "bad", "000000000009" + packed)
    poller = Poller(server, queue)
    while await poller.turn(FAR_MS) == 0:
        pass
    state = await messages(client)
    assert (state["ready"], state["dead"]) == (["a"], ["bad"])
    [(_, fields)] = await client.xrange(KEYS.stream)
    assert fields["body"] == '"A"', "its neighbour is corrected all the same"


async def test_a_fractional_due_time_of_foreign_hands_is_promoted(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    await client.zadd(KEYS.schedule, {"000000000001odd": 1.5})
    await client.hset(KEYS.bodies, "odd", '000000000001["body","\\"a\\""]')
    await Poller(server, make_queue(on_due=shout)).turn(FAR_MS)
    assert (await messages(client))["ready"] == ["odd"]


@pytest.mark.parametrize("hooked", [False, True])
async def test_pollers_side_by_side_double_nothing(
    server: Server, client: Client, make_queue: MakeQueue, hooked: bool
) -> None:
    queue = make_queue("none", on_due=shout if hooked else None)
    async with troupe(server, queue) as t:
        for name in ("p1", "p2", "p3"):
            t.poller(name)
        bodies = [f"m{number}" for number in range(300)]
        for body in bodies:
            await queue.publish(body, delay=0.05)
        await t.active("c1", concurrency=50)
        await t.settled(300)
        expected = [body.upper() if hooked else body for body in bodies]
        assert sorted(t.bodies) == sorted(expected)
    assert await client.xlen(KEYS.stream) == 0


async def test_messages_are_on_time_and_none_is_early(
    server: Server, client: Client, queue: Queue
) -> None:
    """200 due in 2 s: the median is bounded by a tenth of a poll, not by one."""
    async with troupe(server, queue) as t:
        t.poller()
        for number in range(200):
            await queue.publish(number, delay=0.2 + number * 0.01)
        heard = t.tape.end
        while await client.xlen(KEYS.stream) < 200:  # a publish promotes what is due, too
            await t.tape.until(Promoted, after=heard)
            heard = t.tape.end
        late = [
            int(entry.split("-")[0]) - int(fields["due"])
            for entry, fields in await client.xrange(KEYS.stream)
        ]
    assert min(late) >= 0
    middle = quantile(late, 0.5)
    assert middle is not None
    assert middle <= 10


@pytest.mark.parametrize(
    ("left_s", "look_s", "wait_s"),
    [
        (0.5, 0, 0.5 - NEAR_S),
        (0.5, 0.003, 0.497 - NEAR_S),
        (0.5, 0.499, 0.5),
        (2 * NEAR_S, 0, 2 * NEAR_S),
        (math.inf, 1, math.inf),
    ],
)
def test_one_look_more_ends_shortly_before_it_is_time(
    left_s: float, look_s: float, wait_s: float
) -> None:
    assert until_near(left_s, look_s) == pytest.approx(wait_s)


async def test_the_poller_wakes_shortly_before_it_is_time_to_look(make_queue: MakeQueue) -> None:
    waits, slept = list[float](), anyio.Event()

    class Noting(Clock):
        def limit(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
            waits.append(seconds)
            return super().limit(0)

    class Scripted(Promoter):
        async def turn(self, now_ms: int | None = None) -> float:  # noqa: ARG002 - as it is
            if waits:
                slept.set()
            return 3600

    class Silent(Bells):
        def __init__(self) -> None:
            pass

        def bell(self, _name: str) -> Any:
            return self

        async def wait(self, _seconds: float) -> None:
            await anyio.sleep_forever()

        def let_go(self, *_bells: Any) -> None:
            pass

    promoter = Scripted(make_queue(clock=Noting()), "poller", unobserved)
    async with anyio.create_task_group() as promoting:
        promoting.start_soon(promoter.run, Silent())
        await slept.wait()
        promoting.cancel_scope.cancel()
    assert 3600 - 1 < waits[0] <= 3600 - NEAR_S


async def test_a_message_due_earlier_wakes_the_poller(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.poller()
        await queue.publish("late", delay=3600)
        due_ms = (await queue.publish("soon", delay=0.05)).due_ms
        await t.tape.until(Promoted)
        assert real_ms() - due_ms < SAFETY_S * 1000 / 2


async def test_a_lost_bell_delays_by_the_safety_poll_at_most(
    server: Server, client: Client, queue: Queue
) -> None:
    async with troupe(server, queue) as t:
        t.poller()
        while not t.role("poller").idle:
            await anyio.lowlevel.checkpoint()
        await client.hset(KEYS.bodies, "m", '000000000001["body","1"]')
        await client.zadd(KEYS.schedule, {"000000000001m": 1})
        with anyio.fail_after(SAFETY_S + 1):
            await t.tape.until(Promoted)


async def test_a_producer_that_is_stopped_while_it_publishes_waits_no_more(
    server: Server, queue: Queue, client: Client
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Published):
            producer.stop()

    producer = Producer(server, queue, [1, 2], interval_s=60, observe=stop)
    with anyio.fail_after(5):
        await producer.run()
    assert await client.xlen(KEYS.stream) == 1


async def test_a_producer_publishes_all_in_order(
    server: Server, client: Client, queue: Queue
) -> None:
    tape = Tape()
    await Producer(server, queue, [f"m{n}" for n in range(20)], observe=tape).run()
    assert (await messages(client))["ready"] == [event.id for event in tape.of(Published)]


async def test_a_producer_waits_while_the_server_is_full(
    server: Server, client: Client, queue: Queue
) -> None:
    tape = Tape()
    await client.config_set("maxmemory", "1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Producer(server, queue, [1, 2, 3], observe=tape).run)
        await tape.until(Unreachable)
        await client.config_set("maxmemory", "0")
    assert len(tape.of(Published)) == 3
    assert await client.xlen(KEYS.stream) == 3


async def test_trust_ends_by_itself_where_the_server_is_away() -> None:
    real = RealServer()
    try:
        await real.start()
        server = Server(real.url)
        async with server.client() as client:
            queue = Queue(lambda: client, KEYS, "strict")
            async with troupe(server, queue) as t:
                t.held[1] = anyio.Event()
                await t.active("c1", lease_ttl_s=0.5)
                await queue.publish(1)
                await t.begins(1)
                real.kill()
                with anyio.fail_after(2):
                    await t.tape.until(LeaseEnded)
                await t.supervisor.kill("c1")
    finally:
        real.close()


async def test_roles_outlast_a_server_that_is_killed_and_lose_nothing() -> None:
    real = RealServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        await real.start()
        server = Server(real.url)
        async with server.client() as client:
            queue = Queue(lambda: client, KEYS, "strict")
            async with troupe(server, queue) as t:
                t.poller()
                await t.active("c1", lease_ttl_s=2)
                t.consumer("c2", lease_ttl_s=2)
                numbers = range(150)
                t.supervisor.spawn(
                    "producer",
                    lambda: Producer(server, queue, numbers, interval_s=0.01, observe=t.tape),
                )
                for number in range(20):
                    await queue.publish(f"late {number}", delay=0.2 + number * 0.05)
                for handled in (30, 60):
                    await t.begins(handled)
                    place = t.tape.end
                    real.kill()
                    await t.tape.until(Unreachable, after=place)
                    await real.start()
                    await t.tape.until(Recovered, after=place)
                await t.settled(170)
                assert len(t.tape.of(TookOver)) == 1, "the holder lives: nobody takes over"
                assert len(t.bodies) == 170, "nobody died: nothing is handled twice"
                firsts = list(dict.fromkeys(t.bodies))
                assert [body for body in firsts if isinstance(body, int)] == list(numbers)
                assert len(firsts) == 170
                stats = await queue.stats()
                assert (stats.ready, stats.pending, stats.scheduled, stats.dead) == (0, 0, 0, 0)
    finally:
        real.close()
