"""An app that runs for a test: on a server of its own, in processes that the test ends at will."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import anyio

from delayq.app import App
from delayq.clock import Clock
from delayq.connection import Server
from delayq.embedded import embedded
from delayq.events import Ended
from delayq.supervisor import Role
from delayq.tape import Tape
from delayq.testing.moved import START, MovedClock
from delayq.testing.quiet import Quiet


class Running:
    """An app that runs, its clock, and what happened in it."""

    def __init__(
        self, app: App, client: Any, events: Tape, start: datetime, patience_s: float
    ) -> None:
        self.app = app
        self.events = events
        """What happened, and a way to wait for it."""
        self._processes: dict[str, dict[str, Role]] = {}
        self._quiet = Quiet(app, client, events, self._processes, patience_s)
        self.clock = MovedClock(start, self._settle)

    @property
    def processes(self) -> list[str]:
        """The processes that run, by name: p1, p2 and so on."""
        return list(self._processes)

    async def settle(self) -> None:
        """Wait until everything that is due now has been delivered and settled.

        :raises NotQuiet: if a handler does not end; the error says which
        """
        await self._settle()

    async def kill(self, process: str) -> None:
        """End a process where it stands, as `kill -9` does.

        :raises KeyError: if there is no such process
        """
        supervisor, roles = self.app.supervisor, self._taken(process)
        async with anyio.create_task_group() as ending:
            for name in roles:
                ending.start_soon(supervisor.kill, name)

    async def stop(self, process: str) -> None:
        """Have a process finish what is in hand and end, as SIGTERM does.

        :raises KeyError: if there is no such process
        """
        supervisor, roles = self.app.supervisor, self._taken(process)
        async with anyio.create_task_group() as ending:
            for name in roles:
                ending.start_soon(supervisor.stop, name)

    async def restart(self, process: str) -> None:
        """Start a process; one that runs is stopped before."""
        if process in self._processes:
            await self.stop(process)
        roles = self._processes[process] = {}
        for name, make in self.app.roles(process).items():
            self.app.supervisor.spawn(name, _kept(roles, name, make))

    def _taken(self, process: str) -> Mapping[str, Role]:
        if process not in self._processes:
            there = ", ".join(self._processes) or "none"
            raise KeyError(f"no process {process} runs; there are: {there}")
        return self._processes.pop(process)

    async def _settle(self) -> int | None:
        return await self._quiet.wait(self.clock)


@asynccontextmanager
async def running(
    app: App, *, processes: int = 1, start: datetime = START, patience_s: float = 10.0
) -> AsyncIterator[Running]:
    """Run an app on an embedded server, with a clock that is moved by hand. Extra: `embedded`.

    Inside, the app is open: publish to its queues, and have `clock.advance` deliver. Afterwards
    all is ended, and the app is as it was: on the next time its queues are empty.

    :param processes: how many are simulated in this one; they are named p1, p2 and so on
    :param start: what time it is, with a timezone
    :param patience_s: real seconds in which something has to happen while a handler is waited for
    :raises NotOpen: if the app is open already
    :raises AssertionError: at the end, if a consumer, poller or ticker crashed
    :raises ServerMissing: if there is no server program to embed
    """
    events = Tape(app.observe)
    async with embedded() as url, Server(url).client("testing") as client:
        stage = Running(app, client, events, start, patience_s)
        with _lent(app, url, stage.clock, events):
            async with app:
                for number in range(processes):
                    await stage.restart(f"p{number + 1}")
                await stage.settle()
                yield stage
    crashed = [event for event in events.of(Ended) if event.how == "crashed"]
    if crashed:
        raise AssertionError("; ".join(f"{end.role} crashed: {end.error}" for end in crashed))


@contextmanager
def _lent(app: App, url: str, clock: Clock, observe: Tape) -> Iterator[None]:
    """Have an app use another server, clock and observer."""
    before = app.settings, app.clock.behind, app.observe
    app.settings = app.settings.model_copy(update={"redis_url": url})
    app.clock.behind, app.observe = clock, observe
    try:
        yield
    finally:
        app.settings, app.clock.behind, app.observe = before


def _kept(roles: dict[str, Role], name: str, make: Callable[[], Role]) -> Callable[[], Role]:
    """Return how to make a role, and know it: a restart after a crash makes it anew."""

    def made() -> Role:
        roles[name] = make()
        return roles[name]

    return made
