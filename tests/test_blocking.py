"""Handlers that block: the event loop, a thread, or the whole process."""

import functools
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from delayq import Consumer, Context, LeaseLost, Queue, Retry, Server
from delayq.events import (
    Acked,
    DeadLettered,
    HandlersHang,
    LeaseEnded,
    LoopBlocked,
    Released,
    TookOver,
)
from delayq.poller import Poller
from delayq.queue import Ordering
from delayq.supervisor import Supervisor
from delayq.tape import Tape
from delayq.threads import Place
from delayq.threads import Threads as Places
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish
from tests.sample import ledger
from tests.shops import HELD, Start, hold, until


class Stage:
    """Consumers in this process, each with the handler it is given."""

    def __init__(self, server: Server, supervisor: Supervisor, tape: Tape) -> None:
        self._server, self.supervisor, self.tape = server, supervisor, tape

    async def active(self, name: str, queue: Queue, handler: Any, **options: Any) -> None:
        self.consumer(name, queue, handler, **options)
        await self.tape.until(TookOver, name)

    def consumer(self, name: str, queue: Queue, handler: Any, **options: Any) -> None:
        made = lambda: Consumer(  # noqa: E731
            self._server, queue, handler, name=name, observe=self.tape, **options
        )
        self.supervisor.spawn(name, made)

    def poller(self, queue: Queue) -> None:
        self.supervisor.spawn("poller", lambda: Poller(self._server, queue, observe=self.tape))

    async def acked(self, count: int) -> None:
        def enough(_: Acked) -> bool:
            return sum(len(event.ids) for event in self.tape.of(Acked)) >= count

        await self.tape.until(Acked, where=enough)


@pytest.fixture
async def stage(server: Server) -> Any:
    tape = Tape()
    with anyio.fail_after(15):
        async with Supervisor(tape) as supervisor:
            yield Stage(server, supervisor, tape)


async def test_a_process_whose_loop_is_blocked_keeps_its_lease_and_says_who_blocks(
    client: Client,
    server: Server,
    start: Start,
    book: Path,
) -> None:
    first = start("p1", DELAYQ_LEASE_TTL_MS="600", SHOP_BLOCK_S="1.8")
    first.logged("took over", role="held.p1")
    second = start("p2", DELAYQ_LEASE_TTL_MS="600")
    second.logged("stood by", role="held.p2")
    place = second.end
    await hold(server, "block a while")
    blocked = first.logged("loop blocked", role="held.p1")
    assert len(ledger.rows(book)) == 1, "it is said at once, by a thread"
    assert blocked["handler"] == "hold"
    assert "shop.py" in blocked["at"]
    until(book, lambda: len(ledger.rows(book)) == 2, "handled")
    while await client.xlen(HELD.stream):
        pass
    assert [row.outcome for row in ledger.rows(book)] == ["begun", "ok"]
    assert not [line for line in second._lines[place:] if line.get("role") == "held.p2"]
    assert first.count("lease ended") == 0


async def test_a_process_that_is_stopped_as_a_whole_loses_its_lease(
    server: Server,
    start: Start,
    book: Path,
) -> None:
    first = start("p1", DELAYQ_LEASE_TTL_MS="600")
    first.logged("took over", role="held.p1")
    second = start("p2", DELAYQ_LEASE_TTL_MS="600")
    second.logged("stood by", role="held.p2")
    place = second.end
    first.send(signal.SIGSTOP)
    assert second.logged("took over", after=place, role="held.p2")["why"] == "expired"
    await hold(server, "pass")
    until(book, lambda: len(ledger.rows(book)) == 2, "handled by the other")
    place = first.end
    first.send(signal.SIGCONT)
    first.logged("stood by", after=place, role="held.p1")
    assert {row.process for row in ledger.rows(book)} == {second.process.pid}


async def test_a_blocked_loop_is_reported_when_it_runs_again(
    stage: Stage, queue: Queue, client: Client
) -> None:
    handled: list[Any] = []

    async def block(body: Any, _context: Context) -> None:
        handled.append(body)
        if body == 0:
            time.sleep(1.0)  # noqa: ASYNC251 - this is what is tested

    await stage.active("c1", queue, block, lease_ttl_s=0.4)
    await publish(queue, 0, 1)
    event = await stage.tape.until(LoopBlocked, "c1")
    await stage.acked(2)
    assert event.handler.endswith("block")
    assert event.blocked_ms >= 500
    assert "test_blocking.py" in event.at
    assert handled == [0, 1]
    assert not stage.tape.of(LeaseEnded)
    assert await client.xlen(KEYS.stream) == 0


class Threads:
    """A handler that is not async, and counts how many of it run at once."""

    def __init__(self, together: int) -> None:
        self.most = self.now = 0
        self.names: set[str] = set()
        self._lock = threading.Lock()
        self._together = threading.Barrier(together)

    def __call__(self, _body: Any, _context: Context) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.names.add(threading.current_thread().name)
        self._together.wait(10)
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_handlers_that_are_not_async_run_in_threads_up_to_the_limit(
    stage: Stage, make_queue: MakeQueue, ordering: str
) -> None:
    queue, handler = make_queue(ordering), Threads(together=4)
    await stage.active("c1", queue, handler, concurrency=4)
    await publish(queue, *range(12))
    await stage.acked(12)
    assert handler.most == 4
    assert threading.main_thread().name not in handler.names


