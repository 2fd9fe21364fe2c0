"""Serving beside others: consumers compete for a queue, each handling many messages at once."""

import anyio

from delayq.clock import mono_s
from delayq.errors import GroupMissing
from delayq.events import Inherited
from delayq.lease import LeaseStore
from delayq.message import Delivery
from delayq.pending import Malformed
from delayq.retry import DeadLetter, Retry
from delayq.service import IDLE_S, Service, Work
from delayq.term import Term

SURVEY_S = 0.7
"""How often a consumer looks whether another died."""


class Competing(Service):
    """One of the consumers of an unordered queue."""

    def __init__(self, work: Work, term: Term, store: LeaseStore) -> None:
        super().__init__(work, term)
        self._store = store
        self._in_hand = 0
        self._dead: dict[str, bool] = {}
        """Consumers found dead; True: by their connection, so that their lease may not be over."""
        self._inherited: list[str] = []

    async def serve(self) -> None:
        """See `Service.serve`."""
        async with anyio.create_task_group() as surveying:
            surveying.start_soon(self._survey)
            async with anyio.create_task_group() as handling:
                while not self._stopping:
                    for delivery in await self._next():
                        self._in_hand += 1
                        handling.start_soon(self._settle, delivery)
            surveying.cancel_scope.cancel()
        await self._flush()

    async def _next(self) -> list[Delivery | Malformed]:
        """Return what there is to handle, having waited for room, or for a reason to look again."""
        room = min(self.work.batch, self.work.concurrency - self._in_hand)
        if room <= 0:
            await self._pause(anyio.sleep_forever)
            return []
        for name in list(self._dead):
            await self._inherit(name)
        if self._inherited:
            entries, self._inherited = self._inherited[:room], self._inherited[room:]
            pending = self.work.pending
            return await self.term.fenced("fetch", lambda lease: pending.redeliver(lease, entries))
        batch = await self._fetch(room)
        idle = not batch.deliveries and batch.last_id
        if idle and not self._unacked and not self._dead:
            await self._pause(lambda: self.work.bell.wait(IDLE_S, batch.last_id))
        return batch.deliveries

    async def _settle(self, delivery: Delivery | Malformed) -> None:
        outcome = await self._outcome(delivery)
        match outcome, delivery:
            case DeadLetter(), _:
                await self._bury(delivery, outcome)
            case Retry(), Delivery():
                pending, delay_ms = self.work.pending, outcome.delay_ms
                await self.term.fenced(
                    "retry", lambda lease: pending.retry_later(lease, delivery, delay_ms)
                )
                self._report_retry(delivery, outcome)
            case _, Delivery():
                self._handled(delivery)
        self._in_hand -= 1
        self._waiting.cancel()

    async def _survey(self) -> None:
        """Look for consumers that died, from time to time."""
        pending = self.work.pending
        while True:
            began = mono_s()
            try:
                others = await self.term.fenced("survey", pending.others)
            except GroupMissing:
                others = {}
            for name, connection in others.items():
                gone = await self.term.fenced("survey", lambda _: self._store.gone(connection))  # noqa: B023
                if gone or not connection:
                    self._dead[name] = gone
                    self._waiting.cancel()
            await anyio.sleep(max(0, began + SURVEY_S - mono_s()))

    async def _inherit(self, source: str) -> None:
        """Take over what is pending for a dead consumer.

        What lies behind our place in the stream comes with the next fetch, as anything that is
        pending for us; the rest is kept to be delivered by its id. This is exact because nothing
        else is fetched meanwhile.
        """
        pending, gone = self.work.pending, self._dead[source]
        entries = await self.term.fenced(
            "inherit", lambda lease: pending.inherit(lease, source, gone=gone)
        )
        if not entries:
            del self._dead[source]
            return
        place = _place(self._start)
        self._inherited += [entry for entry in entries if _place(entry) <= place]
        self.work.observe(Inherited(self.work.role, source, len(entries)))


def _place(entry: str) -> tuple[int, int]:
    """Turn a stream id, or the start of a fetch, into what compares as the server compares."""
    if entry == "-":
        return (-1, 0)
    ms, _, sequence = entry.removeprefix("(").partition("-")
    return (int(ms), int(sequence))
