"""`delayq.testing`: a week in seconds, with the real roles on a real server."""

import random
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from delayq import App, Context, NotOpen, Reject, Retry, RetryLater, testing
from delayq.events import DeadLettered, Ended, Event, Halted, Inherited, TookOver
from delayq.poller import Poller
from delayq.queue import Ordering
from delayq.recurring import Missed
from delayq.ticker import Ticker
from delayq.transport.bells import Bells

HOURS = timedelta(hours=1)
START = testing.START


@dataclass
class Diary:
    """An app, and what it did at what time."""

    app: App = field(default_factory=App)
    stage: testing.Running | None = None
    told: list[tuple[datetime, object]] = field(default_factory=list)

    def note(self, what: object) -> None:
        assert self.stage
        self.told.append((self.stage.clock.now, what))

    @property
    def what(self) -> list[object]:
        return [what for _, what in self.told]

    @property
    def after(self) -> list[timedelta]:
        """How long after the start each was."""
        return [when - START for when, _ in self.told]


async def test_a_week_of_two_processes_of_which_one_is_killed() -> None:
    diary, lots = Diary(), random.Random(1)
    app, failed = diary.app, set[int]()
    backoff = Retry(base_ms=60_000, cap_ms=3_600_000)
    reminders = app.queue("reminders", int, ordering="strict")
    mails = app.queue("mails", int, retry=backoff)
    ticks: list[datetime] = []
    mailed: list[int] = []

    @reminders.handler()
    async def remind(body: int, context: Context) -> None:
        diary.note(body)
        assert abs(diary.told[-1][0] - context.due) < timedelta(milliseconds=1)
        if body % 10 == 0:
            await mails.publish(body)

    @mails.handler()
    async def mail(body: int, context: Context) -> None:
        if context.deliveries < 3:
            failed.add(body)
            raise OSError("no connection")
        mailed.append(body)

    @app.every("0 * * * *")
    async def report(tick: datetime, _context: Context) -> None:
        assert diary.stage and tick == diary.stage.clock.now
        ticks.append(tick)

    began = time.monotonic()
    async with testing.running(app, processes=2) as diary.stage:
        clock, due = diary.stage.clock, {}
        for number in range(200):
            due[number] = START + timedelta(seconds=lots.randrange(1, 7 * 86_400))
            await reminders.publish(number, deliver_at=due[number])
        await clock.advance(days=2, hours=11, minutes=34)
        await diary.stage.kill("p1")
        await clock.advance(hours=9)
        await diary.stage.restart("p1")
        await clock.advance(START + timedelta(days=7, hours=1) - clock.now)
        stats = [await queue.stats() for queue in app.queues.values()]
    took = time.monotonic() - began
    assert diary.what == sorted(due, key=lambda number: (due[number], number))
    assert [when for when, _ in diary.told] == sorted(due.values())
    assert ticks == [START + hour * HOURS for hour in range(1, 7 * 24 + 2)]
    assert sorted(mailed) == sorted(failed) == list(range(0, 200, 10))
    assert [(s.ready, s.pending, s.dead) for s in stats] == [(0, 0, 0)] * 3
    assert took < 30, took


async def test_a_message_a_year_ahead_comes_in_a_year() -> None:
    diary = Diary()
    queue = diary.app.queue("q")
    queue.handler()(lambda body, _context: diary.note(body))
    async with testing.running(diary.app) as diary.stage:
        await queue.publish("later", delay=timedelta(days=365))
        await diary.stage.clock.advance(days=364, hours=23, minutes=59, seconds=59.999)
        assert diary.told == []
        await diary.stage.clock.advance(seconds=0.001)
        assert diary.told == [(START + timedelta(days=365), "later")]


@pytest.mark.parametrize("ordering", ["none", "strict", "key"])
async def test_retries_come_when_they_are_due(ordering: str) -> None:
    diary = Diary()
    queue = diary.app.queue("q", ordering=ordering)  # type: ignore[arg-type]

    @queue.handler()
    async def handle(body: object, context: Context) -> None:
        diary.note(body)
        if body == "slow" and context.deliveries < 4:
            raise RetryLater(context.deliveries * 3_600_000)

    async with testing.running(diary.app) as diary.stage:
        await queue.publish("slow", key="k")
        await queue.publish("behind", key="k")
        await queue.publish("other", key="x")
        await diary.stage.clock.advance(days=1)
        assert (await queue.stats()).pending == 0
    slow = [
        after / HOURS for after, body in zip(diary.after, diary.what, strict=True) if body == "slow"
    ]
    assert slow == [0, 1, 3, 6]
    behind = diary.after[diary.what.index("behind")] / HOURS
    other = diary.after[diary.what.index("other")] / HOURS
    expected = {"none": (0, 0), "strict": (6, 6), "key": (6, 0)}
    assert (behind, other) == expected[ordering]


