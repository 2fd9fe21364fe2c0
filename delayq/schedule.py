"""The schedule, as a poller sees it: what is due moves to the stream.

Every call may be repeated after a lost reply.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from delayq import scripts
from delayq.body import Codec
from delayq.clock import as_argument, mono_s
from delayq.errors import MalformedEntry, NewerFormat
from delayq.message import Message, decode_entry, unpack, with_body
from delayq.publishing import PROMOTE_LIMIT
from delayq.queue import Queue
from delayq.record import ARRIVAL_CHARS, is_held

EARLY_S = 0.0005
"""How much before the next is due a poller looks again. A look that is early moves nothing and is
repeated at once; one that is late makes the message late."""
DENSE_S = 0.002
"""Where messages are due one after the other in less, none is looked for early."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A due message as the poller saw it: it moves only if this is still so."""

    member: str
    score: str
    """Its due time as the server wrote it."""
    fields: list[str]
    message: Message

    def corrected(self, body: str) -> "Scheduled":
        """Return this message, to be promoted with another body.

        :param body: as JSON
        :raises InvalidMessage: if it is too large
        """
        return replace(self, fields=with_body(self.fields, body))


class Schedule:
    """The schedule of one queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def promote(self, now_ms: int | None = None) -> tuple[int, float | None]:
        """Move what is due to the stream.

        :param now_ms: instead of the clock's time
        :return: how many were moved, and seconds until it is time to look again: 0 if more are due,
            or the next is at once, None if the schedule is empty
        :raises ServerError: if the server did not answer, or refused
        """
        k = self._queue.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead]
        now, sent_s = self._now(now_ms), mono_s()
        moved, wait_us = await self._run("promote", keys, [now, PROMOTE_LIMIT])
        wait_s = _seconds(wait_us)
        if wait_s is None or now != "":
            return moved, wait_s
        # The server told it half-way between; and a timer of a loop goes by whole ms, up or down.
        wait_s -= (mono_s() - sent_s) / 2
        early_s = 0 if moved and wait_s < DENSE_S else EARLY_S
        return moved, max(0.0, wait_s - early_s)

    async def due(self, now_ms: int | None = None) -> tuple[list[Scheduled], float | None]:
        """Read what is due, to be corrected, and change nothing.

        But what is no message becomes a dead letter; and what a newer delayq wrote moves to the
        stream as it is.

        :param now_ms: instead of the clock's time
        :return: the due messages, and seconds until the next after them, as for `promote`
        :raises ServerError: if the server did not answer, or refused
        """
        keys = [self._queue.keys.schedule, self._queue.keys.bodies]
        wait_us, *rows = await self._run("due", keys, [self._now(now_ms), PROMOTE_LIMIT])
        due: list[Scheduled] = []
        unread: list[object] = []
        for at in range(0, len(rows), 3):
            member, score, packed = rows[at : at + 3]
            try:
                due.append(_scheduled(member, score, packed, self._queue.codec))
            except NewerFormat:
                fields = unpack(packed)
                unread += [member, score, len(fields), *fields]
            except MalformedEntry:
                unread += [member, score, 0]
        if unread:
            await self._promote_as(unread)
        return due, _seconds(wait_us)

    async def promote_as(self, corrected: Sequence[Scheduled]) -> list[bool]:
        """Move messages to the stream with the fields given, each if it is still scheduled as seen.

        :return: for each, whether it was moved
        :raises ServerError: if the server did not answer, or refused
        """
        args: list[object] = []
        for message in corrected:
            args += [message.member, message.score, len(message.fields), *message.fields]
        return [bool(moved) for moved in await self._promote_as(args)]

    async def _promote_as(self, args: list[object]) -> list[int]:
        k = self._queue.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead]
        moved: list[int] = await self._run("promote_as", keys, args)
        return moved

    def _now(self, given_ms: int | None) -> str | int:
        now_ms = self._queue.clock.now_ms() if given_ms is None else given_ms
        return as_argument(now_ms)

    async def _run(self, name: str, keys: list[str], args: list[object]) -> Any:
        return await scripts.run(self._queue.client, name, keys, args)


def _seconds(wait_us: int) -> float | None:
    return None if wait_us < 0 else wait_us / 1_000_000


def _scheduled(member: str, score: str, packed: str, codec: Codec[Any]) -> Scheduled:
    fields = unpack(packed)
    message_id, due_ms = member[ARRIVAL_CHARS:], score
    if is_held(score):
        due_ms = str(math.ceil(float(score)))
    entry = ["id", message_id, "due", due_ms, *fields]
    return Scheduled(member, score, fields, decode_entry(message_id, entry, 0, codec))
