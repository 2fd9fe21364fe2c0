import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from delayq import Consumer, Context, Poller, Queue, Server, Supervisor
from delayq.events import Acked, Ended, Event, Promoted, Spawned, Stalled, TookOver
from delayq.recurring import recurrence
from delayq.supervisor import Role, described
from delayq.tape import Tape
from delayq.ticker import Ticker


class Played:
    """A role that does what it is told."""

    def __init__(self, crash: Exception | None = None, *, deaf: bool = False) -> None:
        self._crash = crash
        self._deaf = deaf
        self._stop = anyio.Event()

    async def run(self) -> None:
        if self._crash:
            raise self._crash
        await self._stop.wait()

    def stop(self) -> None:
        if not self._deaf:
            self._stop.set()


async def test_leaving_stops_every_role() -> None:
    tape = Tape()
    async with Supervisor(tape) as supervisor:
        supervisor.spawn("a", Played)
        supervisor.spawn("b", Played)
    assert {(event.role, event.how) for event in tape.of(Ended)} == {
        ("a", "stopped"),
        ("b", "stopped"),
    }


async def test_a_crash_is_reported_and_the_role_is_started_again() -> None:
    tape = Tape()
    roles = [Played(ValueError("one")), Played(ExceptionGroup("", [ValueError("two")])), Played()]
    async with Supervisor(tape) as supervisor:
        supervisor.spawn("a", lambda: roles.pop(0))
        supervisor.spawn("b", Played)
        await tape.until(Spawned, "a", where=lambda _: len(tape.of(Spawned, "a")) == 3)
        assert [e.error for e in tape.of(Ended, "a")] == ["ValueError: one", "ValueError: two"]
        assert not tape.of(Ended, "b")


async def test_a_role_that_cannot_be_made_again_has_crashed_and_the_others_live() -> None:
    tape = Tape()
    roles = [Played(ValueError("one")), None, Played()]

    def make() -> Played:
        if (role := roles.pop(0)) is None:
            raise ValueError("not now")
        return role

    async with Supervisor(tape) as supervisor:
        supervisor.spawn("a", make)
        supervisor.spawn("b", Played)
        await tape.until(Spawned, "a", where=lambda _: len(tape.of(Spawned, "a")) == 2)
        assert [e.error for e in tape.of(Ended)] == ["ValueError: one", "ValueError: not now"]


class Unsaid(Exception):
    def __str__(self) -> str:
        raise ValueError("it cannot say what it is")


@pytest.mark.parametrize("error", [ValueError("nobody listens"), Unsaid()], ids=repr)
async def test_an_observer_that_fails_ends_no_role(
    server: Server, queue: Queue, error: Exception
) -> None:
    handled = anyio.Event()

    async def handle(_body: object, _context: Context) -> None:
        handled.set()

    def failing(event: Event) -> None:
        told.add(type(event))
        raise error

    told = set[type[Event]]()
    due = await queue.publish(1, delay=0.01)
    with anyio.fail_after(10):
        async with Supervisor(failing) as supervisor:
            supervisor.spawn("poller", lambda: Poller(server, queue, observe=failing))
            supervisor.spawn(
                "c1", lambda: Consumer(server, queue, handle, name="c1", observe=failing)
            )
            await handled.wait()
    assert {Spawned, Promoted, TookOver, Acked} <= told
    assert await queue.get(due.id) is None


async def test_a_role_that_keeps_crashing_can_be_stopped() -> None:
    async with Supervisor(tape := Tape()) as supervisor:
        supervisor.spawn("a", lambda: Played(ValueError("again")))
        await tape.until(Ended, "a")
        with anyio.fail_after(1):
            await supervisor.stop("a")


async def test_a_role_that_does_not_stop_is_killed_after_the_grace() -> None:
    async with Supervisor(tape := Tape(), grace_s=0.05) as supervisor:
        supervisor.spawn("a", lambda: Played(deaf=True))
        await supervisor.stop("a")
    assert [event.how for event in tape.of(Ended)] == ["killed"]


async def test_a_role_is_restarted_by_name_and_never_twice() -> None:
    async with Supervisor(tape := Tape()) as supervisor:
        supervisor.spawn("a", Played)
        with pytest.raises(ValueError, match="a is running"):
            supervisor.spawn("a", Played)
        await supervisor.restart("a")
        assert [event.how for event in tape.of(Ended, "a")] == ["stopped"]
        assert len(tape.of(Spawned, "a")) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda away, queue: Consumer(away, queue, print, name="c1"),
        lambda away, queue: Consumer(away, replace(queue, lanes=2), print, name="c1"),
        Poller,
        lambda away, queue: Ticker(away, queue, recurrence(timedelta(hours=1))),
    ],
    ids=["consumer", "consumer that shares", "poller", "ticker"],
)
async def test_a_role_that_was_stopped_before_it_ran_ends_though_the_server_is_away(
    queue: Queue, make: Callable[[Server, Queue], Role]
) -> None:
    role = make(Server("unix:///nowhere"), queue)
    role.stop()
    with anyio.fail_after(5):
        await role.run()


async def test_only_what_can_be_frozen_is_stalled() -> None:
    async with Supervisor(tape := Tape()) as supervisor:
        supervisor.spawn("a", Played)
        with pytest.raises(TypeError, match="a cannot be stalled"):
            supervisor.stall("a", 1)
        assert not tape.of(Stalled)


async def test_where_the_body_fails_the_roles_are_killed() -> None:
    tape = Tape()
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(tape) as supervisor:
            supervisor.spawn("a", lambda: Played(deaf=True))
            raise ValueError("body")
    assert described(caught.value) == "ValueError: body"


async def test_cancelled_while_it_stops_it_kills_the_roles_and_closes() -> None:
    tape = Tape()
    with anyio.move_on_after(0.05) as waiting:
        async with Supervisor(tape) as supervisor:
            supervisor.spawn("a", lambda: Played(deaf=True))
    assert waiting.cancelled_caught
    with anyio.fail_after(1):
        await anyio.lowlevel.checkpoint()


async def test_a_role_that_cancels_its_own_task_has_crashed_and_the_others_live() -> None:
    class SelfCancelling(Played):
        async def run(self) -> None:
            task = asyncio.current_task()
            assert task
            task.cancel()
            await anyio.lowlevel.checkpoint()

    tape = Tape()
    roles = [SelfCancelling(), Played()]
    async with Supervisor(tape) as supervisor:
        supervisor.spawn("a", lambda: roles.pop(0))
        supervisor.spawn("b", Played)
        await tape.until(Spawned, "a", where=lambda _: len(tape.of(Spawned, "a")) == 2)
        assert [event.how for event in tape.of(Ended)] == ["crashed"]


@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)",
        "asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)",
    ],
    ids=["one for a handler of the program", "one for the event loop"],
)
def test_only_the_first_signal_to_end_is_heard_whatever_other_signals_are_for(before: str) -> None:
    program = f"""
import asyncio, os, signal
from delayq.supervisor import ending

async def main():
    with ending(5) as asked:
        {before}
        await asyncio.sleep(0)
        print(asked.is_set())
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(asked.wait(), 5)
        print(asked.is_set())

asyncio.run(main())
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert (said.returncode, said.stdout.split()) == (0, ["False", "True"]), said.stderr
