"""The pending list, as a consumer sees it: delivered, settled, reclaimed.

Every call that changes something is one script. It takes the consumer's lease, changes nothing once
that is lost, and is safe to repeat after a lost reply.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from delayq import scripts
from delayq.clock import as_argument
from delayq.connection import outlast
from delayq.delivered import Batch, Delivered, ParkAnswer, Reclaimed, delivered_as
from delayq.errors import GroupMissing, ServerOutOfMemory
from delayq.groups import Start, ensure
from delayq.lease import Lease
from delayq.message import Delivery, new_id
from delayq.queue import Queue

MAX_BYTES = 1_000_000
"""Bytes of values delivered by one script, beyond which it adds no more: what is read at once may
be twice as many messages as came before."""
RECLAIM_LIMIT = 256
"""Messages claimed by one script at most."""
MAX_ERROR_CHARS = 1_000
"""How much of an error a dead letter keeps."""


class Pending:
    """The pending list of one lane."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._group = queue.keys.group
        self._codec = queue.codec

    @property
    def lane(self) -> int:
        """The number of the lane."""
        return self._queue.keys.lane

    async def ensure_group(self) -> None:
        """Create the consumer group if it is not there, and those that are served beside it.

        :raises ServerError: if the server did not answer, or refused
        """
        await self._ensure(self._queue.starts)

    async def make_group_anew(self) -> None:
        """Create the consumer group that another program took away: it begins with what is kept.

        :raises ServerError: if the server did not answer, or refused
        """
        await self._ensure({self._group: "beginning"})

    async def _ensure(self, starts: Mapping[str, Start]) -> None:
        # Only what is there can be handled at maxmemory: a group that is not has to wait.
        client, keys = self._queue.client, self._queue.keys
        await outlast(lambda: ensure(client, keys, starts), errors=(ServerOutOfMemory,))

    async def fetch(
        self,
        lease: Lease,
        start: str,
        count: int,
        acks: Collection[str] = (),
        call: str = "",
        *,
        busy: bool = False,
    ) -> Batch:
        """Acknowledge `acks`, and deliver `count` messages at most: pending from `start`, then new.

        In an ordered queue pending means pending for anyone, else for the holder of `lease`. What
        is for another group is done with unseen.

        :param call: an id of this call; made again with the same one, it counts no delivery twice
        :param busy: whether others are in hand; then a message's last delivery is held back

        :raises LeaseLost: if the lease is over; nothing changed
        :raises GroupMissing: if another program took the stream or its group away
        """
        scope = "" if self._queue.ordered else lease.holder
        most = self._queue.retry.max_deliveries or 1
        last = most if most > 1 else 0
        args = [lease.holder, scope, start, count, MAX_BYTES, last, int(busy), call or new_id()]
        last_id, held_back, old, new = await self._run("fetch", lease, [*args, *acks])
        entries = [each[0] for each in chain(old, new)]
        return Batch(entries, partial(self._read, old, new), last_id, bool(held_back))

    async def redeliver(self, lease: Lease, messages: Sequence[tuple[str, int]]) -> list[Delivered]:
        """Deliver again messages that are pending for the holder of `lease`, and count it.

        :param messages: for each its entry, and how often it was delivered up to now
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [part for entry, delivered in messages for part in (entry, delivered + 1)]
        delivered = await self._run("redeliver", lease, [lease.holder, *args])
        return self._read(delivered)

    async def give_back(self, lease: Lease, deliveries: Sequence[Delivered]) -> int:
        """Take back the last delivery of messages that were fetched and not begun.

        :return: how many were pending for the holder of `lease`
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [part for d in deliveries for part in (d.entry, max(0, d.delivered - 1))]
        return int(await self._run("give_back", lease, [lease.holder, *args]))

    async def ack(
        self, lease: Lease, entries: Collection[str], freed: tuple[str, str] = ("", "")
    ) -> int:
        """Acknowledge messages: they leave Redis.

        :param freed: of the first message its key and its id, if its key is parked
        :return: how many were pending
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [self._now, *freed, *entries]
        return int(await self._run("ack", lease, args, *self._parking))

    async def retry_later(
        self, lease: Lease, delivery: Delivery, delay_ms: int, *, park: bool = False
    ) -> int:
        """Put a pending message back on the schedule, under its id.

        :param park: have the other messages of its key wait for it
        :return: its due time in ms; 0 if it is gone, as after a first try
        :raises LeaseLost: if the lease is over; nothing changed
        """
        deliveries = delivery.message.deliveries
        args = [self._now, delivery.entry, delay_ms, deliveries, int(park)]
        return int(await self._run("retry", lease, args, *self._scheduling))

    async def put_off(self, lease: Lease, entry: str, delay_ms: int) -> int:
        """Put a pending entry back on the schedule, whatever it is, as if it had not been fetched.

        :return: its due time in ms; 0 if it is gone, as after a first try
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [self._now, entry, delay_ms, "", 0]
        return int(await self._run("retry", lease, args, *self._scheduling))

    async def park(
        self, lease: Lease, delivery: Delivery, *, lost: bool = False, looks: bool = False
    ) -> ParkAnswer:
        """Put a pending message back on the schedule, until those of its key before it are settled.

        :param lost: wait for no message that is not scheduled
        :param looks: if what it waits for is not scheduled, come back behind all that is in the
            stream now
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [self._now, delivery.entry, delivery.message.key, int(lost), int(looks)]
        return ParkAnswer(await self._run("park", lease, args, *self._scheduling))

    async def parked(self) -> dict[str, str]:
        """Return the keys that wait, each with the id of the message that it waits for.

        :raises ServerError: if the server did not answer, or refused
        """
        found: dict[str, str] = {}
        cursor: object = 0
        while cursor != "0":
            ask = ("HSCAN", self._queue.keys.parked, cursor, "COUNT", RECLAIM_LIMIT)
            cursor, rows = await scripts.command(self._queue.client, *ask)
            cursor = str(cursor)
            found |= rows
        return found

    async def is_parked(self, key: str) -> bool:
        """Tell whether a key waits.

        :raises ServerError: if the server did not answer, or refused
        """
        ask = ("HEXISTS", self._queue.keys.parked, key)
        return bool(await scripts.command(self._queue.client, *ask))

    async def halt(self, lease: Lease, delivery: Delivery, reason: str, error: str) -> bool:
        """Stop the lane at a pending message, until it is resumed.

        :return: False if it is gone
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [self._now, delivery.entry, delivery.message.id, reason, _bounded(error)]
        return bool(await self._run("halt", lease, args, self._queue.keys.halted))

    async def halted(self) -> tuple[str, str, str] | None:
        """Tell at which message the lane is halted: its id, reason and error; None if it is not.

        :raises ServerError: if the server did not answer, or refused
        """
        ask = ("HMGET", self._queue.keys.halted, "entry", "id", "reason", "error")
        entry, *told = await scripts.command(self._queue.client, *ask)
        message_id, reason, error = (text or "" for text in told)
        return (message_id, reason, error) if entry else None

    async def dead_letter(
        self, lease: Lease, entry: str, deliveries: int, reason: str, error: str = ""
    ) -> bool:
        """Move a pending message to the dead stream.

        :return: False if it is gone, as after a first try
        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = [self._now, entry, deliveries, reason, _bounded(error)]
        keys = (self._queue.keys.dead, *self._parking)
        return bool(await self._run("dead_letter", lease, args, *keys))

    async def reclaim(self, lease: Lease, start: str, limit: int = RECLAIM_LIMIT) -> Reclaimed:
        """Claim a part of the lane's pending list, in the order of the stream.

        :raises LeaseLost: if the lease is over; nothing changed
        """
        answer = await self._run("reclaim", lease, [lease.holder, start, limit])
        next_start, deleted, *owners = answer
        return Reclaimed(next_start or None, owners, tuple(deleted))

    async def inherit(self, lease: Lease, source: str, gone: str) -> int:
        """Claim messages that are pending for `source`, a competing consumer that is dead.

        :param gone: its connection, seen to be closed, so its lease need not be over; or ''
        :return: how many were claimed: fewer than 256, and there are no more; -1 if it lives
        :raises LeaseLost: if the lease is over; nothing changed
        """
        name, _, epoch = source.rpartition("@")
        args = [lease.holder, source, epoch, gone, RECLAIM_LIMIT]
        return int(await self._run("inherit", lease, args, self._queue.keys.lease(name)))

    async def owned(self, lease: Lease, start: str, count: int) -> list[tuple[str, int]]:
        """Tell what is pending for the holder of `lease` before `start`, and how often delivered.

        :raises ServerError: if the server did not answer, or refused
        """
        if start == "-":
            return []
        stream, before = self._queue.keys.stream, start.removeprefix("(")
        words = ("XPENDING", stream, self._group, "-", before, count)
        try:
            rows = await scripts.command(
                self._queue.client, *words, lease.holder, parse_detail=True
            )
        except GroupMissing:
            return []  # the next fetch mends that
        return [(row["message_id"], row["times_delivered"]) for row in rows]

    @property
    def _now(self) -> str | int:
        return as_argument(self._queue.clock.now_ms())

    @property
    def _scheduling(self) -> tuple[str, ...]:
        k = self._queue.keys
        return (k.schedule, k.bodies, k.arrival, k.bell, k.parked, k.waiting)

    @property
    def _parking(self) -> tuple[str, ...]:
        k = self._queue.keys
        return (k.schedule, k.bodies, k.bell, k.parked, k.waiting)

    async def _run(self, name: str, lease: Lease, args: Sequence[object], *more_keys: str) -> Any:
        keys = [lease.key, self._queue.keys.stream, *more_keys]
        return await scripts.run(self._queue.client, name, keys, [lease.epoch, self._group, *args])

    def _read(
        self, old: Sequence[tuple[str, int, list[str]]], new: Sequence[tuple[str, list[str]]] = ()
    ) -> list[Delivered]:
        codec = self._codec
        deliveries = [delivered_as(entry, count, fields, codec) for entry, count, fields in old]
        deliveries += [delivered_as(entry, 1, fields, codec) for entry, fields in new]
        return deliveries


def _bounded(error: str) -> str:
    return error[:MAX_ERROR_CHARS].encode(errors="backslashreplace").decode()
