"""Serving beside others: consumers compete for a queue, each handling many messages at once."""

import anyio
from anyio.abc import TaskGroup

from delayq.clock import mono_s
from delayq.delivered import Delivered, Malformed, Newer
from delayq.events import Inherited, NewerFound
from delayq.message import Delivery
from delayq.pending import RECLAIM_LIMIT
from delayq.retry import Again, DeadLetter
from delayq.service import NEWER_MS, Service
from delayq.settling import Work
from delayq.survey import SURVEY_S, Survey
from delayq.term import Term


class Competing(Service):
    """One of the consumers of an unordered queue."""

    def __init__(self, work: Work, term: Term, survey: Survey) -> None:
        super().__init__(work, term)
        self._survey = survey
        self._room_found = anyio.Event()
        self._dead: dict[str, str] = {}
        """Consumers found dead, and the connection by which they were, or ''."""
        self._strays = False
        """Whether something may be pending for us that lies behind our place in the stream."""

    def _beside(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self._look_around)

    async def _more(self, room: int) -> None:
        self._room_found.set()
        dead, self._dead = self._dead, {}
        for source, connection in dead.items():
            await self._inherit(source, connection)
        if not (self._strays and await self._gather(room)):
            await super()._more(room)

    async def _listen(self, last_id: str) -> None:
        self._room_found.set()
        if not self._dead:
            await super()._listen(last_id)

    async def _work_on(self, delivery: Delivered) -> None:
        if self.term.frozen:
            await self.term.thawed()
        match delivery:
            case Malformed():
                await self._bury(delivery, DeadLetter("malformed", delivery.reason))
            case Newer():
                await self._put_off(delivery)
            case _:
                outcome = await self._outcome(delivery)
                if outcome is None:
                    self._handled(delivery)
                else:
                    await self._part_with(delivery, outcome)
        self._settled(delivery.entry)

    async def _part_with(self, delivery: Delivery, outcome: Again | DeadLetter) -> None:
        match outcome:
            case DeadLetter():
                await self._bury(delivery, outcome)
            case Again():
                await self._retry(delivery, outcome)

    async def _put_off(self, delivery: Newer) -> None:
        """Leave to a newer process what a newer delayq wrote."""
        pending, entry = self.work.pending, delivery.entry
        self.work.observe(NewerFound(self.work.role, self.term.lease.epoch, delivery.reason))
        await self.term.fenced("retry", lambda lease: pending.put_off(lease, entry, NEWER_MS))

    async def _look_around(self) -> None:
        """Look for consumers that died, whenever it is our turn."""
        while True:
            await self._with_room()
            began = mono_s()
            wait_s, dead = await self.term.fenced("survey", self._survey.look)
            if dead:
                self._dead = dead
                self._look_again()
            await anyio.sleep(wait_s or max(0, began + SURVEY_S - mono_s()))

    async def _with_room(self) -> None:
        """Wait until there is room for messages: else others are to look, who can inherit."""
        if not self.listening:
            self._room_found = anyio.Event()
            await self._room_found.wait()

    async def _inherit(self, source: str, connection: str) -> None:
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

    async def _gather(self, room: int) -> bool:
        """Deliver what is pending for us, and neither in hand nor to come with a fetch.

        :return: whether there was anything of that kind
        """
        await self._flush()
        pending, most = self.work.pending, len(self._in_hand) + room
        owned = await self.term.fenced(
            "fetch", lambda lease: pending.owned(lease, self._start, most)
        )
        # What was handled while we asked is not acknowledged yet, and is no stray either.
        known = self._in_hand.union(entry for entry, _ in self._unacked)
        strays = [(entry, count) for entry, count in owned if entry not in known][:room]
        self._strays = bool(strays)
        if strays and not self._stopping:  # what is left at a stop is for others
            await self._hand_out_strays(await self._redeliver(strays))
        return self._strays

    async def _hand_out_strays(self, strays: list[Delivered]) -> None:
        """Have strays handled, but for those that must be alone: they are given back until then."""
        last = [delivery for delivery in strays if self._is_last(delivery)]
        fit = [delivery for delivery in strays if not self._is_last(delivery)]
        if last and not fit and not self._in_hand:
            fit = [last.pop(0)]
        await self._give_back(last)
        await self._hand_out(fit)
        self._alone = self._alone or bool(last)
