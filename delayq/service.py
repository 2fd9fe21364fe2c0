"""Serving a term: fetch, handle, settle. What both ways of serving share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

import anyio

from delayq.bell import Bell
from delayq.errors import GroupMissing
from delayq.events import Acked, DeadLettered, Observer, Retried
from delayq.handling import Context, Handler, outcome_of
from delayq.message import Delivery, new_id
from delayq.pending import Batch, Malformed, Pending
from delayq.retry import Again, DeadLetter, Retry
from delayq.term import Term

MAX_ACKS = 1_000
"""Messages acknowledged by one script at most."""
IDLE_S = 5.0
"""Bounds the wait for the doorbell, which is a hint."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is served, and with what."""

    role: str
    pending: Pending
    policy: Retry
    handler: Handler
    bell: Bell
    observe: Observer
    batch: int
    concurrency: int
    acknowledge: bool


class Service:
    """Base of the two ways to serve a term, which differ in what may run at once."""

    own_tasks: ClassVar[bool]
    """Whether each handler runs in a task of its own."""

    def __init__(self, work: Work, term: Term) -> None:
        self.work = work
        self.term = term
        self._start = "-"
        self._stopping = False
        self._waiting = anyio.CancelScope()
        self._unacked: list[tuple[str, str]] = []

    async def serve(self) -> None:
        """Serve until stopped; on return nothing that was handled is left to acknowledge."""
        raise NotImplementedError

    def stop(self) -> None:
        """Fetch no more, finish what is in hand, and return from `serve`."""
        self._stopping = True
        self._waiting.cancel()

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

    async def _redeliver(self, entries: list[str]) -> list[Delivery | Malformed]:
        pending, call = self.work.pending, new_id()
        return await self.term.fenced(
            "fetch", lambda lease: pending.redeliver(lease, entries, call)
        )

    async def _flush(self) -> None:
        """Acknowledge what was handled."""
        while self._unacked:
            acked, self._unacked = self._unacked[:MAX_ACKS], self._unacked[MAX_ACKS:]
            await self._acknowledge([entry for entry, _ in acked])
            self._report_acked(acked)

    async def _acknowledge(self, entries: list[str]) -> None:
        pending = self.work.pending
        await self.term.fenced("acknowledge", lambda lease: pending.ack(lease, entries))

    def _report_acked(self, acked: list[tuple[str, str]]) -> None:
        if acked:
            ids = tuple(message_id for _, message_id in acked)
            self.work.observe(Acked(self.work.role, self.term.lease.epoch, ids))

    async def _pause(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, but no longer than until `stop`."""
        with anyio.CancelScope() as self._waiting:
            if not self._stopping:
                await wait()

    async def _outcome(self, delivery: Delivery | Malformed) -> Again | DeadLetter | None:
        if isinstance(delivery, Malformed):
            return DeadLetter("malformed", delivery.reason)
        await self.term.begin()
        lease = self.term.lease
        context = Context(delivery.message, delivery.entry, lease.holder, lease.epoch)
        policy = self.work.policy
        return await outcome_of(self.work.handler, context, policy, own_task=self.own_tasks)

    def _handled(self, delivery: Delivery) -> None:
        if self.work.acknowledge:
            self._unacked.append((delivery.entry, delivery.message.id))

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

    def _report_retry(self, delivery: Delivery, outcome: Again) -> None:
        message = delivery.message
        self.work.observe(
            Retried(
                self.work.role,
                self.term.lease.epoch,
                message.id,
                message.deliveries,
                outcome.delay_ms,
                outcome.error,
            )
        )
