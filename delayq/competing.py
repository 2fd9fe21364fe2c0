"""Serving beside others: consumers compete for a queue, each handling many messages at once."""

import anyio

from delayq.clock import mono_s
from delayq.errors import GroupMissing
from delayq.events import Inherited, NewerFound
from delayq.lease import LeaseStore
from delayq.message import Delivery
from delayq.pending import RECLAIM_LIMIT, Delivered, Malformed, Newer
from delayq.retry import Again, DeadLetter
from delayq.service import NEWER_MS, Service, Work
from delayq.term import Term

SURVEY_S = 0.7
"""How often a consumer looks whether another died."""


class Competing(Service):
    """One of the consumers of an unordered queue."""

    own_tasks = True

    def __init__(self, work: Work, term: Term, store: LeaseStore) -> None:
        super().__init__(work, term)
        self._concurrency = work.handling.concurrency
        self._store = store
        self._in_hand: set[str] = set()
        self._dead: dict[str, int] = {}
        """Consumers found dead, and the connection by which they were, or 0."""
        self._strays = False
        """Whether something may be pending for us that lies behind our place in the stream."""

    async def serve(self) -> None:
        """See `Service.serve`."""
        async with anyio.create_task_group() as surveying:
            surveying.start_soon(self._survey)
            async with anyio.create_task_group() as handling:
                while not self._stopping:
                    for delivery in await self._next():
                        if self._is_last(delivery):
                            await self._until_nothing_in_hand()
                            await self._settle(delivery)
                        else:
                            self._in_hand.add(delivery.entry)
                            handling.start_soon(self._settle, delivery)
            await self._flush()
            surveying.cancel_scope.cancel()

    async def _next(self) -> list[Delivered]:
        """Return what there is to handle, having waited for room, or for a reason to look again."""
        room = min(self.work.batch, self._concurrency - len(self._in_hand))
        if room <= 0:
            await self._pause(anyio.sleep_forever)
            return []
        dead, self._dead = self._dead, {}
        for source, connection in dead.items():
            await self._inherit(source, connection)
        if self._strays and (strays := await self._gather(room)):
            return strays
        batch = await self._fetch(room)
        idle = not batch.deliveries and batch.last_id
        if idle and not self._unacked and not self._dead:
            await self._listen(batch.last_id)
        # A group that was made anew begins at the beginning: with what is in hand as well.
        return [new for new in batch.deliveries if new.entry not in self._in_hand]

    def _is_last(self, delivery: Delivered) -> bool:
        """Tell whether this is a message's last delivery of several.

        It is made alone: a neighbour that kills the process must not use it up.
        """
        most = self.work.policy.max_deliveries or 1
        return isinstance(delivery, Delivery) and 1 < most <= delivery.message.deliveries

    async def _until_nothing_in_hand(self) -> None:
        # Unlike `_pause` also while stopping: each settled message, and `stop`, wakes it to look.
        while self._in_hand:
            with anyio.CancelScope() as self._waiting:
                await anyio.sleep_forever()

    async def _settle(self, delivery: Delivered) -> None:
        match delivery:
            case Malformed():
                await self._bury(delivery, DeadLetter("malformed", delivery.reason))
            case Newer():
                await self._put_off(delivery)
            case _:
                await self._part_with(delivery, await self._outcome(delivery))
        self._in_hand.discard(delivery.entry)
        if self._stopping:
            await self._flush()
        self._waiting.cancel()

    async def _part_with(self, delivery: Delivery, outcome: Again | DeadLetter | None) -> None:
        match outcome:
            case DeadLetter():
                await self._bury(delivery, outcome)
            case Again():
                await self._retry(delivery, outcome)
            case None:
                self._handled(delivery)

    async def _put_off(self, delivery: Newer) -> None:
        """Leave to a newer process what a newer delayq wrote."""
        pending, entry = self.work.pending, delivery.entry
        self.work.observe(NewerFound(self.work.role, self.term.lease.epoch, delivery.reason))
        await self.term.fenced("retry", lambda lease: pending.put_off(lease, entry, NEWER_MS))

    @property
    def idle(self) -> bool:
        """See `Service.idle`."""
        return self._paused and not self._in_hand and not self._unacked

    async def _survey(self) -> None:
        """Look for consumers that died, from time to time."""
        pending = self.work.pending
        while True:
            began = mono_s()
            try:
                others = await self.term.fenced("survey", pending.others)
            except GroupMissing:
                others = {}
            connections = others.values()
            gone = await self.term.fenced("survey", lambda _: self._store.gone(connections))  # noqa: B023
            self._dead = {name: c for name, c in others.items() if not c or c in gone}
            if self._dead:
                self._waiting.cancel()
            await anyio.sleep(max(0, began + SURVEY_S - mono_s()))

    async def _inherit(self, source: str, connection: int) -> None:
        """Make everything that is pending for a dead consumer our own.

        What lies past our place in the stream comes with the next fetch, as anything that is
        pending for us; the rest is gathered.
        """
        pending, count, claimed = self.work.pending, 0, RECLAIM_LIMIT
        while claimed == RECLAIM_LIMIT:
            claimed = await self.term.fenced(
                "inherit", lambda lease: pending.inherit(lease, source, connection)
            )
            count += max(0, claimed)
        if claimed >= 0:
            # Also if the count is 0: the reply to a first try may have been lost.
            self._strays = True
        if count:
            self.work.observe(Inherited(self.work.role, source, count))

    async def _gather(self, room: int) -> list[Delivered]:
        """Deliver what is pending for us, and neither in hand nor to come with a fetch."""
        await self._flush()
        pending, most = self.work.pending, len(self._in_hand) + room
        owned = await self.term.fenced(
            "fetch", lambda lease: pending.owned(lease, self._start, most)
        )
        if self._stopping:
            return []  # what is left is for others; what is being acknowledged is not left
        # What was handled while we asked is not acknowledged yet, and is no stray either.
        known = self._in_hand.union(entry for entry, _ in self._unacked)
        strays = [entry for entry in owned if entry not in known][:room]
        self._strays = bool(strays)
        return await self._redeliver(strays) if strays else []
