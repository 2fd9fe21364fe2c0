"""Ticks: which there are, that each is one message, and what becomes of missed ones."""

import math
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from delayq import App, Context, InvalidName, Queue, Server, ServerError
from delayq.body import Codec
from delayq.clock import Clock
from delayq.errors import ServerOutOfMemory
from delayq.events import Ticked, Unreachable
from delayq.keys import LaneKeys
from delayq.recurring import MAX_TICKS, Missed, Recurrence, recurrence
from delayq.schedule import Schedule
from delayq.tape import Tape
from delayq.ticker import Ticker
from tests.conftest import KEYS, Client, MakeQueue
from tests.proxy import losing
from tests.servers import RealServer
from tests.state import dump, messages

HOUR = 3_600_000
START = 1_893_456_000_000  # 2030-01-01, UTC
FAR_MS = 10**14


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def local(recurs: Recurrence, start: str, count: int) -> list[str]:
    """Tell the next ticks in the timezone that they were declared in."""
    at, told = ms(start), []
    for _ in range(count):
        after = recurs.timing.after(at)
        assert after is not None
        at = after
        told.append(datetime.fromtimestamp(at / 1000, recurs.zone).strftime("%d. %H:%M %z"))
    return told


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue[datetime]:
    return make_queue("none", codec=Codec(datetime))


async def ticks(client: Client) -> list[int]:
    """Tell the ticks of all messages, in order of their place; each is also its due time."""
    members = await client.zrange(KEYS.schedule, 0, -1, withscores=True)
    found = [(member[12:], int(due_ms)) for member, due_ms in members]
    found += [(fields["id"], int(fields["due"])) for _, fields in await client.xrange(KEYS.stream)]
    assert all(message_id == f"orders@{due_ms}" for message_id, due_ms in found)
    return sorted(due_ms for _, due_ms in found)


# -- which ticks there are --


def test_an_interval_counts_from_1970() -> None:
    timing = recurrence(timedelta(seconds=30)).timing
    assert timing.after(0) == 30_000
    assert timing.after(30_000) == 60_000
    assert timing.after(59_999) == 60_000
    assert timing.until(59_999) == 30_000
    assert timing.until(60_000) == 60_000


def test_a_cron_expression_is_read_in_its_timezone() -> None:
    recurs = recurrence("30 9 * * MON-FRI", timezone="Asia/Kolkata")
    assert local(recurs, "2030-01-04T00:00Z", 2) == ["04. 09:30 +0530", "07. 09:30 +0530"]


def test_a_time_that_is_left_out_in_spring_comes_once() -> None:
    recurs = recurrence("30 2 * * *", timezone="Europe/Berlin")
    told = local(recurs, "2030-03-30T00:00Z", 3)
    assert told == ["30. 02:30 +0100", "31. 03:00 +0200", "01. 02:30 +0200"]


def test_a_time_that_comes_twice_in_autumn_ticks_once() -> None:
    recurs = recurrence("30 2 * * *", timezone="Europe/Berlin")
    told = local(recurs, "2030-10-26T00:00Z", 3)
    assert told == ["26. 02:30 +0200", "27. 02:30 +0200", "28. 02:30 +0100"]
    # In between the two, at 02:15 for the second time: it has been.
    assert local(recurs, "2030-10-27T01:15Z", 1) == ["28. 02:30 +0100"]
    assert recurs.timing.until(ms("2030-10-27T01:15Z")) == ms("2030-10-27T00:30Z")


def test_each_quarter_of_an_hour_ticks_also_while_the_clock_is_changed() -> None:
    timing = recurrence("*/15 * * * *", timezone="Europe/Berlin").timing
    for day in ("2030-03-31T00:00Z", "2030-10-27T00:00Z"):
        at = ms(day)
        for _ in range(20):
            assert timing.after(at) == at + HOUR // 4
            at += HOUR // 4


@pytest.mark.parametrize("spec", ["30 2 * * *", "*/7 1-4 * * *", "5 0 1 * *", "*/20 * * * * *"])
def test_the_last_tick_and_the_next_one_agree(spec: str) -> None:
    timing = recurrence(spec, timezone="Europe/Berlin").timing
    lots = random.Random(1)
    for change in ("2030-03-31T01:00Z", "2030-10-27T01:00Z"):
        for _ in range(100):
            at = ms(change) + lots.randrange(-3 * HOUR, 3 * HOUR)
            until = timing.until(at)
            assert until is not None and until <= at
            following = timing.after(until)
            assert following is not None and following > at
            assert timing.until(until) == until