@pytest.mark.parametrize("ordering", ["none", "strict", "key"])
async def test_a_process_that_dies_in_a_handler_is_followed_before_time_moves(
    ordering: str,
) -> None:
    diary = Diary()
    queue = diary.app.queue("q", ordering=ordering)  # type: ignore[arg-type]

    @queue.handler()
    async def handle(body: object, context: Context) -> None:
        diary.note(body)
        if body == "deadly" and context.deliveries == 1:
            assert diary.stage
            await diary.stage.kill(context.consumer.partition("@")[0].removeprefix("q."))

    async with testing.running(diary.app, processes=2) as diary.stage:
        await queue.publish("deadly", delay=3600)
        await queue.publish("behind", delay=3601)
        await diary.stage.clock.advance(hours=2)
        [survivor] = diary.stage.processes
        kind: type[Event] = Inherited if ordering == "none" else TookOver
        assert diary.stage.events.of(kind, f"q.{survivor}")
    assert diary.what == ["deadly", "deadly", "behind"]
    assert diary.after == [HOURS, HOURS, HOURS + timedelta(seconds=1)]


async def test_one_that_is_stopped_hands_over_and_restarted_it_stands_by() -> None:
    diary = Diary()
    queue = diary.app.queue("q", ordering="strict")

    @queue.handler()
    async def handle(_body: object, context: Context) -> None:
        diary.note(context.consumer.partition("@")[0])

    async with testing.running(diary.app, processes=2) as diary.stage:
        for number in range(6):
            await queue.publish(number, delay=number + 0.5)
        await diary.stage.clock.advance(seconds=2)
        first = str(diary.what[0]).removeprefix("q.")
        await diary.stage.stop(first)
        await diary.stage.clock.advance(seconds=2)
        await diary.stage.restart(first)
        await diary.stage.clock.advance(seconds=2)
    assert diary.what == [f"q.{first}"] * 2 + [diary.what[-1]] * 4
    assert diary.what[-1] != diary.what[0]


@pytest.mark.parametrize(
    ("missed", "made_up"), [("skip", []), ("latest", [5]), ("all", [2, 3, 4, 5])]
)
async def test_ticks_that_all_processes_missed(missed: Missed, made_up: list[int]) -> None:
    diary = Diary()

    @diary.app.every(timedelta(hours=1), missed=missed)
    async def tick(at: datetime, _context: Context) -> None:
        diary.note((at - START) / HOURS)

    async with testing.running(diary.app, processes=2) as diary.stage:
        await diary.stage.kill("p1")
        await diary.stage.stop("p2")
        await diary.stage.clock.advance(hours=5.5)
        assert diary.told == []
        await diary.stage.restart("p1")
        await diary.stage.settle()
        assert sorted(diary.what) == [1, *made_up]  # type: ignore[type-var]
        await diary.stage.clock.advance(hours=1)
    assert diary.told[-1] == (START + 6 * HOURS, 6)


async def test_a_handler_without_an_end_is_named() -> None:
    app = App()
    queue = app.queue("q")

    @queue.handler()
    async def handle(_body: object, _context: Context) -> None:
        await anyio.sleep_forever()

    async with testing.running(app, patience_s=1) as stage:
        await queue.publish(1, id="endless", delay=5)
        with pytest.raises(testing.NotQuiet, match=r"1 s.*q\.p1 is busy.*q: endless"):
            await stage.clock.advance(minutes=1)
        await stage.kill("p1")


async def test_a_process_that_is_not_there_is_named() -> None:
    async with testing.running(App(), processes=2) as stage:
        for end in (stage.kill, stage.stop):
            with pytest.raises(KeyError, match="no process p9 runs; there are: p1, p2"):
                await end("p9")


async def test_impatience_is_told_though_no_consumer_has_begun() -> None:
    app = App()
    app.queue("q").handler()(lambda _body, _context: None)
    with pytest.raises(testing.NotQuiet, match="nothing is in hand"):
        async with testing.running(app, patience_s=0):
            pass


async def test_patience_is_with_a_handler_and_not_with_all_of_them() -> None:
    diary = Diary()
    queue = diary.app.queue("q", ordering="strict")

    @queue.handler()
    async def handle(body: object, _context: Context) -> None:
        await anyio.sleep(0.1)
        diary.note(body)

    async with testing.running(diary.app, patience_s=1) as diary.stage:
        await queue.publish_many(list(range(20)))
        await diary.stage.settle()
        assert diary.what == list(range(20))


