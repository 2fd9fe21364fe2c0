"""Settling: what a consumer tells the server of the messages it has in hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from delayq.clock import Clock, mono_s
from delayq.delivered import Batch, Delivered, Malformed
from delayq.errors import GroupMissing
from delayq.events import Acked, DeadLettered, Observer, Retried
from delayq.handling import Handling
from delayq.message import Delivery, new_id
from delayq.pending import Pending
from delayq.retry import Again, DeadLetter, OnFailure, Park, Retry
from delayq.term import Term
from delayq.transport.bell import Bell

MAX_ACKS = 1_000
"""Messages acknowledged by one script at most."""
MOST_AT_ONCE = 500
"""Messages given back by one script at most."""


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


class Settling:
    """Fetches messages, acknowledges them, and settles them otherwise, in the order it is told."""

    def __init__(self, work: Work, term: Term) -> None:
        self.work = work
        self.term = term
        self._unacked: list[tuple[str, str]] = []
        """Entries to acknowledge, each with the id of its message."""
        self._unacked_since = 0.0
        self._acking = anyio.Lock(fast_acquire=True)
        """Acknowledgements leave in the order in which they were earned."""
        self._start = "-"

    def _handled(self, delivery: Delivery) -> None:
        if self.work.acknowledge:
            if not self._unacked:
                self._unacked_since = mono_s()
            self._unacked.append((delivery.entry, delivery.message.id))

    async def _fetch(self, count: int, *, busy: bool) -> Batch:
        """Acknowledge what was handled and fetch what comes next, in one round trip."""
        pending, call = self.work.pending, new_id()
        async with self._acking:
            acked, self._unacked = self._unacked[:MAX_ACKS], self._unacked[MAX_ACKS:]
            entries = [entry for entry, _ in acked]
            try:
                batch = await self.term.fenced(
                    "acknowledge and fetch" if acked else "fetch",
                    lambda lease: pending.fetch(
                        lease, self._start, count, entries, call, busy=busy
                    ),
                )
            except GroupMissing:
                # Another program took the stream or its group away: begin again with what is left.
                await self.term.fenced("create the group", lambda _: pending.make_group_anew())
                self._start = "-"
                batch = Batch()
            self._report_acked(acked)
        if batch.entries:
            self._start = "(" + batch.entries[-1]
        return batch

    async def _flush(self) -> None:
        """Acknowledge what was handled: when this returns, nothing of it is under way either."""
        async with self._acking:
            while self._unacked:
                acked, self._unacked = self._unacked[:MAX_ACKS], self._unacked[MAX_ACKS:]
                entries = [entry for entry, _ in acked]
                pending = self.work.pending
                await self.term.fenced("acknowledge", lambda lease: pending.ack(lease, entries))  # noqa: B023
                self._report_acked(acked)

    async def _redeliver(self, messages: Sequence[tuple[str, int]]) -> list[Delivered]:
        pending = self.work.pending
        return await self.term.fenced("fetch", lambda lease: pending.redeliver(lease, messages))

    async def _give_back(self, deliveries: Sequence[Delivered]) -> None:
        """Take back the delivery of what was fetched and not begun."""
        pending, given = self.work.pending, list(deliveries)
        while given:
            part, given = given[:MOST_AT_ONCE], given[MOST_AT_ONCE:]
            await self.term.fenced("give back", lambda lease: pending.give_back(lease, part))  # noqa: B023

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
            message_id, deliveries = entry, delivery.delivered
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

    def _report_acked(self, acked: list[tuple[str, str]]) -> None:
        if acked:
            ids = tuple([message_id for _, message_id in acked])
            self.work.observe(Acked(self.work.role, self.term.lease.epoch, ids))

    def _report_retry(self, delivery: Delivery, outcome: Again | Park) -> None:
        message, epoch = delivery.message, self.term.lease.epoch
        told = (message.id, message.deliveries, outcome.delay_ms, outcome.error)
        self.work.observe(Retried(self.work.role, epoch, *told))
