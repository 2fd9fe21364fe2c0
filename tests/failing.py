"""A consumer whose handler fails as planned, and who is killed as planned."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from delayq import Consumer, Context, Queue, Reject, RetryLater, Server, scripts
from delayq.events import Halted, TookOver
from delayq.keys import GROUP, LaneKeys
from tests.conftest import KEYS, Client
from tests.roles import Troupe, troupe

FAIL, LATER, REJECT, FATAL, KILL = "fail", "later", "reject", "fatal", "kill"
LATER_MS = 5
DEADLY = {
    "block": {REJECT: "rejected", FATAL: "never retried"},
    "park": {REJECT: "rejected", FATAL: "never retried"},
    "dead_letter": {REJECT: "rejected", FATAL: "never retried", FAIL: "failed"},
    "halt": {REJECT: "rejected"},
}
"""What makes a dead letter at once under each policy, and the reason it bears."""


class Fatal(Exception):
    """What no retry would mend."""


@dataclass
class Play:
    """Handles bodies that are numbers: each does what is planned for it, and then succeeds."""

    t: Troupe
    client: Client
    options: dict[str, Any]
    plan: dict[int, list[str]] = field(default_factory=dict)
    begun: list[tuple[str | None, int]] = field(default_factory=list)
    succeeded: list[tuple[str | None, int]] = field(default_factory=list)
    held: dict[int, anyio.Event] = field(default_factory=dict)
    """Numbers whose handling waits until the test sets the event."""
    failures: dict[int, Exception] = field(default_factory=dict)
    """What numbers raise once, instead of a planned failure."""
    kills: int = 0
    terms: int = 0
    _killing: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, body: int, context: Context) -> None:
        self.begun.append((context.key, body))
        if body in self.held:
            await self.held[body].wait()
        match self.plan.get(body, [])[:1]:
            case []:
                self.succeeded.append((context.key, body))
                return
            case [planned]:
                if planned not in DEADLY[self.t.queue.on_failure]:
                    del self.plan[body][0]  # what is deadly stays so, should a kill forestall it
        if planned == KILL:
            self._killing.set()
            await anyio.sleep_forever()
        raise (
            self.failures.pop(body, None)
            or {
                FAIL: ValueError("planned"),
                LATER: RetryLater(LATER_MS),
                REJECT: Reject("planned"),
                FATAL: Fatal("planned"),
            }[planned]
        )

    async def start(self) -> None:
        self.terms += 1
        name, place = f"c{self.terms}", self.t.tape.end
        self.t.supervisor.spawn(name, lambda: self._consumer(name))
        await self.t.tape.until(TookOver, name, after=place)

    def _consumer(self, name: str) -> Consumer:
        t = self.t
        return Consumer(t.server, t.queue, self.handle, name=name, observe=t.tape, **self.options)

    async def takeover(self) -> None:
        """Kill the active one where it stands, and have the next take over."""
        self.kills += 1
        await self.t.supervisor.kill(f"c{self.terms}")
        self._killing = anyio.Event()
        await self.start()

    async def keep_killing(self) -> None:
        while True:
            await self._killing.wait()
            await self.takeover()

    async def keep_resuming(self) -> None:
        place = 0
        while True:
            await self.t.tape.until(Halted, after=place)
            place = self.t.tape.end
            await resume(self.client)

    async def drained(self) -> None:
        """Wait until nothing is left but dead letters."""
        left = [1]
        while any(left):
            async with self.client.pipeline(transaction=True) as at_once:
                at_once.zcard(KEYS.schedule).xlen(KEYS.stream)
                left = await at_once.execute()

    async def done(self, *numbers: int) -> None:
        """Wait until these were handled with success."""
        wanted = set(numbers)
        while not wanted <= {number for _, number in self.succeeded}:
            await anyio.lowlevel.checkpoint()

    async def begins(self, number: int, times: int = 1) -> None:
        """Wait until the handling of a number has begun."""
        while sum(n == number for _, n in self.begun) < times:
            await anyio.lowlevel.checkpoint()

    async def waits(self, *ids: str) -> None:
        """Wait until these are on the schedule."""
        while not set(ids) <= {m[12:] for m in await self.client.zrange(KEYS.schedule, 0, -1)}:
            pass

    @property
    def order(self) -> list[int]:
        """The numbers in the order of their first success."""
        return list(dict.fromkeys(number for _, number in self.succeeded))

    def order_of(self, key: str) -> list[int]:
        return list(dict.fromkeys(number for k, number in self.succeeded if k == key))


P = TypeVar("P", bound=Play)


async def resume(client: Client, k: LaneKeys = KEYS, *, skip: bool = False) -> str:
    """Have a halted lane go on."""
    parking = [k.schedule, k.bodies, k.bell, k.parked, k.waiting]
    keys = [k.halted, k.stream, k.dead, *parking, k.vacancy]
    return str(await scripts.run(client, "resume", keys, ["", GROUP, int(skip)]))


async def dead(client: Client) -> list[tuple[int, str]]:
    """Each dead letter with its reason."""
    return [(int(f["body"]), f["reason"]) for _, f in await client.xrange(KEYS.dead)]


async def publish(queue: Queue, *rows: tuple[str | None, int]) -> None:
    await queue.publish_many([queue.message(n, key=key, id=str(n)) for key, n in rows])


@asynccontextmanager
async def playing(
    server: Server,
    client: Client,
    queue: Queue,
    plan: Mapping[int, Sequence[str]] | None = None,
    *,
    resuming: bool = False,
    **options: Any,
) -> AsyncIterator[Play]:
    async with put_on(Play, server, client, queue, plan, resuming=resuming, **options) as play:
        yield play


@asynccontextmanager
async def put_on(
    kind: type[P],
    server: Server,
    client: Client,
    queue: Queue,
    plan: Mapping[int, Sequence[str]] | None = None,
    *,
    resuming: bool = False,
    **options: Any,
) -> AsyncIterator[P]:
    async with troupe(server, queue) as t:
        play = kind(t, client, options, {n: list(todo) for n, todo in (plan or {}).items()})
        t.poller()
        await play.start()
        async with anyio.create_task_group() as directing:
            directing.start_soon(play.keep_killing)
            if resuming:
                directing.start_soon(play.keep_resuming)
            yield play
            directing.cancel_scope.cancel()