def test_what_cannot_be_understood_is_named_when_it_is_declared() -> None:
    app = App()
    for spec in ("61 * * * *", "* * *", "hourly", "0 0 30 2 *"):
        with pytest.raises(ValueError, match="every '" + spec.replace("*", r"\*")):
            app.every(spec)
    for interval in (timedelta(0), timedelta(seconds=-5), timedelta(seconds=1, microseconds=1)):
        with pytest.raises(ValueError, match=r"every datetime\.timedelta"):
            app.every(interval)
    with pytest.raises(ValueError, match="timezone 'Mars/Base'"):
        app.every("* * * * *", timezone="Mars/Base")
    with pytest.raises(ValueError, match="missed: one of"):
        app.every("* * * * *", missed="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidName, match="<lambda>"):
        app.every(timedelta(hours=1))(lambda _tick, _context: None)
    assert app.queues == {}


def test_without_its_extra_a_cron_expression_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"delayq\[cron\]"):
        App().every("* * * * *")
    App().every(timedelta(seconds=1))


# -- each is one message --


async def test_the_next_tick_is_there_before_its_time(
    server: Server, client: Client, queue: Queue
) -> None:
    ticker = Ticker(server, queue, recurrence(timedelta(hours=1)))
    assert await ticker.turn(START + 1_000) == 3599
    assert await ticks(client) == [START + HOUR]
    assert await ticker.turn(START + HOUR - 1) == 0.001
    assert await ticks(client) == [START + HOUR]
    assert await ticker.turn(START + HOUR) == 3600
    assert await ticks(client) == [START + HOUR, START + 2 * HOUR]


async def test_without_a_time_given_it_is_the_servers(
    server: Server, client: Client, queue: Queue
) -> None:
    seconds, _ = await client.time()
    wait_s = await Ticker(server, queue, recurrence(timedelta(days=1))).turn()
    [tick] = await ticks(client)
    assert tick == (seconds // 86_400 + 1) * 86_400_000
    assert wait_s == pytest.approx(tick / 1000 - seconds, abs=5)


async def test_three_tickers_for_a_week_make_each_tick_once(
    server: Server, client: Client, queue: Queue
) -> None:
    tape, lots = Tape(), random.Random(1)
    recurs = recurrence("0 * * * *", missed="all")
    tickers = [Ticker(server, queue, recurs, observe=tape) for _ in range(3)]
    now = START
    await tickers[0].turn(now)
    while now < START + 168 * HOUR:
        now += lots.randrange(1, HOUR)
        # At the same time: each knows what it saw before the others changed it.
        async with anyio.create_task_group() as turns:
            for ticker in lots.sample(tickers, lots.randint(1, 3)):
                turns.start_soon(ticker.turn, now - lots.randrange(0, 2_000))
        if lots.random() < 0.3:
            await Schedule(queue).promote(now)
    found = await ticks(client)
    assert found == list(range(START + HOUR, found[-1] + 1, HOUR))
    assert found[-1] >= START + 168 * HOUR
    assert sum(event.count for event in tape.of(Ticked)) == len(found)


async def test_a_ticker_whose_replies_are_lost_doubles_nothing(
    real_server: RealServer, client: Client, queue: Queue, tmp_path: Path
) -> None:
    async with losing(real_server.socket, tmp_path / "s", every=2) as proxy:
        behind = Server(f"unix://{tmp_path}/s")
        clock = Counted()
        own = Queue[datetime](
            queue.connect, LaneKeys("test", "orders"), "none", codec=Codec(datetime), clock=clock
        )
        tape = Tape()
        ticker = Ticker(behind, own, recurrence(timedelta(hours=1), "all"), observe=tape)
        clock.done = ticker.stop
        await ticker.run()
        assert proxy.lost >= 10
    assert await ticks(client) == list(range(START + HOUR, START + 25 * HOUR, HOUR))


class Counted(Clock):
    """Goes on by an hour whenever somebody waits, and stops a ticker after a day."""

    def __init__(self) -> None:
        self.at_ms = START
        self.done: Callable[[], None] = lambda: None

    def now_ms(self) -> int:
        return self.at_ms

    def limit(self, seconds: float) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        self.at_ms += round(seconds * 1000)
        if self.at_ms >= START + 24 * HOUR:
            self.done()
        scope.cancel()
        return scope


async def test_a_ticker_waits_for_a_server_that_is_full(
    server: Server, client: Client, queue: Queue
) -> None:
    tape = Tape()
    own = replace(queue, clock=Counted())
    ticker = Ticker(server, own, recurrence(timedelta(hours=1)), observe=tape)
    own.clock.done = ticker.stop  # type: ignore[attr-defined]
    await client.config_set("maxmemory", "1")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticker.run)
            assert "maxmemory" in (await tape.until(Unreachable)).error
            with pytest.raises(ServerOutOfMemory):
                await Ticker(server, queue, recurrence(timedelta(hours=1))).turn(START)
            assert await ticks(client) == []
            await client.config_set("maxmemory", "0")
    assert len(await ticks(client)) == 24


