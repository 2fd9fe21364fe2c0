"""The outbox: concurrent publishes share a script call, and a lone one waits for none.

Whoever finds nobody sending, sends: itself, and all who came meanwhile. Whoever finds somebody
sending waits for that call's end, and then one of those that wait sends for all of them.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import anyio

from delayq.errors import DelayqError
from delayq.message import Outgoing, Receipt

MAX_MESSAGES = 256
"""Messages sent by one script at most: a few ms of the server's time."""
MAX_BYTES = 4_000_000
"""Bytes sent by one script, beyond which no message is added."""

Answer = Receipt | DelayqError
Send = Callable[[Sequence[Outgoing]], Awaitable[list[Answer]]]


def batches(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Part messages, in their order, into what one script call takes."""
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MAX_MESSAGES or size >= MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch


@dataclass(eq=False)
class _Slot:
    message: Outgoing
    answer: Answer | None = None
    turn: anyio.Event = field(default_factory=anyio.Event)
    """Set when it was answered, or when it is its turn to send."""
    gone: bool = False
    """Whoever posted it waits no more."""


class Outbox:
    """Sends messages through `send`, one call at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[_Slot] = deque()
        self._sending = False

    async def post(self, message: Outgoing) -> Receipt:
        """Send a message, and return its receipt.

        :raises DelayqError: what `send` answered for it, or raised
        """
        slot = _Slot(message)
        self._waiting.append(slot)
        try:
            if self._sending:
                await slot.turn.wait()
            if slot.answer is None:
                await self._flush(slot)
        except BaseException:
            self._withdraw(slot)
            raise
        if isinstance(slot.answer, Receipt):
            return slot.answer
        assert slot.answer is not None  # noqa: S101 - a flush answers its own slot
        raise slot.answer

    async def _flush(self, own: _Slot) -> None:
        """Send `own` and those that wait, as far as one call takes them."""
        self._sending = True
        batch = [own, *self._take(own)]
        try:
            answers: Sequence[Answer] = await self._send([slot.message for slot in batch])
        except DelayqError as error:
            answers = [type(error)(*error.args) for _ in batch]
        except BaseException:
            # Cut off: whether it was carried out is not known. Ids make a second try safe.
            self._waiting.extendleft(slot for slot in reversed(batch[1:]) if not slot.gone)
            raise
        finally:
            self._pass_on()
        for slot, answer in zip(batch, answers, strict=True):
            slot.answer = answer
            slot.turn.set()

    def _take(self, own: _Slot) -> list[_Slot]:
        self._waiting.remove(own)
        taken: list[_Slot] = []
        size = own.message.size
        while self._waiting and len(taken) < MAX_MESSAGES - 1 and size < MAX_BYTES:
            taken.append(self._waiting.popleft())
            size += taken[-1].message.size
        return taken

    def _pass_on(self) -> None:
        """Have the first of those that wait send next."""
        self._sending = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set()

    def _withdraw(self, slot: _Slot) -> None:
        slot.gone = True
        if slot in self._waiting:
            self._waiting.remove(slot)
            if slot.turn.is_set():
                self._pass_on()
