"""What both demos stand on: a server, a queue of their own, a tape, and who watches."""

import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Protocol

import anyio

from delayq import logs
from delayq.browse import Stats
from delayq.clock import mono_s, real_ms
from delayq.connection import Server, clock_offset_ms, outlast
from delayq.demos.report import Handling, Report
from delayq.demos.view import REFRESH_S, live
from delayq.embedded import embedded
from delayq.errors import ServerError
from delayq.events import Ended, Event, Recovered, Unreachable
from delayq.fitness import check
from delayq.handling import Context
from delayq.keys import LaneKeys, own_name_of
from delayq.queue import OnDue, Ordering, Queue
from delayq.retry import Retry
from delayq.settings import DemoSettings, own_name
from delayq.supervisor import Supervisor, signalled
from delayq.tape import Tape

Say = Callable[[str], None]
_EVENTS = 8
GRACE_S = 3.0
"""How long a role of a demo may take to stop."""


class Story(Protocol):
    """A demo: what happens, and how it is shown meanwhile."""

    title: str

    def lines(self) -> list[str]:
        """Draw the live view."""

    async def script(self, supervisor: Supervisor) -> None:
        """Spawn roles, end roles, and return when all is told."""


@dataclass
class Stage:
    """A server, a queue, and the record of what happens."""

    server: Server
    queue: Queue
    tape: Tape
    report: Report
    live: bool
    clock_offset_ms: float
    """The server's clock less this host's."""
    began_s: float = field(default_factory=mono_s)
    stats: Stats = field(default_factory=Stats)
    """The last look at the server, for the live view."""

    def record(self, number: int, context: Context) -> None:
        """Record that a handler starts."""
        message = context.message
        ready_ms, _, sequence = context.entry.partition("-")
        handling = Handling(
            number=number,
            id=message.id,
            entry=(int(ready_ms), int(sequence)),
            consumer=own_name_of(context.consumer),
            epoch=context.epoch,
            at_s=mono_s(),
            late_ms=self.now_ms() - message.due_ms,
            early=int(ready_ms) < message.due_ms,
        )
        self.report.handlings.append(handling)
        if self.report.alone:
            logs.tell("handling", number=number, deliveries=message.deliveries)

    @property
    def columns(self) -> int:
        """How wide a picture may be."""
        return shutil.get_terminal_size((84, 24)).columns

    def now_ms(self) -> float:
        """Return the server's time."""
        return real_ms() + self.clock_offset_ms

    def last_events(self, told: Callable[[Event], str | None]) -> list[str]:
        """Return the last events in words, with their times; what is told as None is left out."""
        words = ((at_s, told(event)) for at_s, event in self.tape.heard[-200:])
        lines = [f"{at_s - self.began_s:6.2f}s  {word}" for at_s, word in words if word]
        last = lines[-_EVENTS:]
        return [*last, *[""] * (_EVENTS - len(last))]

    async def play(self, story: Story) -> None:
        """Run a story's script, until its end or a signal, and stop all roles; show it live."""
        if self.live:
            async with live(story.title, story.lines):
                await self._play(story)
        else:
            await self._play(story)

    async def _play(self, story: Story) -> None:
        async with anyio.create_task_group() as watching:
            if self.live:
                watching.start_soon(self._look)
            async with Supervisor(self.tape, grace_s=GRACE_S) as supervisor:
                with anyio.CancelScope() as playing:
                    watching.start_soon(self._obey_signals, playing, supervisor)
                    await story.script(supervisor)
            watching.cancel_scope.cancel()
        self.stats = await self.queue.stats()
        if self.report.interrupted:
            self.report.remaining = self.stats.scheduled + self.stats.ready + self.stats.pending

    async def _look(self) -> None:
        while True:
            self.stats = await outlast(self.queue.stats)
            await anyio.sleep(REFRESH_S)

    async def _obey_signals(self, playing: anyio.CancelScope, supervisor: Supervisor) -> None:
        """At the first signal end the script, which stops the roles; at the second kill them."""
        await signalled()
        self.report.interrupted = True
        playing.cancel()
        await signalled()
        await supervisor.kill_all()


@asynccontextmanager
async def stage(
    settings: DemoSettings,
    queue_name: str,
    *,
    ordering: Ordering,
    alone: bool,
    on_due: OnDue | None = None,
    retry: Retry | None = None,
) -> AsyncIterator[Stage]:
    """Open a stage. A whole demo plays on a queue of its own, and deletes it; one role does not.

    :raises ServerError: if the server will not do
    """
    async with AsyncExitStack() as opened:
        url = settings.redis_url
        if url is None:
            url = await opened.enter_async_context(embedded())
        server = Server(url)
        for warning in await check(server):
            logs.warn(warning)
        client = await opened.enter_async_context(server.client("demo"))
        name = queue_name if alone else f"{queue_name}-{secrets.token_hex(4)}"
        keys = LaneKeys(settings.namespace, name)
        queue = Queue(lambda: client, keys, ordering, retry or Retry(), on_due=on_due)
        live = not (settings.plain or settings.json_verdict or alone) and _on_a_terminal()
        if alone:
            logs.tell("running alone; Ctrl-C stops it", pid=os.getpid(), queue=name)
        tape = Tape() if live else Tape(then=logs.log_event)
        offset_ms = await clock_offset_ms(client)
        try:
            yield Stage(server, queue, tape, Report(alone=alone), live, offset_ms)
        finally:
            if not alone:
                with suppress(ServerError), anyio.move_on_after(2, shield=True):
                    await queue.destroy()


def _on_a_terminal() -> bool:
    return sys.stdout.isatty() and find_spec("rich") is not None


def role_name(settings: DemoSettings, kind: str) -> str:
    """Return the name of a role that runs alone: as told, or of its kind, host and process."""
    return settings.name or f"{kind}-{own_name()}"


def told_of_any(event: Event) -> str | None:
    """Tell in words of what may happen to any role."""
    match event:
        case Unreachable():
            return "the server does not answer: waiting for it"
        case Recovered(outage_ms=outage_ms):
            return f"the server answers again, after {outage_ms / 1000:.1f} s"
        case Ended(role=role, how=how):
            return f"{role} {how}"
        case _:
            return None
