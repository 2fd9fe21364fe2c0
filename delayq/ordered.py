"""Serving in order: one message at a time, each settled before the next is begun."""

from typing import NamedTuple

import anyio

from delayq.delivered import Delivered, Malformed, Newer
from delayq.events import Halted, NewerFound, Parked, Resumed
from delayq.message import Delivery, Message
from delayq.parking import Parking
from delayq.retry import Again, DeadLetter, Halt, Outcome, Park, in_order
from delayq.service import NEWER_MS, Service
from delayq.settling import Work
from delayq.term import Term

HALTED_S = 1.0
"""How often a halted lane looks whether it was resumed: the call that says so is a hint."""


class InPlace(NamedTuple):
    """A message is to be delivered again, before those behind it."""

    delay_ms: int
    delivered: int
    """The deliveries that count up to now."""


class Ordered(Service):
    """The active consumer of an ordered queue."""

    def __init__(self, work: Work, term: Term) -> None:
        super().__init__(work, term)
        self._parking = Parking(work.pending)

    async def _begin(self) -> None:
        await self.term.fenced("look", lambda _: self._parking.load())
        if found := await self.term.fenced("look", lambda _: self.work.pending.halted()):
            self.work.observe(Halted(self.work.role, self.term.lease.epoch, *found))
            self._paused = True
            await self._until_resumed()
            self._paused = False

    async def _work_on(self, delivery: Delivered) -> None:
        """Handle one message, in place as often as it takes."""
        current: Delivered | None = delivery
        while current is not None:
            again = await self._settle_once(current)
            current = await self._again(current.entry, again) if again else None
        self._settled(delivery.entry)

    async def _settle_once(self, delivery: Delivered) -> InPlace | None:
        """Handle one delivery; tell when the next one of the same message follows in place."""
        match delivery:
            case Malformed():
                await self._flush()
                await self._bury(delivery, DeadLetter("malformed", delivery.reason))
                return None
            case Newer():
                await self._leave_to_newer(delivery)
                return None
        if self._parking.blocker(delivery.message) is not None and await self._waits(delivery):
            return None
        if self.term.frozen:
            await self.term.thawed()
        outcome = await self._outcome(delivery)
        if outcome is None and not self._parking.knows(delivery.message):
            self._handled(delivery)
            return None
        return await self._part_with(delivery, self._in_order(outcome))

    def _in_order(self, outcome: Again | DeadLetter | None) -> Outcome:
        return in_order(self.work.on_failure, outcome) if outcome else None

    async def _part_with(self, delivery: Delivery, outcome: Outcome) -> InPlace | None:
        """Settle a message that leaves our hands in another way, after those before it."""
        message = delivery.message
        await self._flush()
        match outcome:
            case Again():
                self._report_retry(delivery, outcome)
                return InPlace(outcome.delay_ms, delivery.delivered)
            case Halt():
                await self._halt(delivery, outcome)
                return InPlace(0, 0)  # whoever resumed it forgets its deliveries
            case Park():
                await self._retry(delivery, outcome)
                self._parking.park(message)
            case DeadLetter():
                await self._bury(delivery, outcome)
                await self._free(message)
            case None if self.work.acknowledge:
                await self._ack_and_free(delivery)
        return None

    async def _waits(self, delivery: Delivery) -> bool:
        """Put a message away whose key waits for another one; tell whether that was so."""
        message, pending = delivery.message, self.work.pending
        blocker = self._parking.blocker(message) or ""
        lost, looks = self._parking.looked_for(message), self._parking.looks(message)
        found = await self.term.fenced(
            "park", lambda lease: pending.park(lease, delivery, lost=lost, looks=looks)
        )
        if self._parking.heard(message, found):
            return False
        self.work.observe(Parked(self.work.role, self.term.lease.epoch, message.id, blocker))
        return True

    async def _ack_and_free(self, delivery: Delivery) -> None:
        """Acknowledge a message, and have its key wait for it no more."""
        pending, message, entry = self.work.pending, delivery.message, delivery.entry
        freed = (message.key or "", message.id)
        await self.term.fenced("acknowledge", lambda lease: pending.ack(lease, [entry], freed))
        self._report_acked([(entry, message.id)])
        await self._free(message)

    async def _free(self, message: Message) -> None:
        if self._parking.knows(message):
            await self.term.fenced("look", lambda _: self._parking.free(message))

    async def _again(self, entry: str, again: InPlace) -> Delivered | None:
        """Deliver a message once more, after a delay; None if stopped, or the entry is gone."""
        await self._rest(lambda: self.work.clock.sleep(again.delay_ms / 1000))
        if self._stopping:
            return None
        found = await self._redeliver([(entry, again.delivered)])
        return found[0] if found else None

    async def _halt(self, delivery: Delivery, outcome: Halt) -> None:
        pending, message = self.work.pending, delivery.message
        why = (outcome.reason, outcome.error)
        if await self.term.fenced("halt", lambda lease: pending.halt(lease, delivery, *why)):
            self.work.observe(Halted(self.work.role, self.term.lease.epoch, message.id, *why))
            await self._until_resumed()

    async def _until_resumed(self) -> None:
        while not self._stopping:
            await self._rest(lambda: self.term.called(HALTED_S))
            if not await self.term.fenced("look", lambda _: self.work.pending.halted()):
                self.work.observe(Resumed(self.work.role, self.term.lease.epoch))
                return

    async def _leave_to_newer(self, delivery: Newer) -> None:
        """Hand over to a process that can read what a newer delayq wrote."""
        self.work.observe(NewerFound(self.work.role, self.term.lease.epoch, delivery.reason))
        await self._give_back([delivery])
        await self._rest(lambda: anyio.sleep(NEWER_MS / 1000))  # others may be as old as this one
        self.term.handover.set()
        self.stop()
