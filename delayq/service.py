"""Serving a term: fetch ahead, have it handled, settle. What all ways of serving share.

Two sides run beside each other. The *feed* acknowledges and fetches, in one call, as far ahead as
the pace tells; the *pool* handles what is there. So the server works on the next batch while this
process reads and handles the last one.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from delayq.clock import mono_s
from delayq.delivered import Batch, Delivered
from delayq.errors import LeaseLost
from delayq.events import HandlersHang
from delayq.handling import Context, Tenure, outcome_of
from delayq.message import Delivery
from delayq.pace import Pace
from delayq.pool import Pool
from delayq.retry import Again, DeadLetter
from delayq.settling import Settling, Work
from delayq.term import Term
from delayq.threads import ThreadsHang

SETTLE_S = 0.01
"""Handled messages are acknowledged with the next fetch, but not later than this: so that a death
repeats, besides the messages in hand, only what was handled in these last milliseconds."""
IDLE_S = 10.0
"""Bounds the wait for the doorbell, which is a hint."""
NEWER_MS = 1_000
"""How long a message that a newer delayq wrote is put off, where others may take it."""


class Service(Settling):
    """Base of the ways to serve a term, which differ in what may be handled at once."""

    def __init__(self, work: Work, term: Term) -> None:
        super().__init__(work, term)
        self.listening = False
        """Whether it waits for messages that are new."""
        lease = term.lease
        lane = work.pending.lane
        self._tenure = Tenure(lease.holder, lane, lease.epoch, term.lost, term.trusted_until)
        self._pace = Pace(work.handling.concurrency, work.batch)
        self._pool = self._pool_of(self._work_on)
        self._tasks: TaskGroup
        self._in_hand: set[str] = set()
        """Entries that were delivered, and are not settled."""
        self._fetched: tuple[Batch, set[str]] | None = None
        """What came last, not read yet; and of that what was in hand already."""
        self._alone = False
        """Whether a last delivery is in hand, or waits until nothing is: it is made alone."""
        self._stopping = False
        self._paused = False
        self._waiting = anyio.CancelScope()
        self._rests: set[anyio.CancelScope] = set()
        self._without_thread: list[Delivery] = []
        """What was not begun, as all threads hang."""

    def _pool_of(self, act: Callable[[Any], Awaitable[None]]) -> Pool[Any]:
        """Return a pool whose tasks do that, but for what no thread was to be had for."""

        async def act_in_threads(thing: Any) -> None:
            with suppress(ThreadsHang):
                await act(thing)

        handling = self.work.handling
        chosen = act_in_threads if handling.threads else act
        return Pool(chosen, handling.concurrency, self._look_again)

    async def serve(self) -> None:
        """Serve until stopped; on return nothing that was handled is left to acknowledge."""
        await self._begin()
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._pool.open(tasks)
            self._beside(tasks)
            while not self._stopping:
                await self._turn()
            await self._read()
            while self._at_work():
                await self._wind_up()
            tasks.cancel_scope.cancel()
        await self._flush()
        await self._give_back([*self._unbegun(), *self._without_thread])

    def stop(self) -> None:
        """Fetch no more, finish what is being handled, and return from `serve`."""
        self._stopping = True
        self._pool.close()  # at once: nothing may go past a message whose retry a stop gave up
        self._look_again()
        for rest in self._rests:
            rest.cancel()
        if self.work.handling.threads:
            self.work.handling.threads.hurry()

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but wait: for a message, or for the clock."""
        return self._paused and not self._unacked and self._pool.awake <= len(self._rests)

    # -- what the ways to serve differ in --

    async def _begin(self) -> None:
        """Look at what the lane is like, before anything is fetched."""

    def _beside(self, tasks: TaskGroup) -> None:
        """Start what runs beside the feed and the pool."""

    async def _take(self, deliveries: Sequence[Delivered]) -> None:
        """Have messages handled."""
        self._pool.add(deliveries)

    def _busy(self) -> bool:
        """Tell whether a last delivery could not be made alone."""
        return bool(self._in_hand)

    def _at_work(self) -> bool:
        return bool(self._pool.awake)

    def _unbegun(self) -> Sequence[Delivered]:
        """Return what a stop found fetched and not begun."""
        return self._pool.line

    async def _work_on(self, delivery: Delivered) -> None:
        """Handle a message, and settle it."""
        raise NotImplementedError

    # -- the feed --

    async def _turn(self) -> None:
        """Fetch what there is room for, or wait for a reason to look again."""
        if room := self._room():
            await self._more(room)
        elif self._fetched:
            await self._read()
        elif self._unacked and mono_s() >= self._unacked_since + SETTLE_S:
            await self._flush()
        else:
            await self._pause(self._until_settled)

    async def _more(self, room: int) -> None:
        if self._fetched:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._read)  # begins when the call is on its way
                batch = await self._fetch(room, busy=self._busy())
        else:
            batch = await self._fetch(room, busy=self._busy())
        if batch.entries:
            # A group that was made anew begins at the beginning: with what is in hand as well.
            self._fetched = batch, self._in_hand.intersection(batch.entries)
            self._in_hand.update(batch.entries)
        self._alone = self._alone or batch.held_back
        if len(batch.entries) == 1:
            await self._read()  # it may have to be alone
        if batch.last_id and not self._unacked:
            await self._listen(batch.last_id)

    async def _read(self) -> None:
        """Read what came last, and have it handled."""
        if self._fetched:
            (batch, known), self._fetched = self._fetched, None
            await self._hand_out([each for each in batch.deliveries if each.entry not in known])

    async def _hand_out(self, deliveries: Sequence[Delivered]) -> None:
        if deliveries:
            self._alone = self._alone or (len(deliveries) == 1 and self._is_last(deliveries[0]))
            self._in_hand.update([delivery.entry for delivery in deliveries])
            await self._take(deliveries)

    def _room(self) -> int:
        if self._alone:
            if self._busy():
                return 0
            self._alone = False
        return self._worthwhile()

    def _worthwhile(self) -> int:
        """Tell how many messages are worth fetching."""
        return self._pace.room(len(self._in_hand))

    async def _wind_up(self) -> None:
        """Acknowledge at once what is handled after a stop: there may be long handlers beside."""
        if self._unacked:
            await self._flush()
        else:
            with anyio.CancelScope() as self._waiting:
                self._paused = True
                await anyio.sleep_forever()

    def _settled(self, entry: str) -> None:
        """Have a message out of hand."""
        self._in_hand.discard(entry)
        self._pace.settled()
        self._look_again()

    def _look_again(self) -> None:
        """End a pause of the feed."""
        if self._paused:
            self._paused = False
            self._waiting.cancel()

    async def _until_settled(self) -> None:
        if self._unacked:
            await anyio.sleep(max(0, self._unacked_since + SETTLE_S - mono_s()))
        else:
            await anyio.sleep_forever()

    async def _pause(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, but no longer than until `stop`, or until a message is settled."""
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
        """Wait, in a task of the pool, but no longer than until `stop`."""
        with anyio.CancelScope() as rest:
            self._rests.add(rest)
            try:
                if not self._stopping:
                    await wait()
            finally:
                self._rests.discard(rest)

    # -- handling --

    def _is_last(self, delivery: Delivered) -> bool:
        """Tell whether this is a message's last delivery of several.

        It is made alone: a neighbour that kills the process must not use it up.
        """
        most = self.work.policy.max_deliveries or 1
        return isinstance(delivery, Delivery) and 1 < most <= delivery.message.deliveries

    def _outcome(self, delivery: Delivery) -> Awaitable[Again | DeadLetter | None]:
        """Handle a message.

        :raises LeaseLost: if trust has ended, which a process that was frozen may find before its
            timers do
        :raises ThreadsHang: if no thread was to be had; then this stops
        """
        lease = self.term.lease
        if mono_s() > lease.trusted_until:
            raise LeaseLost(f"epoch {lease.epoch} is not trusted any more")
        context = Context(delivery.message, delivery.entry, self._tenure)
        outcome = outcome_of(self.work.handling, context, self.work.policy)
        return self._in_thread(delivery, outcome) if self.work.handling.threads else outcome

    async def _in_thread(
        self, delivery: Delivery, outcome: Awaitable[Again | DeadLetter | None]
    ) -> Again | DeadLetter | None:
        try:
            return await outcome
        except ThreadsHang as error:
            self._without_thread.append(delivery)
            if not self._stopping:
                self.work.observe(HandlersHang(self.work.role, str(error)))
                self.stop()
            raise
