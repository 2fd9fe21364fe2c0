"""A consumer's seat at one lane: it stands by for the lane's lease, serves, hands over."""

from collections import Counter
from dataclasses import dataclass

import anyio

from delayq.competing import Competing
from delayq.connection import Server, outlast
from delayq.errors import ScriptFailed, ungrouped
from delayq.events import LaneFailed, Observer, Released, TookOver
from delayq.handling import Handling
from delayq.heartbeat import HEARTBEAT
from delayq.keyed import Keyed
from delayq.lanes import REST_S
from delayq.lease import Lease, LeaseStore
from delayq.ordered import Ordered
from delayq.pending import Pending
from delayq.queue import Queue
from delayq.service import Service
from delayq.settling import Work
from delayq.share import Share
from delayq.standby import Standby
from delayq.stop import Stop
from delayq.survey import Survey
from delayq.term import Term
from delayq.transport.link import Link


@dataclass(frozen=True, slots=True)
class Duty:
    """What a consumer does in each lane. See `Consumer` for the meaning of each."""

    name: str
    server: Server
    lanes: int
    lease_ttl_s: float
    batch: int
    acknowledge: bool


class Seat:
    """Handles the messages of one lane whenever it holds the lane's lease.

    :param queue: of that one lane, over the link's client
    :param share: says whether the lane is for this consumer
    """

    def __init__(
        self,
        duty: Duty,
        queue: Queue,
        handling: Handling,
        link: Link,
        *,
        share: Share,
        observe: Observer,
    ) -> None:
        self.lane = queue.keys.lane
        self._duty = duty
        self._queue = queue
        self._handling = handling
        self._share = share
        self._observe = observe
        self._store = LeaseStore(link.anchor, queue.keys, duty.name, duty.lease_ttl_s)
        self._bells = link.bells
        self._doorbell = link.bells.bell(queue.keys.stream)
        self._vacancy = link.bells.bell(queue.keys.vacancy)
        self._stop = Stop()
        self._letting_another = False
        self._passing_on = False
        self._term: Term | None = None
        self._service: Service | None = None

    async def run(self) -> None:
        """Stand by and serve until stopped.

        :raises ServerError: if the server refuses; while it is merely away, this waits for it
        """
        try:
            while not self._stop.asked:
                await self._one_term_apart()
        finally:
            self._bells.let_go(self._doorbell, self._vacancy)

    def stop(self) -> None:
        """Finish what is in hand, hand over, and return from `run`."""
        self._stop.ask()
        if self._service:
            self._service.stop()

    def pass_on(self) -> None:
        """Finish what is in hand, hand over, and stand by."""
        if self._service:
            self._passing_on = True
            self._service.stop()

    def freeze(self, seconds: float) -> None:
        """Behave as a frozen process does. See `Term.freeze`."""
        if self._term:
            self._term.freeze(seconds)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but wait: stands by, or serves and has nothing in hand."""
        return self._term is None or (self._service is not None and self._service.idle)

    @property
    def listening(self) -> bool:
        """Whether it is active, and waits for messages that are new."""
        return self._service is not None and self._service.listening

    @property
    def holder(self) -> str | None:
        """The name under which messages are pending for it; None while it stands by."""
        return self._term.lease.holder if self._term else None

    @property
    def hangs(self) -> bool:
        """Whether it can handle nothing, as all threads hang."""
        return self._handling.threads is not None and self._handling.threads.hang

    @property
    def settled(self) -> bool:
        """Whether it is active, and was not told to pass on."""
        return self._term is not None and not self._passing_on

    async def _one_term_apart(self) -> None:
        """Stand by and serve. Where a script fails in one lane of several, the others go on."""
        try:
            with ungrouped():
                await self._one_term()
        except ScriptFailed as error:
            if self._duty.lanes == 1:
                raise
            self._observe(LaneFailed(self._duty.name, str(error)))
            with self._stop.cuts():
                await anyio.sleep(REST_S)

    async def _one_term(self) -> None:
        queue, duty = self._queue, self._duty
        key = queue.keys.lease(None if queue.ordered else duty.name)
        standby = Standby(
            self._store,
            self._vacancy,
            duty.name,
            self._observe,
            share=self._share,
            lane=self.lane,
            own=not queue.ordered,
        )
        with self._stop.cuts() as standing_by:
            if self._handling.threads:
                await self._handling.threads.ready()
            if self._letting_another:
                await standby.let_another(key)
            lease, why = await standby.wait(key)
        if standing_by.cancelled_caught:
            return
        try:
            if self._stop.asked or await self._serve(lease, why):
                await self._hand_over(lease)
        finally:
            self._share.give_up(self.lane)

    async def _serve(self, lease: Lease, why: str) -> bool:
        """Serve a term; return whether the lease is still held at its end."""
        pending = Pending(self._queue)
        handler = (self._handling.name, self._handling.code)
        term = Term(
            self._store,
            lease,
            self._duty.name,
            self._observe,
            calls=self._vacancy,
            handler=handler,
        )
        service = self._serving(self._work(pending), term)

        async def serve() -> None:
            await self._take_over(pending, term, why)
            async with anyio.create_task_group() as listening:
                listening.start_soon(self._pass_on_if_asked, term, service)
                await service.serve()
                listening.cancel_scope.cancel()

        self._term, self._service = term, service
        end_watch = HEARTBEAT.watch(term, self._duty.server)
        try:
            return await term.run(serve)
        finally:
            end_watch()
            self._term = self._service = None
            self._passing_on = False
            self._letting_another = term.handover.is_set()

    def _work(self, pending: Pending) -> Work:
        queue = self._queue
        return Work(
            self._duty.name,
            pending,
            queue.retry,
            queue.on_failure,
            self._handling,
            self._doorbell,
            queue.clock,
            self._observe,
            self._duty.batch,
            self._duty.acknowledge,
        )

    def _serving(self, work: Work, term: Term) -> Service:
        match self._queue.ordering:
            case "none":
                return Competing(work, term, Survey(self._queue, self._store))
            case "strict":
                return Ordered(work, term)
            case "key":
                return Keyed(work, term)

    async def _pass_on_if_asked(self, term: Term, service: Service) -> None:
        await term.handover.wait()
        service.stop()

    async def _take_over(self, pending: Pending, term: Term, why: str) -> None:
        """Make the lane's whole pending list our own, and delete its old owners."""
        await term.fenced("create the group", lambda _: pending.ensure_group())
        owners: Counter[str] = Counter()
        deleted: tuple[str, ...] = ()
        start = "-" if self._queue.ordered else None
        while start is not None:
            part = await term.fenced(
                "reclaim",
                lambda lease, start=start: pending.reclaim(lease, start),  # type: ignore[misc]
            )
            owners.update(part.owners)
            deleted += part.deleted
            start = part.next_start
        self._observe(TookOver(self._duty.name, term.lease.epoch, why, dict(owners), deleted))

    async def _hand_over(self, lease: Lease) -> None:
        name = self._duty.name
        with anyio.move_on_after(self._duty.lease_ttl_s):
            if await outlast(lambda: self._store.release(lease), name, self._observe):
                self._observe(Released(name, lease.epoch))
