"""Serving in order by key: messages of one key one after the other, different keys at once."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from delayq.message import Delivery
from delayq.ordered import Ordered
from delayq.pending import Delivered, Newer
from delayq.service import Work
from delayq.term import Term

MOST_IN_HAND = 1_000
"""Messages fetched and not settled at most: so far other keys are seen past one that waits."""


class Keyed(Ordered):
    """The active consumer of a queue that is ordered by key. Messages without a key have no order.

    A message that is retried in place holds back those of its key alone.
    """

    own_tasks = True

    def __init__(self, work: Work, term: Term) -> None:
        super().__init__(work, term)
        self._lines: dict[str | tuple[str], deque[Delivered]] = {}
        """For each key in hand its messages, the one being handled first."""
        self._in_hand = 0
        self._unbegun: list[Delivered] = []
        self._places = anyio.CapacityLimiter(work.handling.concurrency)
        self._queued = 0
        """Lines that wait for a place."""
        self._running = 0
        self._lone = 0
        """Messages that are handled, or want to be, with no other beside them."""
        self._changed = anyio.Condition()
        self._open = anyio.Event()
        self._open.set()

    async def serve(self) -> None:
        """See `Service.serve`."""
        await self._begin()
        async with anyio.create_task_group() as handling:
            while not self._stopping:
                await self._turn_over(handling)
        await self._flush()
        await self._give_back(self._unbegun)

    @property
    def idle(self) -> bool:
        """See `Service.idle`."""
        waits = self._paused or (bool(self._rests) and not self._lines)
        halted = 0 if self._open.is_set() else self._queued
        resting = len(self._rests) + halted >= len(self._lines)
        return waits and resting and not self._unacked

    async def _turn_over(self, handling: TaskGroup) -> None:
        """Fetch what there is room for, or wait for a reason to look again."""
        room = min(self.work.batch, MOST_IN_HAND - self._in_hand)
        if not self._open.is_set():
            await self._flush()
            await self._pause(self._open.wait)
        elif room <= 0:
            await self._flush()
            await self._pause(anyio.sleep_forever)
        else:
            batch = await self._fetch(room)
            for at, delivery in enumerate(batch.deliveries):
                if isinstance(delivery, Newer):  # its key is not known: so nothing may go past it
                    self._unbegun += batch.deliveries[at + 1 :]
                    await self._leave_to_newer(delivery)
                    return
                self._line_up(delivery, handling)
            if not batch.deliveries and batch.last_id and not self._unacked:
                await self._listen(batch.last_id)

    def _line_up(self, delivery: Delivered, handling: TaskGroup) -> None:
        key = delivery.message.key if isinstance(delivery, Delivery) else None
        line_of = key if key is not None else (delivery.entry,)
        if any(delivery.entry == known.entry for known in self._lines.get(line_of, ())):
            return  # a group that was made anew begins at the beginning: with what is in hand too
        self._in_hand += 1
        if line := self._lines.get(line_of):
            line.append(delivery)
        else:
            self._lines[line_of] = deque([delivery])
            handling.start_soon(self._work_off, line_of)

    async def _work_off(self, line_of: str | tuple[str]) -> None:
        line = self._lines[line_of]
        while line:
            await self._settle(line[0])
            line.popleft()
            self._in_hand -= 1
            if self._stopping:
                await self._flush()
            self._waiting.cancel()
        del self._lines[line_of]

    async def _settle(self, delivery: Delivered) -> None:
        current: Delivered | None = delivery
        while current is not None:
            async with self._place(alone=self._is_last(current)):
                if self._stopping:
                    self._unbegun.append(current)
                    return
                again = await self._settle_once(current)
            current = await self._again(current.entry, again.delay_ms) if again else None

    @asynccontextmanager
    async def _place(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for one of the places, and until nobody wants to be alone; or to be alone."""
        self._queued += 1
        async with self._places:
            self._lone += alone
            async with self._changed:
                while self._running if alone else self._lone:
                    await self._changed.wait()
                self._running += 1
            await self._open.wait()
            self._queued -= 1
            try:
                yield
            finally:
                self._running -= 1
                self._lone -= alone
                if self._lone or alone:
                    with anyio.CancelScope(shield=True):
                        async with self._changed:
                            self._changed.notify_all()

    def _is_last(self, delivery: Delivered) -> bool:
        """Tell whether this is a message's last delivery of several: it is made alone."""
        most = self.work.policy.max_deliveries or 1
        return isinstance(delivery, Delivery) and 1 < most <= delivery.message.deliveries

    async def _until_resumed(self) -> None:
        if self._open.is_set():
            self._open = anyio.Event()
        opened = self._open
        await super()._until_resumed()
        opened.set()