async def test_a_strict_queue_never_overlaps_two_handlers_in_threads(
    stage: Stage, queue: Queue
) -> None:
    handler = Threads(together=1)
    await stage.active("c1", queue, handler, concurrency=8)
    await publish(queue, *range(50))
    await stage.acked(50)
    assert handler.most == 1


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_handling_beyond_its_time_limit_has_failed(
    stage: Stage, client: Client, make_queue: MakeQueue, released: threading.Event, kind: str
) -> None:
    queue = make_queue("none", Retry(max_deliveries=1))
    remaining: list[float] = []

    async def wait(_body: Any, context: Context) -> None:
        remaining.append(context.remaining())
        await anyio.sleep_forever()

    def wait_in_thread(_body: Any, context: Context) -> None:
        remaining.append(context.remaining())
        released.wait()

    handler = wait if kind == "async" else wait_in_thread
    await stage.active("c1", queue, handler, time_limit_s=0.1)
    await publish(queue, 1)
    with anyio.fail_after(5):
        while not (await queue.stats()).dead:
            await anyio.lowlevel.checkpoint()
    [(_, fields)] = await client.xrange(KEYS.dead)
    assert fields["error"] == "TimeoutError: time limit of 0.1 s"  # no line of theirs is to blame
    assert 0 < remaining[0] <= 0.1
    released.set()