async def test_a_key_of_the_wrong_type_is_named_and_nothing_changes(
    server: Server, client: Client, queue: Queue
) -> None:
    for key in [KEYS.schedule, KEYS.bodies, KEYS.arrival, KEYS.bell, KEYS.ticked]:
        await client.flushall()
        await client.sadd(key, "foreign")
        before = await dump(client)
        with pytest.raises(ServerError, match=re.escape(key)):
            await Ticker(server, queue, recurrence(timedelta(hours=1))).turn(START)
        assert await dump(client) == before


# -- missed ones --


@pytest.mark.parametrize(
    ("missed", "made_up"), [("skip", []), ("latest", [9]), ("all", [2, 3, 4, 5, 6, 7, 8, 9])]
)
async def test_missed_ticks_are_made_up_for_as_declared(
    server: Server, client: Client, queue: Queue, missed: Missed, made_up: list[int]
) -> None:
    ticker = Ticker(server, queue, recurrence("0 * * * *", missed))
    await ticker.turn(START)
    wait_s = await ticker.turn(START + 9 * HOUR + HOUR // 2)
    assert wait_s == 1800
    # That of hour 1 was on the schedule all the time: it is late, not missed.
    assert await ticks(client) == [START + hour * HOUR for hour in [1, *made_up, 10]]
    await Schedule(queue).promote(START + 9 * HOUR + HOUR // 2)
    ready = [f"orders@{START + hour * HOUR}" for hour in [1, *made_up]]
    assert (await messages(client))["ready"] == ready


@pytest.mark.parametrize("missed", ["skip", "latest", "all"])
def test_a_tick_that_just_came_was_not_missed(missed: Missed) -> None:
    recurs = recurrence(timedelta(hours=1), missed)
    assert recurs.ticks(START, START + 5) == [START + HOUR]
    assert recurs.ticks(START, START - 5) == []


async def test_a_fresh_queue_has_missed_nothing(
    server: Server, client: Client, queue: Queue
) -> None:
    await Ticker(server, queue, recurrence(timedelta(hours=1), "all")).turn(START)
    assert await ticks(client) == [START + HOUR]


async def test_very_many_missed_ticks_come_in_parts_oldest_first(
    server: Server, client: Client, queue: Queue
) -> None:
    ticker = Ticker(server, queue, recurrence(timedelta(seconds=1), "all"))
    await ticker.turn(START)
    now = START + 2_500_500
    assert await ticker.turn(now) == 0
    expected = [START + 1000 * second for second in range(1, MAX_TICKS + 2)]
    assert await ticks(client) == expected
    assert await ticker.turn(now) == 0
    assert await ticker.turn(now) == 0.5
    assert await ticks(client) == [START + 1000 * second for second in range(1, 2502)]


async def test_what_never_comes_again_is_waited_for_for_ever(server: Server, queue: Queue) -> None:
    class Once:
        def after(self, ms: int) -> int | None:
            return START if ms < START else None

        def until(self, ms: int) -> int | None:
            return START if ms >= START else None

    ticker = Ticker(server, queue, Recurrence(Once(), "all", UTC))
    assert await ticker.turn(START - 1) == 0.001
    assert await ticker.turn(START) == math.inf


async def test_a_tick_is_told_in_its_timezone(server: Server, queue: Queue) -> None:
    await Ticker(server, queue, recurrence("0 9 * * *", timezone="Europe/Berlin")).turn(START)
    [due], _ = await Schedule(queue).due(FAR_MS)
    assert due.message.body.isoformat() == "2030-01-01T09:00:00+01:00"
    assert due.message.due_ms == ms("2030-01-01T08:00Z")


# -- in an app --


async def test_an_app_calls_the_function_with_each_tick(server: Server) -> None:
    app = App(redis_url=server.url, namespace="test")
    called: list[tuple[datetime, str]] = []
    enough = anyio.Event()

    @app.every(timedelta(milliseconds=100), missed="all")
    async def beat(tick: datetime, context: Context) -> None:
        called.append((tick, context.id))
        if len(called) == 5:
            enough.set()

    async with app:
        with anyio.fail_after(20):
            await app.start()
            await enough.wait()
    first = called[0][0]
    assert [tick - first for tick, _ in called[:5]] == [
        timedelta(milliseconds=100) * number for number in range(5)
    ]
    assert called[0][1] == f"beat@{round(first.timestamp() * 1000)}"
    assert first.timestamp() * 10 % 1 == 0
