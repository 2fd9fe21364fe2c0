"""The outbox: concurrent publishes share a script call, and a lone one waits for none.

Whoever finds nobody sending, sends: itself, and all who come in the same turn of the event loop
where several did before. Whoever finds somebody sending waits for that call's end, and then one of
those that wait sends for all of them, and for those that were answered and come again. Where they
are many a call takes half of them: see `MANY`. A call that is cut off, because its sender was
cancelled, is made again, the same, by one of the others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from delayq.caller import Call, Caller
from delayq.clock import mono_s
from delayq.errors import DelayqError, NotConfirmed, ServerUnreachable
from delayq.outgoing import NOW, Outgoing, Receipt

MAX_MESSAGES = 500
"""Messages sent by one script at most, 1 to 2 ms of the server's time; those that take more of it
count for several: see `batches`."""
MAX_BYTES = 1_000_000
"""Bytes sent by one script, beyond which no message is added."""
MANY = 64
"""From so many publishers on a call takes half of them: the server is at work while those that were
answered make their next messages. Fewer are sooner done together, as a call by itself takes the
server the time of ten messages."""

_PASSING = (ServerUnreachable, NotConfirmed)
"""What a repeat of the call may mend."""
Answer = Receipt | DelayqError
Send = Callable[[Sequence[Outgoing], Call, float], Awaitable[list[Answer]]]
"""Sends messages by one call, made again as the same one or not at all, until those seconds of
`mono_s`."""


def batches(messages: Iterable[Outgoing], *, limited: bool = False) -> Iterator[list[Outgoing]]:
    """Part messages, in their order, into what one script call takes.

    One that is scheduled counts for six: it takes 2.5 times as long as a body that is due now, and
    8 times just after the server's tables have doubled, at half a million and so on, as each change
    moves a part of what is in them to memory that the server has not used before: three page faults
    a message, some 10 µs each in a virtual machine.

    :param limited: whether the queue has a `max_backlog`, so that each is looked up
    """
    batch: list[Outgoing] = []
    size, room = 0, MAX_MESSAGES
    for message in messages:
        if room <= 0 or size >= MAX_BYTES:
            yield batch
            batch, size, room = [], 0, MAX_MESSAGES
        batch.append(message)
        _, told, when, values, fields, _ = message  # properties and calls take as long as all else
        size += len(fields) if isinstance(fields, str) else sum(map(len, fields))
        room -= 6 if when != NOW else 1 if values == 1 else 2
        if told or limited:
            room -= 3
    if batch:
        yield batch


@dataclass(eq=False, slots=True)
class _Slot:
    message: Outgoing
    ends_at: float
    """Until when an answer is waited for, in monotonic seconds."""
    turn: "asyncio.Future[None] | None" = None
    """Of one that waits: done when it was answered, or when it is its turn to send. Not an
    `anyio.Event`: a future is made in a sixth of the time."""
    answer: Answer | None = None
    gone: bool = False
    """Whoever posted it waits no more: it was answered, or cancelled."""

    def end(self, answer: Answer) -> None:
        """Give the answer, which whoever waits hears when it is woken."""
        self.answer, self.gone = answer, True

    def wake(self) -> None:
        """Let whoever waits go on: it was answered, or it is its turn to send."""
        if self.turn and not self.turn.done():
            self.turn.set_result(None)


@dataclass(eq=False, slots=True)
class _Batch:
    call: Call
    slots: list[_Slot]


class Outbox:
    """Sends messages through `send`, one call at a time; `limited` is as for `batches`.

    :param patience_s: how long a message is tried, the server being away
    :param least_s: how much of that has to be left for a call to be worth while
    """

    def __init__(
        self,
        send: Send,
        patience_s: float = 3.0,
        *,
        limited: bool = False,
        least_s: float = 0.0,
    ) -> None:
        self._send = send
        self._patience_s = patience_s
        # However many wait while the server is away, some ten calls are made, one after another.
        self._least_s = max(least_s, patience_s / 10)
        self._limited = limited
        self._waiting: deque[_Slot] = deque()
        self._caller = Caller()
        self._cut: _Batch | None = None
        """A call whose answer nobody heard."""
        self._leader: _Slot | None = None
        self._away = 0
        """How many the last call was for, which are likely to come again, all at once."""

    async def post(self, message: Outgoing) -> Receipt:
        """Send a message, and return its receipt.

        :raises DelayqError: what `send` answered for it, or raised
        """
        slot = _Slot(message, mono_s() + self._patience_s)
        self._waiting.append(slot)
        try:
            alone = self._leader is None
            if alone:
                self._leader = slot
            else:
                slot.turn = asyncio.get_running_loop().create_future()
                await slot.turn
            if slot.answer is None:
                if self._away > 1 and (alone or not self._many):
                    await asyncio.sleep(0)
                    self._away = 0
                await self._lead(slot)
        except BaseException:
            self._withdraw(slot)
            raise
        if isinstance(slot.answer, Receipt):
            return slot.answer
        assert slot.answer is not None  # noqa: S101 - whoever leads is in the call
        raise slot.answer

    async def _lead(self, leader: _Slot) -> None:
        """Make one call, for oneself and others: the one that was cut off, or the next.

        While the server is away each leads for as long as it has patience itself.
        """
        batch, self._cut = self._cut or _Batch(self._caller.call(), self._take()), None
        answers: Sequence[Answer]
        try:
            messages = [slot.message for slot in batch.slots]
            answers = await self._send(messages, batch.call, leader.ends_at)
        except DelayqError as error:
            answers = [type(error)(*error.args) for _ in batch.slots]
            if isinstance(error, ServerUnreachable):
                self._give_up(error)
        except BaseException:
            self._cut = batch
            raise
        again = []  # what was refused for good is not; else it is the same call, so all of it
        for slot, answer in zip(batch.slots, answers, strict=True):
            passing = isinstance(answer, _PASSING)
            if passing:
                again.append(slot)
            if not passing or slot is leader or not self._has_time(slot):
                slot.end(answer)
        if not all(slot.gone for slot in again):
            self._cut = _Batch(batch.call, again)
        self._away = len(batch.slots)
        self._pass_on()  # first: the next call is on its way when those that are answered go on
        for slot in batch.slots:
            if slot.gone:
                slot.wake()

    @property
    def _many(self) -> bool:
        return len(self._waiting) + self._away >= MANY

    def _has_time(self, slot: _Slot) -> bool:
        return slot.ends_at > mono_s() + self._least_s

    def _give_up(self, error: ServerUnreachable) -> None:
        """Fail those that waited behind a call in vain, and have hardly any time left for one."""
        while self._waiting and not self._has_time(self._waiting[0]):
            slot = self._waiting.popleft()
            slot.end(type(error)(*error.args))
            slot.wake()

    def _take(self) -> list[_Slot]:
        if len(self._waiting) == 1:
            return [self._waiting.popleft()]
        most = (len(self._waiting) + self._away + 1) // 2 if self._many else None
        messages = (slot.message for slot in islice(self._waiting, most))
        batch = next(batches(messages, limited=self._limited))
        return [self._waiting.popleft() for _ in batch]

    def _pass_on(self) -> None:
        """Have one of those that wait send next, if there are any."""
        if self._cut and all(slot.gone for slot in self._cut.slots):
            self._cut = None
        candidates = self._cut.slots if self._cut else self._waiting
        self._leader = None
        if candidates:
            self._leader = next((slot for slot in candidates if not slot.gone), None)
        if self._leader:
            self._leader.wake()

    def _withdraw(self, slot: _Slot) -> None:
        slot.gone = True
        if slot in self._waiting:
            self._waiting.remove(slot)
        if slot is self._leader:
            self._pass_on()
