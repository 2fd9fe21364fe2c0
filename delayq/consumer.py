"""The consumer: stands by for its lease, takes over what is pending, serves, hands over.

Whether it is the one active consumer of an ordered queue, or one of many that compete, is the
queue's `ordering`: it decides whose lease it holds and how it serves.
"""

from collections import Counter

import anyio

from delayq.bell import Bell
from delayq.competing import Competing
from delayq.connection import Server, outlast
from delayq.events import Observer, Released, TookOver
from delayq.handling import Handler, Handling
from delayq.heartbeat import HEARTBEAT
from delayq.keyed import Keyed
from delayq.keys import checked_name
from delayq.lease import Lease, LeaseStore
from delayq.logs import log_trouble
from delayq.ordered import Ordered
from delayq.pending import Pending
from delayq.queue import Queue
from delayq.service import Service
from delayq.settling import Work
from delayq.standby import Standby
from delayq.term import Term

_LIMITS = {
    "lease_ttl_s": (0.1, 86_400),
    "batch": (1, 1_000),
    "concurrency": (1, 100_000),
    "time_limit_s": (0.001, 86_400),
}


def check_limits(**given: float | None) -> None:
    """Check numbers that a consumer is given, by name.

    :raises ValueError: if one is out of range
    """
    for name, value in given.items():
        least, most = _LIMITS[name]
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name}: {least} to {most} (got {value})")


class Consumer:
    """Handles the messages of one queue, as `name`.

    :param lease_ttl_s: after how long without a sign of life another may take over
    :param batch: messages fetched at once, at most
    :param concurrency: messages handled at once: where consumers compete, or order is by key;
        strict: always one
    :param time_limit_s: how long handling a message may take; then it has failed
    :param acknowledge: False leaves everything pending, so that the next consumer starts from the
        first message again; only in an ordered queue
    :raises InvalidName: if `name` cannot stand in a key
    :raises ValueError: if a number is out of range
    :raises TypeError: if the handler cannot be called
    """

    def __init__(
        self,
        server: Server,
        queue: Queue,
        handler: Handler,
        *,
        name: str,
        lease_ttl_s: float = 10.0,
        batch: int = 500,
        concurrency: int = 10,
        time_limit_s: float | None = None,
        acknowledge: bool = True,
        observe: Observer = log_trouble,
    ) -> None:
        self.name = checked_name("consumer", name)
        check_limits(
            lease_ttl_s=lease_ttl_s,
            batch=batch,
            concurrency=concurrency,
            time_limit_s=time_limit_s,
        )
        if not callable(handler):
            raise TypeError("handler: a function of a body and a context is needed")
        if not (acknowledge or queue.ordered):
            raise ValueError("acknowledge: only an ordered queue can go without")
        self._server = server
        self._queue = queue
        at_once = 1 if queue.ordering == "strict" else concurrency
        self._handling = Handling(handler, at_once, time_limit_s)
        self._lease_ttl_s = lease_ttl_s
        # A message may only be fetched beside others if one more delivery is left to it.
        self._batch = 1 if queue.retry.max_deliveries == 1 else batch
        self._acknowledge = acknowledge
        self._observe = observe
        self._stopping = False
        self._waiting = anyio.CancelScope()
        self._passing_on = False
        self._term: Term | None = None
        self._service: Service | None = None

    async def run(self) -> None:
        """Stand by and serve until stopped.

        :raises ServerError: if the server refuses; while it is merely away, this waits for it
        """
        async with self._server.link(self.name) as link:
            queue = self._queue.bound_to(link.client)
            store = LeaseStore(link.anchor, queue.keys, self.name, self._lease_ttl_s)
            doorbell = link.bells.bell(queue.keys.stream)
            vacancy = link.bells.bell(queue.keys.vacancy)
            with anyio.CancelScope() as self._waiting:
                await outlast(queue.register, self.name, self._observe)
            while not self._stopping:
                await self._one_term(queue, store, doorbell, vacancy)

    def stop(self) -> None:
        """Finish what is in hand, hand over, and return from `run`."""
        self._stopping = True
        self._waiting.cancel()
        if self._service:
            self._service.stop()

    def freeze(self, seconds: float) -> None:
        """Behave as a frozen process does, for tests and demonstrations. See `Term.freeze`."""
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

    async def _one_term(
        self, queue: Queue, store: LeaseStore, doorbell: Bell, vacancy: Bell
    ) -> None:
        key = queue.keys.lease(None if queue.ordered else self.name)
        standby = Standby(store, vacancy, self.name, self._observe)
        with anyio.CancelScope() as self._waiting:
            if self._passing_on:
                await standby.let_another(key)
            lease, why = await standby.wait(key)
        if self._waiting.cancelled_caught:
            return
        if self._stopping:
            await self._hand_over(store, lease)
            return
        pending = Pending(queue)
        handler = (self._handling.name, self._handling.code)
        term = Term(store, lease, self.name, self._observe, calls=vacancy, handler=handler)
        service = self._serving(self._work(queue, pending, doorbell), term, store)

        async def serve() -> None:
            await self._take_over(pending, term, why, everything=queue.ordered)
            async with anyio.create_task_group() as listening:
                listening.start_soon(self._pass_on_if_asked, term, service)
                await service.serve()
                listening.cancel_scope.cancel()

        self._term, self._service = term, service
        end_watch = HEARTBEAT.watch(term, self._server)
        try:
            held = await term.run(serve)
        finally:
            end_watch()
            self._term = self._service = None
        self._passing_on = term.handover.is_set()
        if held:
            await self._hand_over(store, lease)

    def _work(self, queue: Queue, pending: Pending, doorbell: Bell) -> Work:
        return Work(
            self.name,
            pending,
            queue.retry,
            queue.on_failure,
            self._handling,
            doorbell,
            queue.clock,
            self._observe,
            self._batch,
            self._acknowledge,
        )

    def _serving(self, work: Work, term: Term, store: LeaseStore) -> Service:
        match self._queue.ordering:
            case "none":
                return Competing(work, term, store)
            case "strict":
                return Ordered(work, term)
            case "key":
                return Keyed(work, term)

    async def _pass_on_if_asked(self, term: Term, service: Service) -> None:
        await term.handover.wait()
        service.stop()

    async def _take_over(self, pending: Pending, term: Term, why: str, *, everything: bool) -> None:
        """Make the lane's whole pending list our own, and delete its old owners."""
        await term.fenced("create the group", lambda _: pending.ensure_group())
        owners: Counter[str] = Counter()
        deleted: tuple[str, ...] = ()
        start = "-" if everything else None
        while start is not None:
            part = await term.fenced(
                "reclaim",
                lambda lease, start=start: pending.reclaim(lease, start),  # type: ignore[misc]
            )
            owners.update(part.owners)
            deleted += part.deleted
            start = part.next_start
        self._observe(TookOver(self.name, term.lease.epoch, why, dict(owners), deleted))

    async def _hand_over(self, store: LeaseStore, lease: Lease) -> None:
        with anyio.move_on_after(self._lease_ttl_s):
            if await outlast(lambda: store.release(lease), self.name, self._observe):
                self._observe(Released(self.name, lease.epoch))
