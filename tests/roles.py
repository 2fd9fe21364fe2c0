"""Roles for tests, with a tape that tests wait on and a handler that tests hold."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from delayq import Consumer, Context, Poller, Queue, Server, Supervisor
from delayq.active import Active
from delayq.events import Acked, DeadLettered, Ended, TookOver
from delayq.tape import Tape


@dataclass
class Handled:
    body: Any
    consumer: str
    deliveries: int
    lane: int


@dataclass
class Troupe:
    """A supervisor, a tape, and what was handled."""

    server: Server
    queue: Queue
    supervisor: Supervisor
    tape: Tape
    handled: list[Handled] = field(default_factory=list)
    succeeded: list[Any] = field(default_factory=list)
    """Bodies whose handler came to its end."""
    held: dict[Any, anyio.Event] = field(default_factory=dict)
    """Bodies whose handler waits until the test sets the event."""
    failing: dict[Any, list[Exception]] = field(default_factory=dict)
    """Bodies whose handler raises these, one each time, before it succeeds."""
    doing: dict[Any, list[Callable[[], Awaitable[None]]]] = field(default_factory=dict)
    """Bodies whose handler does these, one each time."""
    begun: anyio.Event = field(default_factory=anyio.Event)
    now_active: Active | None = None

    async def handle(self, body: Any, context: Context) -> None:
        deliveries = context.message.deliveries
        self.handled.append(Handled(body, context.consumer, deliveries, context.lane))
        self.begun.set()
        self.begun = anyio.Event()
        if body in self.held:
            await self.held[body].wait()
        if self.doing.get(body):
            await self.doing[body].pop(0)()
        if self.failing.get(body):
            raise self.failing[body].pop(0)
        self.succeeded.append(body)
        self.begun.set()
        self.begun = anyio.Event()

    def consumer(self, name: str, **options: Any) -> None:
        self.supervisor.spawn(
            name,
            lambda: Consumer(
                self.server, self.queue, self.handle, name=name, observe=self.tape, **options
            ),
        )

    def role(self, name: str) -> Any:
        return self.supervisor._members[name].role

    def poller(self, name: str = "poller") -> None:
        self.supervisor.spawn(
            name, lambda: Poller(self.server, self.queue, name=name, observe=self.tape)
        )

    async def hand_over(self) -> None:
        [self.now_active] = await self.queue.handover()

    async def active(self, name: str, **options: Any) -> TookOver:
        place = self.tape.end
        self.consumer(name, **options)
        return await self.tape.until(TookOver, name, after=place)

    async def begins(self, body: Any, times: int = 1) -> None:
        """Wait until the handling of a body has begun."""
        while self.bodies.count(body) < times:
            await self.begun.wait()

    async def settled(self, count: int) -> None:
        """Wait until so many messages are acknowledged or dead."""
        while True:
            place = self.tape.end
            done = sum(len(event.ids) for event in self.tape.of(Acked))
            if done + len(self.tape.of(DeadLettered)) >= count:
                return
            await self.tape.until(Acked | DeadLettered, after=place)  # type: ignore[arg-type]

    @property
    def bodies(self) -> list[Any]:
        return [handled.body for handled in self.handled]


async def publish(queue: Queue, *bodies: object) -> None:
    for body in bodies:
        await queue.publish(body)


@asynccontextmanager
async def troupe(server: Server, queue: Queue) -> AsyncIterator[Troupe]:
    tape = Tape()
    with anyio.fail_after(60):
        async with Supervisor(tape, grace_s=5) as supervisor:
            yield Troupe(server, queue, supervisor, tape)
    crashed = [event.error for event in tape.of(Ended) if event.how == "crashed"]
    assert not crashed
