"""Serving a term: fetch, handle, settle. What all ways of serving share."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio

from delayq.bell import Bell
from delayq.clock import Clock, mono_s
from delayq.errors import GroupMissing
from delayq.events import Acked, DeadLettered, Observer, Retried
from delayq.handling import Context, Handling, outcome_of
from delayq.message import Delivery, new_id
from delayq.pending import Batch, Delivered, Malformed, Pending
from delayq.retry import Again, DeadLetter, OnFailure, Park, Retry
from delayq.term import Term

MAX_ACKS = 1_000
"""Messages acknowledged by one script at most."""
IDLE_S = 5.0
"""Bounds the wait for the doorbell, which is a hint."""
NEWER_MS = 1_000
"""How long a message that a newer delayq wrote is put off, where others may take it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is served, and with what."""

    role: str
    pending: Pending
    policy: Retry
    on_failure: OnFailure
    handling: Handling
    bell: Bell
    clock: Clock
    observe: Observer
    batch: int
    acknowledge: bool


class Service:
    """Base of the ways to serve a term, which differ in what may run at once."""

    own_tasks: ClassVar[bool]
    """Whether each handler runs in a task of its own."""

    def __init__(self, work: Work, term: Term) -> None:
        self.work = work
        self.term = term
        self.listening = False
        """Whether it waits for messages that are new."""
        self._paused = False
        self._start = "-"
        self._stopping = False
        self._waiting = anyio.CancelScope()
        self._rests: set[anyio.CancelScope] = set()
        self._unacked: list[tuple[str, str]] = []

    async def serve(self) -> None:
        """Serve until stopped; on return nothing that was handled is left to acknowledge."""
        raise NotImplementedError

    def stop(self) -> None:
        """Fetch no more, finish what is in hand, and return from `serve`."""
        self._stopping = True
        self._waiting.cancel()
        for rest in self._rests:
            rest.cancel()

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but wait: for a message, or for the clock."""
        return (self._paused or bool(self._rests)) and not self._unacked

    async def _fetch(self, count: int) -> Batch:
        """Acknowledge what was handled and fetch what comes next, in one round trip."""
        pending, call = self.work.pending, new_id()
        acked, self._unacked = self._unacked[:MAX_ACKS], self._unacked[MAX_ACKS:]
        entries = [entry for entry, _ in acked]
        try:
            batch = await self.term.fenced(
                "acknowledge and fetch" if acked else "fetch",
                lambda lease: pending.fetch(lease, self._start, count, entries, call),
            )
        except GroupMissing:
            # Foreign hands took the stream or its group away: begin again with what is left.
            await self.term.fenced("create the group", lambda _: pending.ensure_group())
            self._start = "-"
            batch = Batch([])
        self._report_acked(acked)
        if batch.deliveries:
            self._start = "(" + batch.deliveries[-1].entry
        return batch

    async def _redeliver(self, entries: list[str]) -> list[Delivered]:
        pending, call = self.work.pending, new_id()
        return await self.term.fenced(
            "fetch", lambda lease: pending.redeliver(lease, entries, call)
        )

    async def _give_back(self, deliveries: Sequence[Delivered]) -> None:
        """Take back the delivery of what was fetched and not begun."""
        pending, call = self.work.pending, new_id()
        entries = [delivery.entry for delivery in deliveries]
        if entries:
            await self.term.fenced(
                "give back", lambda lease: pending.give_back(lease, entries, call)
            )

    async def _flush(self) -> None:
        """Acknowledge what was handled."""
        while self._unacked:
            acked, self._unacked = self._unacked[:MAX_ACKS], self._unacked[MAX_ACKS:]
            entries = [entry for entry, _ in acked]
            pending = self.work.pending
            await self.term.fenced("acknowledge", lambda lease: pending.ack(lease, entries))  # noqa: B023
            self._report_acked(acked)

    def _report_acked(self, acked: list[tuple[str, str]]) -> None:
        if acked:
            ids = tuple(message_id for _, message_id in acked)
            self.work.observe(Acked(self.work.role, self.term.lease.epoch, ids))

    async def _pause(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, but no longer than until `stop`, or until `_waiting` is cancelled."""
        with anyio.CancelScope() as self._waiting:
            if not self._stopping:
                self._paused = True
                await wait()
        self._paused = False

    async def _listen(self, last_id: str) -> None:
        """Wait for a message that comes after `last_id` in the stream."""
        self.listening = True
        await self._pause(lambda: self.work.bell.wait(IDLE_S, last_id))
        self.listening = False

    async def _rest(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, but no longer than until `stop`. Several may rest at a time."""
        with anyio.CancelScope() as rest:
            self._rests.add(rest)
            try:
                if not self._stopping:
                    await wait()
            finally:
                self._rests.discard(rest)

    async def _outcome(self, delivery: Delivery) -> Again | DeadLetter | None:
        await self.term.begin()
        term, handling, message = self.term, self.work.handling, delivery.message
        lease, limit_s = term.lease, handling.time_limit_s
        context = Context(
            message,
            delivery.entry,
            lease.holder,
            lease.epoch,
            term.lost,
            term.trusted_until,
            ends_at=mono_s() + limit_s if limit_s else math.inf,
        )
        return await outcome_of(handling, context, self.work.policy, own_task=self.own_tasks)

    def _handled(self, delivery: Delivery) -> None:
        if self.work.acknowledge:
            self._unacked.append((delivery.entry, delivery.message.id))

    async def _retry(self, delivery: Delivery, outcome: Again | Park) -> None:
        """Put a message back on the schedule."""
        pending, park = self.work.pending, isinstance(outcome, Park)
        await self.term.fenced(
            "retry",
            lambda lease: pending.retry_later(lease, delivery, outcome.delay_ms, park=park),
        )
        self._report_retry(delivery, outcome)

    async def _bury(self, delivery: Delivery | Malformed, outcome: DeadLetter) -> None:
        entry = delivery.entry
        if isinstance(delivery, Malformed):
            message_id, deliveries = entry, delivery.deliveries
        else:
            message_id, deliveries = delivery.message.id, delivery.message.deliveries
        await self.term.fenced(
            "dead letter",
            lambda lease: self.work.pending.dead_letter(
                lease, entry, deliveries, outcome.reason, outcome.error
            ),
        )
        epoch = self.term.lease.epoch
        why = (outcome.reason, outcome.error)
        self.work.observe(DeadLettered(self.work.role, epoch, message_id, deliveries, *why))

    def _report_retry(self, delivery: Delivery, outcome: Again | Park) -> None:
        message, epoch = delivery.message, self.term.lease.epoch
        told = (message.id, message.deliveries, outcome.delay_ms, outcome.error)
        self.work.observe(Retried(self.work.role, epoch, *told))
