"""Serving in order by key: messages of one key one after the other, different keys at once."""

from collections import deque
from collections.abc import Sequence

import anyio

from delayq.delivered import Delivered, Newer
from delayq.message import Delivery
from delayq.ordered import InPlace, Ordered
from delayq.settling import Work
from delayq.term import Term

MOST_IN_HAND = 1_000
"""Messages fetched and not settled at most: so far other keys are seen past one that waits."""

Key = str | tuple[str]
"""Of a line: an ordering key, or of a message that has none its entry."""


class Keyed(Ordered):
    """The active consumer of a queue that is ordered by key. Messages without a key have no order.

    A message that is retried in place holds back those of its key alone.
    """

    def __init__(self, work: Work, term: Term) -> None:
        super().__init__(work, term)
        self._lines: dict[Key, deque[Delivered]] = {}
        """For each key in hand its messages, the one being handled first."""
        self._pool = self._pool_of(self._work_off)
        """Works off lines, by their keys."""
        self._unread: list[Delivered] = []
        """What lies behind a message that a newer delayq wrote."""
        self._returning = 0
        """Lines whose first message waits to be retried: they have no place in the pool."""
        self._running = 0
        self._lone = 0
        """Messages that are handled, or want to be, with no other beside them."""
        self._changed = anyio.Event()
        self._held_up = 0
        """Lines that wait for the lane to be resumed."""
        self._open = anyio.Event()
        self._open.set()

    @property
    def idle(self) -> bool:
        """See `Service.idle`."""
        waiting = len(self._rests) + (0 if self._open.is_set() else self._held_up)
        return self._paused and not self._unacked and self._pool.awake + self._returning <= waiting

    def _busy(self) -> bool:
        return bool(self._pool.awake or self._fetched)

    def _at_work(self) -> bool:
        return bool(self._pool.awake + self._returning)

    def _worthwhile(self) -> int:
        room = min(self.work.batch, MOST_IN_HAND - len(self._in_hand))
        needed = self._pool.awake < self.work.handling.concurrency
        return room if needed or 2 * room >= self.work.batch else 0

    def _unbegun(self) -> Sequence[Delivered]:
        return [*(delivery for line in self._lines.values() for delivery in line), *self._unread]

    async def _take(self, deliveries: Sequence[Delivered]) -> None:
        lines: list[Key] = []
        newer: Newer | None = None
        for at, delivery in enumerate(deliveries):
            if isinstance(delivery, Newer):  # its key is not known: so nothing may go past it
                newer = delivery
                self._unread += deliveries[at + 1 :]
                break
            key = delivery.message.key if isinstance(delivery, Delivery) else None
            line_of = key if key is not None else (delivery.entry,)
            if line := self._lines.get(line_of):
                line.append(delivery)
            else:
                self._lines[line_of] = deque([delivery])
                lines.append(line_of)
        self._pool.add(lines)
        if newer:
            await self._leave_to_newer(newer)

    async def _work_off(self, line_of: Key) -> None:
        """Handle the messages of a line, until one of them waits to be retried."""
        line = self._lines[line_of]
        while line:
            if self._stopping:
                return
            delivery = line[0]
            alone = self._is_last(delivery)
            await self._enter(alone=alone)
            try:
                if self._stopping:
                    return
                again = await self._settle_once(delivery)
            finally:
                self._leave(alone=alone)
            if again:
                self._returning += 1
                self._tasks.start_soon(self._return, line_of, again)
                return
            line.popleft()
            self._settled(delivery.entry)
        del self._lines[line_of]

    async def _return(self, line_of: Key, again: InPlace) -> None:
        """Put a line in the pool anew, when it is time to retry its first message."""
        line = self._lines[line_of]
        entry = line[0].entry
        delivery = await self._again(entry, again)
        if delivery:
            line[0] = delivery
        else:
            line.popleft()
            self._settled(entry)
        if line:
            self._pool.add((line_of,))
        else:
            del self._lines[line_of]
        self._returning -= 1
        self._look_again()

    async def _enter(self, *, alone: bool) -> None:
        """Wait until nobody wants to be alone, or to be alone; and until the lane is open."""
        self._held_up += 1
        self._lone += alone
        while True:
            if self._running if alone else self._lone:
                await self._changed.wait()
            elif not self._open.is_set():
                await self._open.wait()
            else:
                break
        self._held_up -= 1
        self._running += 1

    def _leave(self, *, alone: bool) -> None:
        self._running -= 1
        self._lone -= alone
        if alone or self._lone:
            self._changed.set()
            self._changed = anyio.Event()

    async def _until_resumed(self) -> None:
        if self._open.is_set():
            self._open = anyio.Event()
        opened = self._open
        await super()._until_resumed()
        opened.set()
