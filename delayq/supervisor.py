"""The supervisor: runs roles as tasks of one group; spawns, stops, kills, stalls, restarts them."""

import asyncio
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import anyio
from anyio.abc import TaskGroup

from delayq.clock import mono_s
from delayq.errors import DelayqError, alone, text_of
from delayq.events import Ended, Observer, Spawned, Stalled
from delayq.logs import guarded, log_trouble

_BACKOFF_S = (0.1, 10.0)
LAST_RESORT_S = 1.0
"""How long after the grace a process is ended that cannot end by itself."""
NOT_ENDED = 1
"""The status of a process that had to be ended."""
_STEADY_S = 30.0
"""A role that ran this long before it crashed is restarted as if it were its first crash."""


class Role(Protocol):
    """What can be supervised: a producer, a poller, a consumer."""

    async def run(self) -> None:
        """Work until stopped. Cancelled, it drops everything as a killed process would."""

    def stop(self) -> None:
        """Ask for a graceful end of `run`."""


@runtime_checkable
class Freezable(Protocol):
    """A role that can be stalled."""

    def freeze(self, seconds: float) -> None:
        """Behave as a frozen process does."""


@dataclass
class _Member:
    name: str
    make: Callable[[], Role]
    role: Role
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    rest: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)
    stopping: bool = False


class Supervisor:
    """Owns every task: leaving its context stops all roles gracefully.

    A role that crashes is reported, and restarted with backoff.

    :param grace_s: how long a role may take to stop before it is killed
    """

    def __init__(self, observe: Observer = log_trouble, grace_s: float = 10.0) -> None:
        self._observe = guarded(observe)
        self._grace_s = grace_s
        self._tasks: TaskGroup = anyio.create_task_group()
        self._members: dict[str, _Member] = {}

    async def __aenter__(self) -> Self:
        """Open the task group."""
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop all roles; where the body failed, or this is cancelled, kill them."""
        failure: BaseException | None = None
        if kind is None:
            try:
                await self.stop_all()
            except BaseException as stopping_failed:  # noqa: BLE001 - raised below, when all is closed
                failure = stopping_failed
        if error or failure:
            self._tasks.cancel_scope.cancel()
        closed = await self._tasks.__aexit__(kind, error, traceback)
        if failure:
            raise failure
        return closed

    def spawn(self, name: str, make: Callable[[], Role]) -> None:
        """Start the role that `make` makes, as `name`; a restart makes it anew.

        :raises ValueError: if a role of that name is running
        """
        if name in self._members and not self._members[name].done.is_set():
            raise ValueError(f"{name} is running")
        member = self._members[name] = _Member(name, make, make())
        self._observe(Spawned(name))
        self._tasks.start_soon(self._run, member)

    async def stop(self, name: str) -> None:
        """Have a role finish what is in hand and hand over; after the grace it is killed."""
        member = self._members[name]
        member.stopping = True
        member.role.stop()
        member.rest.cancel()
        with anyio.move_on_after(self._grace_s):
            await member.done.wait()
            return
        await self.kill(name)

    async def kill(self, name: str) -> None:
        """Cancel a role where it stands: its connections drop, nothing is given back."""
        member = self._members[name]
        member.stopping = True
        member.scope.cancel()
        member.rest.cancel()
        await member.done.wait()

    def stall(self, name: str, seconds: float) -> None:
        """Freeze a role; woken, it goes on as if nothing had happened.

        :raises TypeError: if it is a role that cannot be frozen
        """
        role = self._members[name].role
        if not isinstance(role, Freezable):
            raise TypeError(f"{name} cannot be stalled")
        self._observe(Stalled(name, seconds))
        role.freeze(seconds)

    async def restart(self, name: str) -> None:
        """Start a role again, having stopped it if it runs."""
        member = self._members[name]
        if not member.done.is_set():
            await self.stop(name)
        self.spawn(name, member.make)

    async def finished(self, name: str) -> None:
        """Wait until a role has ended."""
        await self._members[name].done.wait()

    async def kill_all(self) -> None:
        """Cancel all roles where they stand."""
        for member in self._members.values():
            if not member.done.is_set():
                await self.kill(member.name)

    async def stop_all(self) -> None:
        """Stop all roles at once: so that no standby takes over from one that stops."""
        async with anyio.create_task_group() as stopping:
            for member in self._members.values():
                if not member.done.is_set():
                    stopping.start_soon(self.stop, member.name)

    async def _run(self, member: _Member) -> None:
        try:
            await self._keep_running(member)
        finally:
            member.done.set()

    async def _keep_running(self, member: _Member) -> None:
        delay_s, longest_s = _BACKOFF_S
        crashed = False
        while True:
            began = mono_s()
            try:
                with member.scope:
                    if crashed:
                        member.role = member.make()
                        self._observe(Spawned(member.name))
                    await member.role.run()
            except (Exception, asyncio.CancelledError) as error:
                if anyio.current_effective_deadline() == -math.inf:
                    raise
                # A cancellation that is none of ours came from the role itself: a crash.
                self._observe(Ended(member.name, "crashed", described(error)))
                crashed = True
                if mono_s() - began > _STEADY_S:
                    delay_s = _BACKOFF_S[0]
            else:
                how = "stopped" if member.stopping else "finished"
                killed = member.scope.cancelled_caught
                self._observe(Ended(member.name, "killed" if killed else how))
                break
            with member.rest:
                await anyio.sleep(delay_s)
            if member.stopping:
                break
            delay_s = min(longest_s, delay_s * 2)
            member.scope, member.rest = anyio.CancelScope(), anyio.CancelScope()


def described(error: BaseException) -> str:
    """Say in a line what went wrong, looking into groups."""
    error = alone(error)
    said = text_of(error) or "no message"
    return said if isinstance(error, DelayqError) else f"{type(error).__name__}: {said}"


@contextmanager
def ending(grace_s: float) -> Iterator[anyio.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; a second one ends the process at once.

    A handler that blocks the event loop, or runs in a thread, cannot be cancelled: so a thread
    listens, and ends the process by `leave`. The message in hand is for the next consumer, as after
    any death. For the same cause it is ended when stopping takes much longer than `grace_s`.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    asked, loop = anyio.Event(), asyncio.get_running_loop()
    hearing, telling = socket.socketpair()
    telling.settimeout(0)

    def listen() -> None:
        with hearing, suppress(TimeoutError):
            while told := hearing.recv(1):
                if told[0] not in numbers:
                    continue  # a signal that the program handles for itself
                if hearing.gettimeout() is not None:
                    leave(128 + told[0])
                hearing.settimeout(grace_s + LAST_RESORT_S)
                loop.call_soon_threadsafe(asked.set)
            return
        leave(NOT_ENDED)

    # The byte is written at once, whatever the main thread does; a Python handler has to wait.
    fd_before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    # Asks, too: a loop that is given a handler for any signal has the bytes written to itself.
    ask = lambda *_: loop.call_soon_threadsafe(asked.set)  # noqa: E731
    before = {number: signal.signal(number, ask) for number in numbers}
    threading.Thread(target=listen, name="delayq signals", daemon=True).start()
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        telling.close()


def leave(status: int) -> None:
    """End this process though threads run that cannot be ended: nothing else would."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


async def signalled() -> None:
    """Return at the first SIGINT or SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
