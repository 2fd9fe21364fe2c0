"""A queue: one method per transition of a message, each one script call.

Every call is safe to repeat after a lost reply. Those that a consumer makes take its lease, and
change nothing once that is lost.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from delayq import scripts
from delayq.errors import MalformedEntry
from delayq.keys import GROUP, LaneKeys
from delayq.lease import Lease
from delayq.message import (
    Delivery,
    Message,
    Receipt,
    checked_id,
    decode_entry,
    encode_fields,
    new_id,
    unpack,
    when,
    with_body,
)
from delayq.retry import RetryPolicy

Ordering = Literal["none", "strict"]
OnDue = Callable[[Message], Awaitable[Any]]
"""A hook of the poller: given a message that is due, it returns the body to go on with."""

PROMOTE_LIMIT = 128
"""Messages moved by one script at most: a few ms of the server's time."""
RECLAIM_LIMIT = 256
DEDUP_WINDOW_MS = 60_000
"""How long a publish repeated with the same id is known to be one message."""
MAX_ERROR_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry that was delivered and is no message."""

    entry: str
    deliveries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch delivered, in the order of the stream."""

    deliveries: list[Delivery | Malformed]
    last_id: str = ""
    """Where nothing was delivered: the id after which the next entry comes; '' to fetch again."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A due message as the poller saw it: it moves only if this is still so."""

    member: str
    due_ms: int
    fields: list[str]
    message: Message

    def corrected(self, body: object) -> "Scheduled":
        """Return this message, to be promoted with another body.

        :raises InvalidMessage: if the body is no JSON, or too large
        """
        return replace(self, fields=with_body(self.fields, body))


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What one part of reclaiming did."""

    next_start: str | None
    """Where to go on; None when the pending list is at its end."""
    owners: list[str]
    """For each message claimed: whom it was pending for."""
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """How many messages are where, and who is active."""

    scheduled: int = 0
    ready: int = 0
    pending: int = 0
    dead: int = 0
    next_due_ms: tuple[int, ...] = ()
    """Of the first few that are scheduled."""
    holder: str | None = None


@dataclass(frozen=True)
class Queue:
    """A queue on one server; `bound_to` gives the same queue over another client.

    Declare it alike in every process: with `on_due`, a publish leaves promoting to the pollers.
    """

    client: Redis
    keys: LaneKeys
    ordering: Ordering = "none"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_due: OnDue | None = None

    def bound_to(self, client: Redis) -> "Queue":
        """Return this queue, over `client`."""
        return replace(self, client=client)

    async def publish(
        self,
        body: object,
        *,
        delay: timedelta | float | None = None,
        deliver_at: datetime | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the field's own word
    ) -> Receipt:
        """Publish a message: when this returns, it is in the primary's dataset.

        :param body: any JSON value
        :param delay: a timedelta, or seconds, from the server's now
        :param id: give one to make repeating safe beyond this call; known for 60 s, or while
            the message is scheduled
        :raises InvalidMessage: if a part breaks a limit; nothing was written
        :raises ServerOutOfMemory: if the server is at maxmemory; nothing was written
        :raises ServerUnreachable: if no answer came; a repeat with the same id is safe
        """
        message_id = checked_id(new_id() if id is None else id)
        fields = encode_fields(body, key, headers)
        args = (message_id, when(delay, deliver_at), len(fields), *fields)
        k = self.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead, k.bell, k.recent]
        promote = 0 if self.on_due else PROMOTE_LIMIT
        due_ms, known = await self._run("publish", keys, "", promote, DEDUP_WINDOW_MS, *args)
        return Receipt(message_id, int(due_ms), bool(known))

    async def promote(self, now_ms: int | None = None) -> tuple[int, float | None]:
        """Move what is due to the stream.

        :return: how many were moved, and seconds until the next is due: 0 if more are, None if
            the schedule is empty
        """
        k = self.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead]
        moved, wait_ms = await self._run("promote", keys, _or_server(now_ms), PROMOTE_LIMIT)
        return moved, _seconds(wait_ms)

    async def due(self, now_ms: int | None = None) -> tuple[list[Scheduled], float | None]:
        """Read what is due, and change nothing, but that what is no message becomes a dead letter.

        :return: the due messages, and seconds until the next after them, as `promote`
        """
        keys = [self.keys.schedule, self.keys.bodies]
        wait_ms, *rows = await self._run("due", keys, _or_server(now_ms), PROMOTE_LIMIT)
        try:
            return [_scheduled(*rows[i : i + 3]) for i in range(0, len(rows), 3)], _seconds(wait_ms)
        except MalformedEntry:
            # promote.lua knows where to put it; the others come out with it, as they are.
            await self.promote(now_ms)
            return [], 0.0

    async def promote_as(self, corrected: Sequence[Scheduled]) -> list[bool]:
        """Move messages to the stream with the fields given, each if it is still scheduled as seen.

        :return: for each, whether it was moved
        """
        k = self.keys
        args: list[str | int] = []
        for message in corrected:
            args += [message.member, message.due_ms, len(message.fields), *message.fields]
        keys = [k.stream, k.schedule, k.bodies, k.arrival]
        return [bool(moved) for moved in await self._run("promote_as", keys, *args)]

    async def ensure_group(self) -> None:
        """Create the consumer group, at the beginning of the stream, if it is not there."""
        try:
            await self.client.xgroup_create(self.keys.stream, GROUP, id="0", mkstream=True)
        except redis_errors.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise scripts.translated(error) from error
        except (redis_errors.RedisError, OSError) as error:
            raise scripts.translated(error) from error

    async def fetch(
        self, lease: Lease, start: str, count: int, acks: Collection[str] = ()
    ) -> Batch:
        """Acknowledge `acks`, and deliver up to `count` messages: pending from `start` on, then new.

        In an ordered queue pending means pending for anyone, else for the holder of `lease`.

        :raises LeaseLost: if the lease is over; nothing changed
        """
        args = (
            lease.epoch,
            GROUP,
            lease.holder,
            "" if self.ordering == "strict" else lease.holder,
            start,
            count,
            self.retry.max_deliveries or 0,
            *acks,
        )
        keys = [lease.key, self.keys.stream]
        last_id, _gone, *entries = await self._run("fetch", keys, *args)
        return Batch([_delivered(entry) for entry in entries], last_id)

    async def redeliver(self, lease: Lease, entries: Sequence[str]) -> list[Delivery | Malformed]:
        """Deliver again messages that are pending for the holder of `lease`, and count it.

        :raises LeaseLost: if the lease is over; nothing changed
        """
        keys = [lease.key, self.keys.stream]
        args = (lease.epoch, GROUP, lease.holder, *entries)
        return [_delivered(entry) for entry in await self._run("redeliver", keys, *args)]

    async def ack(self, lease: Lease, entries: Collection[str]) -> int:
        """Acknowledge messages: they leave Redis.

        :return: how many were pending
        :raises LeaseLost: if the lease is over; nothing changed
        """
        keys = [lease.key, self.keys.stream]
        return int(await self._run("ack", keys, lease.epoch, GROUP, *entries))

    async def retry_later(self, lease: Lease, delivery: Delivery, delay_ms: int) -> int:
        """Put a pending message back on the schedule, under its id.

        :return: its due time by the server's clock, in ms; 0 if it was not pending any more
        :raises LeaseLost: if the lease is over; nothing changed
        """
        k = self.keys
        keys = [lease.key, k.stream, k.schedule, k.bodies, k.arrival, k.bell]
        args = (lease.epoch, GROUP, "", delivery.entry, delay_ms, delivery.message.deliveries)
        return int(await self._run("retry", keys, *args))

    async def dead_letter(
        self, lease: Lease, entry: str, deliveries: int, reason: str, error: str = ""
    ) -> bool:
        """Move a pending message to the dead stream.

        :return: False if it was not pending any more
        :raises LeaseLost: if the lease is over; nothing changed
        """
        keys = [lease.key, self.keys.stream, self.keys.dead]
        args = (lease.epoch, GROUP, entry, deliveries, reason, error[:MAX_ERROR_CHARS])
        return bool(await self._run("dead_letter", keys, *args))

    async def reclaim(self, lease: Lease, start: str, limit: int = RECLAIM_LIMIT) -> Reclaimed:
        """Claim a part of the lane's pending list, in the order of the stream.

        :raises LeaseLost: if the lease is over; nothing changed
        """
        keys = [lease.key, self.keys.stream]
        args = (lease.epoch, GROUP, lease.holder, start, limit)
        next_start, deleted, *owners = await self._run("reclaim", keys, *args)
        return Reclaimed(next_start or None, owners, tuple(deleted))

    async def inherit(self, lease: Lease, source: str, *, gone: bool) -> list[str]:
        """Claim messages that are pending for `source`, a competing consumer that is dead.

        :param gone: its connection was seen to be closed, so its lease need not be over
        :return: the stream ids claimed, 256 at most; none if it lives
        :raises LeaseLost: if the lease is over; nothing changed
        """
        name, _, epoch = source.rpartition("@")
        keys = [lease.key, self.keys.stream, self.keys.lease(name)]
        args = (lease.epoch, GROUP, lease.holder, source, epoch, int(gone), RECLAIM_LIMIT)
        return list(await self._run("inherit", keys, *args))

    async def others(self, lease: Lease) -> dict[str, int]:
        """Tell for the other consumers of the group the connection they die with, 0 if none."""
        try:
            names = [c["name"] for c in await self.client.xinfo_consumers(self.keys.stream, GROUP)]
            others = [name for name in names if name != lease.holder]
            async with self.client.pipeline(transaction=False) as leases:
                for name in others:
                    leases.hmget(self.keys.lease(name.rpartition("@")[0]), ["holder", "connection"])
                found = await leases.execute()
        except (redis_errors.RedisError, OSError) as error:
            raise scripts.translated(error) from error
        return {
            name: int(connection or 0) if holder == name else 0
            for name, (holder, connection) in zip(others, found, strict=True)
        }

    async def destroy(self) -> None:
        """Delete every key of the queue, with all its messages. Its consumers must have ended.

        :raises ServerError: if the server did not answer, or refused
        """
        try:
            await self.client.unlink(*self.keys.all)
        except (redis_errors.RedisError, OSError) as error:
            raise scripts.translated(error) from error

    async def stats(self) -> Stats:
        """Count what is where. A few reads, not one snapshot."""
        k = self.keys
        try:
            groups = await self.client.xinfo_groups(k.stream) if await self.client.exists(k.stream) else []
            pending = sum(group["pending"] for group in groups)
            first = await self.client.zrange(k.schedule, 0, 7, withscores=True)
            return Stats(
                scheduled=await self.client.zcard(k.schedule),
                ready=max(0, await self.client.xlen(k.stream) - pending),
                pending=pending,
                dead=await self.client.xlen(k.dead),
                next_due_ms=tuple(int(score) for _, score in first),
                holder=await self.client.hget(k.lease(), "holder"),  # type: ignore[misc]
            )
        except (redis_errors.RedisError, OSError) as error:
            raise scripts.translated(error) from error

    async def _run(self, name: str, keys: list[str], *args: str | int) -> Any:
        return await scripts.run(self.client, name, keys, args)


def _or_server(now_ms: int | None) -> str | int:
    return "" if now_ms is None else now_ms


def _seconds(wait_ms: int) -> float | None:
    return None if wait_ms < 0 else wait_ms / 1000


def _scheduled(member: str, due_ms: str, packed: str) -> Scheduled:
    fields = unpack(packed)
    message_id = member[12:]
    entry = ["id", message_id, "due", due_ms, *fields]
    return Scheduled(member, int(due_ms), fields, decode_entry(message_id, entry, 0))


def _delivered(entry: tuple[str, int, list[str]]) -> Delivery | Malformed:
    entry_id, delivered, fields = entry
    try:
        return Delivery(entry_id, decode_entry(entry_id, fields, delivered))
    except MalformedEntry as error:
        return Malformed(entry_id, delivered, str(error))
