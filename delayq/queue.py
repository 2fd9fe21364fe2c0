"""A queue: declared alike in every process, published to, looked at."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from redis.asyncio import Redis

from delayq import scripts
from delayq.keys import LaneKeys
from delayq.message import Message, Receipt, checked_id, encode_fields, new_id, when
from delayq.retry import RetryPolicy

Ordering = Literal["none", "strict"]
"""Whether consumers compete, or one is active and the others stand by."""
OnDue = Callable[[Message], Awaitable[Any]]
"""A hook of the poller: given a message that is due, it returns the body to go on with."""

PROMOTE_LIMIT = 128
"""Messages moved by one script at most: a few ms of the server's time."""
DEDUP_WINDOW_MS = 60_000
"""How long a publish repeated with the same id is known to be one message."""


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

    :raises ValueError: if `ordering` is none that there is
    """

    client: Redis
    keys: LaneKeys
    ordering: Ordering = "none"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    on_due: OnDue | None = None

    def __post_init__(self) -> None:
        if self.ordering not in get_args(Ordering):
            raise ValueError(f"ordering: one of {get_args(Ordering)} (got {self.ordering!r})")

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
        promote = 0 if self.on_due else PROMOTE_LIMIT
        message = [message_id, when(delay, deliver_at), len(fields), *fields]
        k = self.keys
        keys = [k.stream, k.schedule, k.bodies, k.arrival, k.dead, k.bell, k.recent]
        args = ["", promote, DEDUP_WINDOW_MS, *message]
        due_ms, known = await scripts.run(self.client, "publish", keys, args)
        return Receipt(message_id, int(due_ms), bool(known))

    async def destroy(self) -> None:
        """Delete every key of the queue, with all its messages. Its consumers must have ended.

        :raises ServerError: if the server did not answer, or refused
        """
        await scripts.command(self.client, "UNLINK", *self.keys.all)

    async def stats(self) -> Stats:
        """Count what is where. A few reads, not one snapshot.

        :raises ServerError: if the server did not answer, or refused
        """

        async def ask(*words: object) -> Any:
            return await scripts.command(self.client, *words)

        k = self.keys
        groups = await ask("XINFO GROUPS", k.stream) if await ask("EXISTS", k.stream) else []
        pending = sum(group["pending"] for group in groups)
        first = await ask("ZRANGE", k.schedule, 0, 7, "WITHSCORES")
        return Stats(
            scheduled=await ask("ZCARD", k.schedule),
            ready=max(0, await ask("XLEN", k.stream) - pending),
            pending=pending,
            dead=await ask("XLEN", k.dead),
            next_due_ms=tuple(int(due_ms) for due_ms in first[1::2]),
            holder=await ask("HGET", k.lease(), "holder"),
        )