async def test_a_thread_over_its_time_limit_keeps_its_place_and_fails_nobody_who_waits_for_it(
    stage: Stage, make_queue: MakeQueue, released: threading.Event
) -> None:
    now, most, remaining = 0, 0, list[float]()

    def handle(body: int, context: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if body == 0:
            released.wait(0.7)
        else:
            remaining.append(context.remaining())
        now -= 1

    queue = make_queue("none", Retry(max_deliveries=1))
    await stage.active("c1", queue, handle, concurrency=1, time_limit_s=0.4)
    await publish(queue, *range(4))
    await stage.acked(3)
    assert (await queue.stats()).dead == 1
    assert most == 1
    assert all(0.2 < left_s <= 0.4 for left_s in remaining), "their time began with their place"


@pytest.mark.parametrize("ordering", get_args(Ordering))
async def test_where_all_threads_hang_another_takes_over_and_the_rest_is_not_held(
    stage: Stage, make_queue: MakeQueue, released: threading.Event, ordering: Ordering
) -> None:
    queue, handled = make_queue(ordering, Retry(base_ms=1)), list[int]()

    def hang(_body: int, _context: Context) -> None:
        released.wait()

    stage.poller(queue)
    await stage.active("c1", queue, hang, concurrency=2, time_limit_s=0.2)
    await publish(queue, *range(6))
    told = await stage.tape.until(HandlersHang, "c1")
    assert f"{1 if ordering == 'strict' else 2} threads are over their limit of 0.2 s" in told.error
    await stage.active("c2", queue, lambda body, _context: handled.append(body), concurrency=1)
    await stage.acked(6)
    assert sorted(handled) == list(range(6))
    assert ordering == "none" or handled == list(range(6))
    assert not list(stage.tape.of(DeadLettered))
    assert len([event for event in stage.tape.of(TookOver) if event.role == "c1"]) == 1


async def test_one_whose_threads_hung_goes_on_when_one_ends(
    stage: Stage, queue: Queue, released: threading.Event
) -> None:
    handled = list[int]()

    def handle(body: int, _context: Context) -> None:
        if body == 0 and not handled and not released.is_set():
            released.wait()
        else:
            handled.append(body)

    await stage.active("c1", queue, handle, time_limit_s=0.1)
    await publish(queue, *range(3))
    await stage.tape.until(HandlersHang, "c1")
    await stage.tape.until(Released, "c1")
    assert not handled
    released.set()
    await stage.acked(3)
    assert handled == [0, 1, 2]


@pytest.mark.parametrize("ordering", get_args(Ordering))
async def test_what_no_thread_was_to_be_had_for_is_not_counted_as_delivered(
    stage: Stage, make_queue: MakeQueue, released: threading.Event, ordering: Ordering
) -> None:
    queue, handled = make_queue(ordering, Retry(max_deliveries=1)), list[int]()
    await stage.active("c1", queue, lambda *_: released.wait(), concurrency=1, time_limit_s=0.1)
    await publish(queue, 0, 1)
    await stage.tape.until(HandlersHang, "c1")
    await stage.active("c2", queue, lambda body, _context: handled.append(body))
    await stage.acked(1)
    assert handled == [1]


async def test_a_stop_waits_for_no_thread_where_all_hang(
    stage: Stage, queue: Queue, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, taking = Places.take, [anyio.Event(), anyio.Event()]

    async def noted(threads: Places) -> Place:
        next(event for event in taking if not event.is_set()).set()
        return await take(threads)

    monkeypatch.setattr(Places, "take", noted)
    await stage.active("c1", queue, lambda *_: released.wait(), time_limit_s=2)
    await publish(queue, 1, 2)
    await taking[1].wait()
    with anyio.fail_after(1):
        await stage.supervisor.stop("c1")
    assert not list(stage.tape.of(HandlersHang))


async def test_a_consumer_that_hangs_leaves_its_lanes_to_others(
    stage: Stage, make_queue: MakeQueue, client: Client, released: threading.Event
) -> None:
    async def takes_part(name: str) -> bool:
        return await client.zscore(KEYS.members, name) is not None

    queue = make_queue("strict", lanes=2)
    await stage.active("c1", queue, lambda *_: released.wait(), time_limit_s=0.1)
    await publish(queue, 1)
    await stage.tape.until(HandlersHang, "c1")
    while await takes_part("c1"):
        await anyio.lowlevel.checkpoint()
    released.set()
    while not await takes_part("c1"):
        await anyio.lowlevel.checkpoint()
    await stage.acked(1)


def test_a_place_is_waited_for_from_when_all_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, threads, places = 100.0, Places(2, 5), [Place(), Place()]
    monkeypatch.setattr("delayq.threads.mono_s", lambda: now_s)
    for place in places:
        place.begun.acquire()  # as a thread does
    threads.leave(places[0])
    now_s = 104
    threads.leave(places[1])
    assert threads._patience_s() == 5
    now_s = 107
    assert threads._patience_s() == 2
    threads.hurry()
    assert threads._patience_s() == 0


async def test_one_whose_threads_hang_can_be_stopped(
    stage: Stage, queue: Queue, released: threading.Event
) -> None:
    await stage.active("c1", queue, lambda *_: released.wait(), time_limit_s=0.1)
    await publish(queue, 1)
    await stage.tape.until(Released, "c1")
    with anyio.fail_after(5):
        await stage.supervisor.stop("c1")


def passed_on(handler: Any) -> Any:
    """Decorate a handler by what is not async, as much of what people write does."""

    @functools.wraps(handler)
    def call(*args: Any) -> Any:
        return handler(*args)

    return call


@pytest.mark.parametrize("limit_s", [None, 10])
async def test_what_a_handler_that_is_not_async_returns_is_awaited(
    stage: Stage, queue: Queue, limit_s: float | None
) -> None:
    handled: list[tuple[Any, str]] = []

    @passed_on
    async def handle(body: Any, _context: Context) -> None:
        await anyio.lowlevel.checkpoint()
        handled.append((body, threading.current_thread().name))

    await stage.active("c1", queue, handle, time_limit_s=limit_s)
    await publish(queue, 1, 2)
    await stage.acked(2)
    assert handled == [(1, "MainThread"), (2, "MainThread")]


async def test_the_time_limit_holds_for_what_such_a_handler_returns(
    stage: Stage, client: Client, make_queue: MakeQueue
) -> None:
    @passed_on
    async def wait(_body: Any, _context: Context) -> None:
        await anyio.sleep_forever()

    queue = make_queue("none", Retry(max_deliveries=1))
    await stage.active("c1", queue, wait, time_limit_s=0.1)
    await publish(queue, 1)
    await stage.tape.until(DeadLettered, "c1")
    [(_, fields)] = await client.xrange(KEYS.dead)
    assert fields["error"] == "TimeoutError: time limit of 0.1 s"  # no line of theirs is to blame


async def test_a_context_tells_when_a_message_was_due_and_that_its_time_has_no_end(
    stage: Stage, queue: Queue
) -> None:
    told: list[tuple[datetime, float]] = []

    def handle(_body: Any, context: Context) -> None:
        context.check()
        told.append((context.due, context.remaining()))

    due_ms = (await queue.publish(1)).due_ms
    await stage.active("c1", queue, handle)
    await stage.acked(1)
    [(due, remaining)] = told
    assert 0 <= (due - datetime.fromtimestamp(due_ms / 1000, UTC)).total_seconds() <= 0.005
    assert remaining == float("inf")


async def test_a_handler_in_a_thread_learns_that_its_lease_is_lost(
    stage: Stage, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(retry=Retry(base_ms=1, cap_ms=1))
    begun, seen = threading.Event(), list[str]()

    def handle(_body: Any, context: Context) -> None:
        context.check()
        begun.set()
        if seen:
            return
        while not context.lost.is_set():
            time.sleep(0.001)  # a thread has nothing else to wait on
        try:
            context.check()
        except LeaseLost as error:
            seen.append(str(error))

    await stage.active("c1", queue, handle, lease_ttl_s=0.4)
    await publish(queue, 1)
    while not begun.is_set():
        await anyio.lowlevel.checkpoint()
    await client.hset(KEYS.lease(), "epoch", "1")
    await stage.tape.until(LeaseEnded, "c1")
    await client.delete(KEYS.lease())
    await stage.acked(1)
    assert "not trusted" in seen[0]
