"""The lanes of a queue, as operators see them: looked at, and changed, together.

What is asked of a queue is asked of its lanes, each by calls of its own, at once; `key=` narrows it
to the one lane where messages of that key are.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Literal, Self, TypeVar

import anyio
from redis.asyncio import Redis

from delayq import active, changes
from delayq.active import Active
from delayq.browse import Browser, Stats, listed, stats, together
from delayq.clock import SERVER_CLOCK, Clock
from delayq.dead import DeadLetters
from delayq.errors import DelayqError, GroupInUse, ungrouped
from delayq.groups import drop, groups, holder, there
from delayq.keys import GROUP, MAX_LANES, LaneKeys, lane_of
from delayq.outgoing import when
from delayq.record import Page, Record, State

REST_S = 1.0
"""For how long nothing is done in a lane where a script failed, while the others go on."""
AT_ONCE = 32
"""Lanes that are asked at once, at most: on a Cluster each needs a connection meanwhile."""

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Lanes:
    """The lanes of one queue on one server.

    Every call raises `ServerError` if the server did not answer, or refused; then some of the lanes
    may have done what was asked. It may be repeated.

    :raises ValueError: if there cannot be so many lanes
    """

    connect: Callable[[], Redis]
    """Gives the client."""
    keys: LaneKeys
    """Those of its first lane."""
    clock: Clock = field(default=SERVER_CLOCK, kw_only=True)
    lanes: int = field(default=1, kw_only=True)
    """How many: each has a stream, a schedule and a lease, and the messages of some of the keys."""

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"lanes: 1 to {MAX_LANES} (got {self.lanes})")

    @property
    def client(self) -> Redis:
        """The client that calls go through."""
        return self.connect()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.keys.queue

    @property
    def full_name(self) -> str:
        """The queue's name, and behind a slash that of its group, unless that is its own."""
        return self.keys.full_name

    @cached_property
    def every_lane(self) -> tuple[Self, ...]:
        """Its lanes, each as a queue of one lane; of such a queue it is the queue itself."""
        if self.lanes == 1:
            return (self,)
        every = [replace(self.keys, lane=lane) for lane in range(self.lanes)]
        return tuple(replace(self, keys=keys, lanes=1) for keys in every)

    async def stats(self) -> Stats:
        """Count what is where: one snapshot of each lane, and their sum."""
        now_ms = self.clock.now_ms()
        counted = await at_once(lambda k: stats(self.client, k, now_ms), self._of())
        return together(counted)

    async def get(self, id: str, *, key: str | None = None) -> Record | None:  # noqa: A002 - the field's own word
        """Find a message, as `Browser.get` does: it may read the whole stream.

        :param key: look in the lane of this key alone: messages of two keys may have one id
        """
        found: list[Record] = []
        with anyio.CancelScope() as looking:

            async def look(keys: LaneKeys) -> None:
                if record := await Browser(self.client, keys).get(id):
                    found.append(record)
                    looking.cancel()  # the others need not read on

            await at_once(look, self._of(key))
        return found[0] if found else None

    async def list(self, state: State, limit: int = 100, after: str = "") -> Page:
        """List messages of a state, lane by lane, a page at a time, as `browse.listed` does."""
        return await listed(self.client, self._of(), state, limit, after)

    async def cancel(self, id: str, *, key: str | None = None) -> bool:  # noqa: A002 - the field's own word
        """Take a message off the schedule. Its id may be published anew; a `dedup_id` stays known.

        :param key: as for `get`
        :return: False if it is not scheduled, or not any more
        """
        now_ms = self.clock.now_ms()
        asked = at_once(lambda k: changes.cancel(self.client, k, id, now_ms), self._of(key))
        return any(await asked)

    async def reschedule(
        self,
        id: str,  # noqa: A002 - the field's own word
        *,
        delay: timedelta | float | None = None,
        deliver_at: datetime | None = None,
        key: str | None = None,
    ) -> bool:
        """Give a scheduled message another due time; among those of that time it keeps its place.

        :param delay: as for `publish`
        :param deliver_at: as for `publish`
        :param key: as for `get`
        :return: False if it is not scheduled, or not any more
        :raises InvalidMessage: if the time breaks a limit
        """
        due, now_ms = when(delay, deliver_at), self.clock.now_ms()
        asked = at_once(
            lambda k: changes.reschedule(self.client, k, id, due, now_ms), self._of(key)
        )
        return any(await asked)

    async def promote(self, id: str, *, key: str | None = None) -> bool:  # noqa: A002 - the field's own word
        """Make a scheduled message due now: a poller moves it at once. As `reschedule`."""
        return await self.reschedule(id, key=key)

    async def purge(self, state: Literal["scheduled", "ready", "dead"]) -> int:
        """Delete all messages of a state that are there now, and forget their ids.

        Never those that are pending: they are in the hands of consumers.

        :return: how many were deleted
        :raises ValueError: if `state` is none of these
        """
        match state:
            case "scheduled":
                purge = changes.purge_scheduled
            case "ready":
                purge = changes.purge_ready
            case "dead":
                return await self.dead.purge()
            case _:
                raise ValueError(f"state: 'scheduled', 'ready' or 'dead' (got {state!r})")
        now_ms = self.clock.now_ms()
        return sum(await at_once(lambda k: purge(self.client, k, now_ms), self._of()))

    @property
    def dead(self) -> DeadLetters:
        """The dead letters."""
        return DeadLetters(self.client, self._of(), self.clock)

    async def who(self) -> tuple[Active | None, ...]:
        """Tell who is active, and who stands by, for each lane. See `active.who`."""
        return tuple(await at_once(lambda k: active.who(self.client, k), self._of()))

    async def handover(
        self, timeout_s: float = 30.0, *, lane: int | None = None
    ) -> tuple[Active | None, ...]:
        """Ask the active consumers to pass on; tell who took over. See `active.handover`.

        :param timeout_s: how long to wait in all
        :param lane: ask that of this lane alone
        :return: an answer for each lane asked
        :raises ValueError: if there is no such lane
        """
        ends_at = anyio.current_time() + timeout_s

        async def ask(keys: LaneKeys) -> Active | None:
            left_s = max(0.0, ends_at - anyio.current_time())
            return await active.handover(self.client, keys, left_s)

        return tuple(await at_once(ask, self._of_lane(lane)))

    async def resume(self, *, skip: bool = False, lane: int | None = None) -> tuple[str, ...]:
        """Have lanes go on that a failure halted. See `active.resume`.

        :param lane: only this one
        :return: the ids of the messages that they had stopped at
        :raises ValueError: if there is no such lane
        """
        lanes, now_ms = self._of_lane(lane), self.clock.now_ms()
        resume = partial(active.resume, self.client, skip=skip, now_ms=now_ms)
        ids = await at_once(resume, lanes)
        return tuple(message_id for message_id in ids if message_id is not None)

    async def every_stats(self) -> dict[str, Stats]:
        """Count for the queue's own handler, and for each other group that is there."""
        counted = {GROUP: await self.seen_by(GROUP).stats()}
        for name in await self.groups():
            if name != GROUP:
                counted[name] = await self.seen_by(name).stats()
        return counted

    def seen_by(self, group: str) -> Self:
        """Return these lanes as another group sees them.

        :raises InvalidName: if the name cannot stand in a key
        """
        return replace(self, keys=replace(self.keys, group=group))

    async def groups(self) -> tuple[str, ...]:
        """Return the names of the groups that are there: those whose consumers have ever run."""
        found = await at_once(lambda k: groups(self.client, k), self._of())
        return tuple(dict.fromkeys(name for names in found for name in names))

    async def is_there(self) -> bool:
        """Tell whether anything of this group is there; of the queue's own, or of the queue."""
        return any(await at_once(lambda k: there(self.client, k), self._of()))

    async def drop(self) -> bool:
        """Take this group away: its retries, its dead letters, and what is kept for it alone.

        Its consumers must have ended. The others go on; where there are none, the messages stay.

        :return: False if it is not there
        :raises GroupInUse: if a consumer of it holds a lease; nothing was done
        """
        found = await at_once(lambda k: holder(self.client, k), self._of())
        if holders := [name for name in found if name]:
            said = f"{self.full_name}: {', '.join(holders)} holds a lease; end its consumers first"
            raise GroupInUse(said)
        return any(await at_once(lambda k: drop(self.client, k), self._of()))

    def _of(self, key: str | None = None) -> tuple[LaneKeys, ...]:
        """Return the keys of the lane of `key`; of each lane, if there is none."""
        return self._of_lane(None if key is None else lane_of(key, self.lanes))

    def _of_lane(self, lane: int | None) -> tuple[LaneKeys, ...]:
        if lane is None:
            return tuple(of_lane.keys for of_lane in self.every_lane)
        if not 0 <= lane < self.lanes:
            raise ValueError(f"lane: {self.name} has 0 to {self.lanes - 1} (got {lane})")
        return (self.every_lane[lane].keys,)


async def at_once(ask: Callable[[A], Awaitable[T]], each: Sequence[A]) -> "list[T]":
    """Ask of several, such as lanes, at once, and return the answers in their order.

    :raises DelayqError: what one of them met; what was asked of the others may be cut
    """
    answers: dict[int, T] = {}
    failures: list[DelayqError] = []
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(at: int, asked: A) -> None:
        async with limit:
            try:
                answers[at] = await ask(asked)
            except DelayqError as error:
                failures.append(error)  # in a group of them nobody would look for one
                asking.cancel_scope.cancel()

    with ungrouped():
        async with anyio.create_task_group() as asking:
            for at, asked in enumerate(each):
                asking.start_soon(one, at, asked)
    for failure in failures:
        raise failure
    return [answers[at] for at in range(len(each))]
