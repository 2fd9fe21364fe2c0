"""Quiet: nothing is due, nothing is under way; nobody has anything to do until the time moves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from delayq import scripts
from delayq.app import App
from delayq.clock import mono_s
from delayq.consumer import Consumer
from delayq.errors import GroupMissing
from delayq.keys import LaneKeys
from delayq.poller import Poller
from delayq.queue import Queue
from delayq.seat import Seat
from delayq.supervisor import Role
from delayq.tape import Tape
from delayq.testing.moved import MovedClock
from delayq.ticker import Ticker

LOOK_S = 0.001
SHOWN = 5
"""Messages in hand that an error names, for each queue."""

Processes = Mapping[str, Mapping[str, Role]]
"""For each simulated process its roles by name, as `App.roles` names them."""


class NotQuiet(AssertionError):
    """Raised when something goes on for too long in real time, such as a handler without an end."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One lane of a queue, as the server saw it at one moment."""

    lane: Queue
    due_ms: int | None
    unread: bool
    owners: frozenset[str]


class Quiet:
    """Waits until all is quiet.

    :param patience_s: real seconds in which something has to happen
    """

    def __init__(
        self, app: App, client: Any, events: Tape, processes: Processes, patience_s: float
    ) -> None:
        self._app = app
        self._client = client
        self._events = events
        self._processes = processes
        self._patience_s = patience_s

    async def wait(self, clock: MovedClock) -> int | None:
        """Wait until all is quiet; return when the next message is due, None if none is scheduled.

        Looks at the server between two looks at the roles, in which nothing has happened: so that
        nothing was on its way from one to the other.

        :raises NotQuiet: if nothing happens any more, and yet it is not quiet
        """
        place, since = self._events.end, mono_s()
        while True:
            if self._events.end != place:
                place, since = self._events.end, mono_s()
            why = self._stir(clock)
            if not why:
                seen = await self._look()
                why = self._left(seen, clock) or self._stir(clock)
                if not why and self._events.end == place:
                    return min((s.due_ms for s in seen if s.due_ms is not None), default=None)
            if mono_s() - since > self._patience_s:
                raise NotQuiet(
                    f"not quiet after {self._patience_s:g} s of real time: "
                    f"{why}; {await self._in_hand()}"
                )
            await anyio.sleep(LOOK_S)

    def _stir(self, clock: MovedClock) -> str:
        """Tell which role has something to do; '' if none has."""
        if clock.waking:
            return "somebody has not woken yet"
        for roles in self._processes.values():
            for name, role in roles.items():
                if isinstance(role, Consumer | Poller | Ticker) and not role.idle:
                    return f"{name} is busy"
        for lane in self._served:
            active = [seat for seat in self._seats(lane) if seat.holder]
            if len(active) < (1 if lane.ordered else len(self._processes)):
                return f"{lane.full_name} has too few active consumers"
        return ""

    def _left(self, seen: list[_Seen], clock: MovedClock) -> str:
        """Tell what is left to be done; '' if nothing is."""
        now_ms = clock.now_ms()
        for s in seen:
            name, seats = s.lane.full_name, self._seats(s.lane)
            if s.due_ms is not None and s.due_ms <= now_ms:
                return f"{name}: something is due"
            if s.unread and any(seat.listening for seat in seats):
                return f"{name}: something is ready"
            holders = {seat.holder for seat in seats} if s.lane.ordered else set()
            if s.owners - holders:
                return f"{name}: something is pending for {', '.join(sorted(s.owners - holders))}"
        return ""

    async def _look(self) -> list[_Seen]:
        """Look at all lanes at one moment."""
        lanes = self._served
        async with self._client.pipeline(transaction=True) as asked:
            for lane in lanes:
                stream = lane.keys.stream
                for keys in (lane.keys, lane.keys.shared):
                    asked.zrange(keys.schedule, 0, 0, withscores=True)
                asked.xinfo_stream(stream)
                asked.xinfo_groups(stream)
                asked.xpending(stream, lane.keys.group)
            rows = iter(await asked.execute(raise_on_error=False))
        answers = zip(*[rows] * 5, strict=True)
        return [await self._seen(*pair) for pair in zip(lanes, answers, strict=True)]

    async def _seen(self, lane: Queue, answers: Sequence[Any]) -> _Seen:
        # Where the stream or its group was taken away, the answer is an error: nothing is there.
        first, shared, stream, groups, pending = (
            [] if isinstance(a, Exception) else a for a in answers
        )
        due_ms = min([math.ceil(row[1]) for row in (*first, *shared)], default=None)
        owners = frozenset(consumer["name"] for consumer in (pending or {}).get("consumers", ()))
        read = next((g["last-delivered-id"] for g in groups if g["name"] == lane.keys.group), "0-0")
        unread = bool(stream) and stream["last-generated-id"] != read
        if unread:  # but what another program deleted is not there to be read
            unread = bool(await self._client.xrange(lane.keys.stream, "(" + read, "+", 1))
        return _Seen(lane, due_ms, unread, owners)

    @property
    def _served(self) -> list[Queue]:
        """Every lane of the queues that are served."""
        served = self._app.served if self._processes else []
        return [lane for queue in served for lane in queue.every_lane]

    def _seats(self, lane: Queue) -> list[Seat]:
        """Return the seats at a lane. A process that has only begun has none."""
        found = (roles[f"{lane.full_name}.{process}"] for process, roles in self._processes.items())
        seats = [seat for role in found if isinstance(role, Consumer) for seat in role.seats]
        return [seat for seat in seats if seat.lane == lane.keys.lane]

    async def _pending(self, keys: LaneKeys) -> list[Any]:
        words = ("XPENDING", keys.stream, keys.group, "-", "+", SHOWN)
        try:
            rows: list[Any] = await scripts.command(self._client, *words, parse_detail=True)
        except GroupMissing:
            return []  # no consumer has begun yet
        return rows

    async def _in_hand(self) -> str:
        """Say which messages are pending: those are what the handlers have."""
        told = []
        for lane in self._served:
            stream = lane.keys.stream
            ids = []
            for row in await self._pending(lane.keys):
                entry = row["message_id"]
                found = await self._client.xrange(stream, entry, entry)
                ids += [fields.get("id", entry) for _, fields in found]
            if ids:
                told.append(f"{lane.full_name}: {', '.join(ids)}")
        return f"in hand of {'; of '.join(told)}" if told else "nothing is in hand"