async def test_a_role_that_crashed_fails_the_test_at_its_end() -> None:
    app = App(observe=lambda _event: None)
    queue = app.queue("q")
    queue.handler()(lambda _body, _context: None)
    with pytest.raises(AssertionError, match=r"q:poller\.p1 crashed: WRONGKEY"):
        async with testing.running(app) as stage:
            await queue.client.set(queue.keys.schedule, "foreign")
            await stage.events.until(Ended)
            await queue.client.delete(queue.keys.schedule)
            await stage.settle()


async def test_the_app_is_as_it_was_afterwards_and_begins_anew() -> None:
    heard: list[Event] = []
    app = App(redis_url="redis://elsewhere", observe=heard.append)
    queue = app.queue("q")
    queue.handler()(lambda _body, _context: None)
    before = app.settings, app.observe, app.clock.now_ms()
    for _ in range(2):
        async with testing.running(app) as stage:
            assert (await queue.publish(1, id="one", delay=10)).duplicate is False
            assert app.clock.now_ms() == stage.clock.now_ms()
            with pytest.raises(NotOpen):
                async with testing.running(app):
                    pass
            assert app.clock.now_ms() == stage.clock.now_ms()
    assert (app.settings, app.observe, app.clock.now_ms()) == before
    assert heard
    with pytest.raises(NotOpen):
        await queue.publish(1)


@pytest.mark.parametrize("ordering", ["none", "strict", "key"])
async def test_lanes_are_waited_for_all_of_them(ordering: Ordering) -> None:
    app, handled = App(), set[int]()
    queue = app.queue("q", int, ordering=ordering, lanes=5)
    queue.handler()(lambda body, _context: handled.add(body))
    async with testing.running(app, processes=2) as stage:
        for n in range(40):
            await queue.publish(n, key=f"k{n}", delay=60 if n % 2 else 0)
        await stage.settle()
        assert handled == set(range(0, 40, 2))
        await stage.kill("p1")
        await stage.clock.advance(seconds=60)
        assert handled == set(range(40))


async def test_what_handlers_publish_is_followed_up() -> None:
    diary = Diary()
    first, then = diary.app.queue("first"), diary.app.queue("then", ordering="key")

    @first.handler()
    async def hand_on(body: int, _context: Context) -> None:
        for number in range(body):
            await then.publish(number, key=str(number % 2), delay=timedelta(days=number))

    @then.handler()
    def note(body: int, _context: Context) -> None:
        diary.note(body)

    async with testing.running(diary.app, processes=3) as diary.stage:
        await first.publish(5, delay=timedelta(days=1))
        await diary.stage.clock.advance(days=10)
    assert list(zip(diary.after, diary.what, strict=True)) == [
        (timedelta(days=number + 1), number) for number in range(5)
    ]


@pytest.mark.parametrize("ordering", ["strict", "key"])
async def test_a_lane_that_is_halted_is_quiet(ordering: str) -> None:
    diary = Diary()
    queue = diary.app.queue(
        "q",
        ordering=ordering,  # type: ignore[arg-type]
        on_failure="halt",
        retry=Retry(max_deliveries=1),
    )

    @queue.handler(concurrency=1)  # so that one is in hand that waits for its place
    async def handle(body: object, _context: Context) -> None:
        diary.note(body)
        if body == "bad" and diary.what.count("bad") == 1:
            raise ValueError(body)

    async with testing.running(diary.app, patience_s=5) as diary.stage:
        clock = diary.stage.clock
        await queue.publish_many([queue.message("bad", key="k"), queue.message("ok", key="x")])
        await clock.advance(hours=1)
        assert len(diary.stage.events.of(Halted)) == 1
        await queue.publish("behind", delay=5)
        await queue.publish_many(["more"] * 3)
        await clock.advance(hours=1)
        assert "behind" not in diary.what


async def test_dead_letters_and_events_are_seen() -> None:
    app = App(observe=lambda _event: None)
    queue = app.queue("q")

    @queue.handler()
    async def handle(_body: object, _context: Context) -> None:
        raise Reject("no")

    async with testing.running(app) as stage:
        await queue.publish(1)
        await stage.settle()
        assert [event.reason for event in stage.events.of(DeadLettered)] == ["rejected"]


async def test_the_clock_goes_forward_from_where_it_is_told() -> None:
    start = datetime(2031, 5, 1, 12, tzinfo=UTC)
    app = App()
    async with testing.running(app, start=start) as stage:
        with pytest.raises(ValueError, match="forward only"):
            await stage.clock.advance(seconds=-1)
        await stage.clock.advance(timedelta(hours=1), days=1)
        assert stage.clock.now == datetime(2031, 5, 2, 13, tzinfo=UTC)
    with pytest.raises(ValueError, match="timezone"):
        async with testing.running(app, start=datetime(2031, 5, 1)):  # noqa: DTZ001
            pass


# -- what is quiet --


async def test_a_bell_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Bells._read

    async def late(*given: Any) -> dict[str, str]:
        heard = await read(*given)
        await anyio.sleep(0.1)
        return heard

    monkeypatch.setattr(Bells, "_read", late)
    diary = Diary()
    queue = diary.app.queue("q")
    queue.handler()(lambda body, _context: diary.note(body))
    async with testing.running(diary.app) as diary.stage:
        await queue.client.xadd(queue.keys.stream, {"body": '"ready"'})
        await diary.stage.settle()
        assert diary.what == ["ready"]
        await queue.publish("due", delay=5)
        diary.stage.clock._move(diary.stage.clock.now_ms() + 5_000)
        await diary.stage.settle()
        assert diary.what == ["ready", "due"]
        await queue.publish("later", delay=5)
        await diary.stage.clock.advance(seconds=5)
        assert diary.what == ["ready", "due", "later"]


async def test_whoever_is_about_to_do_something_is_waited_for() -> None:
    app = App()
    app.every(timedelta(hours=1), name="q")(lambda _tick, _context: None)
    async with testing.running(app) as stage:
        quiet, roles = stage._quiet, stage._processes["p1"]
        for name in ("q:poller.p1", "q:ticker.p1"):
            role = roles[name]
            assert isinstance(role, Poller | Ticker)
            waiting = role._promoters[0] if isinstance(role, Poller) else role
            waiting.idle = False
            assert quiet._stir(stage.clock) == f"{name} is busy"
            waiting.idle = True
        assert quiet._stir(stage.clock) == ""
        stage.clock._move(stage.clock.now_ms() + 3_600_000)
        assert quiet._stir(stage.clock) == "somebody has not woken yet"
        await stage.settle()
        assert quiet._stir(stage.clock) == ""


async def test_what_happens_during_a_look_makes_it_look_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()
    app.queue("q").handler()(lambda _body, _context: None)
    async with testing.running(app) as stage:
        look, looks = stage._quiet._look, 0

        async def eventful() -> Any:
            nonlocal looks
            looks += 1
            seen = await look()
            if looks == 1:
                stage.events(Event("somebody"))
            return seen

        monkeypatch.setattr(stage._quiet, "_look", eventful)
        await stage.settle()
        assert looks == 2


async def test_a_queue_that_was_destroyed_is_quiet_and_goes_on() -> None:
    diary = Diary()
    queue = diary.app.queue("q")
    queue.handler()(lambda body, _context: diary.note(body))
    async with testing.running(diary.app) as diary.stage:
        await queue.publish("gone", delay=5)
        await queue.destroy()
        await diary.stage.clock.advance(seconds=10)
        assert diary.what == []
        await queue.publish("new")
        await diary.stage.settle()
        assert diary.what == ["new"]


async def test_what_was_deleted_unread_is_not_waited_for() -> None:
    diary = Diary()
    queue = diary.app.queue("q", ordering="strict")
    queue.handler()(lambda body, _context: diary.note(body))
    async with testing.running(diary.app) as diary.stage:
        async with queue.client.pipeline(transaction=True) as both:
            both.xadd(queue.keys.stream, {"body": "1"}, id="9999999999999-1")
            both.xdel(queue.keys.stream, "9999999999999-1")
            await both.execute()
        await diary.stage.settle()
        assert diary.what == []


def test_the_fixture_runs_an_app(tmp_path: Path) -> None:
    (tmp_path / "test_service.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from delayq import App

            pytest_plugins = ["delayq.testing.pytest"]
            app = App()
            queue = app.queue("q")
            handled = []

            @queue.handler()
            async def handle(body, context):
                handled.append(body)

            @pytest.fixture
            def delayq_app():
                return app

            @pytest.fixture
            def delayq_processes():
                return 2

            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            @pytest.mark.anyio
            @pytest.mark.parametrize("number", [1, 2])
            async def test_it(delayq_running, number):
                assert delayq_running.processes == ["p1", "p2"]
                await queue.publish(number, delay=3600)
                await delayq_running.clock.advance(hours=1)
                assert handled[-1] == number
            """
        )
    )
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "2 passed" in said.stdout, said.stdout
