"""A queue: declared alike in every process; published to, looked at, changed."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, Literal, Unpack, cast, get_args

from redis.asyncio import Redis

from delayq import changes, scripts
from delayq.active import Active, handover, resume, who
from delayq.body import B, Codec
from delayq.browse import Browser, Stats, stats
from delayq.bulk import Bulk
from delayq.clock import SERVER_CLOCK, Clock
from delayq.dead import DeadLetters
from delayq.keys import MAX_LANES, LaneKeys, lane_of
from delayq.message import (
    Message,
    Options,
    Outgoing,
    Receipt,
    new_id,
    new_ids,
    outgoing,
    when,
)
from delayq.outbox import Answer, Outbox
from delayq.publishing import PROMOTE_LIMIT, Terms, patiently, publish
from delayq.record import Page, Record, State
from delayq.registry import Registration, forget
from delayq.retry import OnFailure, Retry

Ordering = Literal["none", "strict", "key"]
"""Whether consumers compete; or one is active and the others stand by, and then whether it handles
one message at a time, or those of one key in order and different keys at once."""
Receipts = list[Receipt]
Answers = list[Answer]
"""Named here, as inside the class `list` is a method."""
OnDue = Callable[[Message], Awaitable[Any]]
"""A hook of the poller: given a message that is due, it returns the body to go on with."""

MAX_DEDUP_WINDOW_S = 30 * 86_400.0


@dataclass(frozen=True)
class Queue(Generic[B]):
    """A queue on one server; `bound_to` gives the same queue over another client.

    Declare it alike in every process: with `on_due`, a publish leaves promoting to the pollers.

    :raises ValueError: if `ordering` or `on_failure` is none that there is, or a number is out of
        range
    """

    connect: Callable[[], Redis]
    """Gives the client."""
    keys: LaneKeys
    """Those of its first lane."""
    ordering: Ordering = "none"
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = "block"
    """What a failure means, where the order is kept."""
    on_due: OnDue | None = None
    codec: Codec[B] = field(default_factory=Codec)
    max_backlog: int | None = None
    """Messages scheduled, ready and pending, beyond which a publish is refused."""
    dedup_window_s: float = 3600.0
    """How long a `dedup_id` is known."""
    patience_s: float = 3.0
    """How long a publish is tried again while the server is away."""
    past_due: bool = True
    """False for those who do not know the queue's `on_due`: they leave promoting to the pollers,
    and publish behind what is due."""
    clock: Clock = SERVER_CLOCK
    lanes: int = 1
    """How many: each has a stream, a schedule and a lease, and the messages of some of the keys."""
    registration: Registration | None = field(default=None, repr=False, compare=False)
    """Shared by the lanes of a queue."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("ordering", self.ordering, get_args(Ordering)),
            ("on_failure", self.on_failure, get_args(OnFailure)),
        ):
            if value not in known:
                raise ValueError(f"{name}: one of {known} (got {value!r})")
        if self.max_backlog is not None and self.max_backlog < 1:
            raise ValueError(f"max_backlog: at least 1, or None (got {self.max_backlog})")
        if not 1 <= self.dedup_window_s <= MAX_DEDUP_WINDOW_S:
            raise ValueError(
                f"dedup_window_s: 1 to {MAX_DEDUP_WINDOW_S:.0f} (got {self.dedup_window_s})"
            )
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"lanes: 1 to {MAX_LANES} (got {self.lanes})")
        registration = Registration(self.keys.namespace, self.name, self.lanes)
        object.__setattr__(self, "registration", self.registration or registration)
        object.__setattr__(self, "_outbox", Outbox(self._send))

    @property
    def client(self) -> Redis:
        """The client that calls go through."""
        return self.connect()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.keys.queue

    @property
    def ordered(self) -> bool:
        """Whether one consumer is active, and the others stand by."""
        return self.ordering != "none"

    def bound_to(self, client: Redis, patience_s: float | None = None) -> "Queue[B]":
        """Return this queue, over `client`."""
        patience_s = self.patience_s if patience_s is None else patience_s
        return replace(self, connect=lambda: client, patience_s=patience_s)

    @cached_property
    def every_lane(self) -> "tuple[Queue[B], ...]":
        """Its lanes, each as a queue of one lane; of such a queue it is the queue itself."""
        if self.lanes == 1:
            return (self,)
        every = [replace(self.keys, lane=lane) for lane in range(self.lanes)]
        return tuple(replace(self, keys=keys, lanes=1) for keys in every)

    def lane_of(self, message: Outgoing) -> "Queue[B]":
        """Return the lane that a message belongs to."""
        return self.every_lane[0 if self.lanes == 1 else lane_of(message.route, self.lanes)]

    # -- publishing --

    async def publish(self, body: B, **options: Unpack[Options]) -> Receipt:
        """Publish a message: when this returns, it is in the primary's dataset.

        Publishes at the same time share a script call. While the server is away this is tried
        again for `patience_s`: never twice, as the id is known.

        :param body: of the queue's type
        :param options: `delay`, `deliver_at`, `key`, `id`, `dedup_id`, `headers`: see `Options`
        :raises InvalidMessage: if a part breaks a limit; nothing was written
        :raises BacklogFull: if the queue is at `max_backlog`; nothing was written
        :raises ServerOutOfMemory: if the server is at maxmemory; nothing was written
        :raises ServerUnreachable: if no answer came; a repeat with the same id is safe
        """
        message = self.message(body, **options)
        outbox: Outbox = self.lane_of(message)._outbox  # type: ignore[attr-defined]  # noqa: SLF001
        return await outbox.post(message)

    def message(self, body: B, **options: Unpack[Options]) -> Outgoing:
        """Make a message for `publish_many`. Parameters are those of `publish`.

        :raises InvalidMessage: if a part breaks a limit
        """
        return outgoing(self.codec.encode(body), options)

    async def publish_many(self, messages: Iterable[B | Outgoing]) -> Receipts:
        """Publish many messages in their order, up to 256, or 4 MB, by one script call.

        :param messages: bodies, or what `message` made of them
        :return: a receipt for each
        :raises InvalidMessage: if one breaks a limit; nothing was written
        :raises BacklogFull: if not all of a call's messages have room; the error tells how many
            were accepted
        :raises ServerError: as for `publish`
        """
        given, encode = list(messages), self.codec.encode
        every = [
            m if isinstance(m, Outgoing) else outgoing(encode(m), {}, own_id)
            for m, own_id in zip(given, new_ids(len(given)), strict=True)
        ]
        bulk = Bulk(every)
        await bulk.send(
            {at: lane._send_whole for at, lane in enumerate(self.every_lane)},  # noqa: SLF001 - of our own
            lambda message: lane_of(message.route, self.lanes),
        )
        return bulk.receipts()

    async def _send_whole(self, messages: Sequence[Outgoing]) -> Answers:
        return await self._send(messages, new_id(), whole=True)

    async def _send(
        self, messages: Sequence[Outgoing], call_id: str, *, whole: bool = False
    ) -> Answers:
        terms = Terms(
            self.clock.now_ms(),
            -1 if not self.past_due else 0 if self.on_due else PROMOTE_LIMIT,
            round(self.dedup_window_s * 1000),
            self.max_backlog,
            whole,
        )
        registration = cast("Registration", self.registration)

        client = self.client

        async def call() -> Answers:
            if not registration.done:
                await registration.claim(client)
            return await publish(client, self.keys, terms, messages, call_id)

        answers: Answers = await patiently(client, call, self.patience_s, self.name)
        return answers

    async def who(self) -> Active | None:
        """Tell who is active, and who stands by; None if nobody is. See `active.who`."""
        return await who(self.client, self.keys)

    async def handover(self, timeout_s: float = 30.0) -> Active | None:
        """Ask the active consumer to pass on; tell who took over. See `active.handover`."""
        return await handover(self.client, self.keys, timeout_s)

    async def resume(self, *, skip: bool = False) -> str | None:
        """Have a lane go on that a failure halted. See `active.resume`."""
        return await resume(self.client, self.keys, skip=skip)

    # -- looking and changing --

    async def stats(self) -> Stats:
        """Count what is where: one snapshot.

        :raises ServerError: if the server did not answer, or refused
        """
        return await stats(self.client, self.keys, self.clock.now_ms())

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's own word
        """Find a message, as `Browser.get` does: it may read the whole stream."""
        return await Browser(self.client, self.keys).get(id)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the field's own word
        """Take a message off the schedule. Its id may be published anew; a `dedup_id` stays known.

        :return: False if it is not scheduled, or not any more
        :raises ServerError: if the server did not answer, or refused
        """
        return await changes.cancel(self.client, self.keys, id)

    async def reschedule(
        self,
        id: str,  # noqa: A002 - the field's own word
        *,
        delay: timedelta | float | None = None,
        deliver_at: datetime | None = None,
    ) -> bool:
        """Give a scheduled message another due time; among those of that time it keeps its place.

        :param delay: as for `publish`
        :param deliver_at: as for `publish`
        :return: False if it is not scheduled, or not any more
        :raises InvalidMessage: if the time breaks a limit
        :raises ServerError: if the server did not answer, or refused
        """
        due, now_ms = when(delay, deliver_at), self.clock.now_ms()
        return await changes.reschedule(self.client, self.keys, id, due, now_ms)

    async def promote(self, id: str) -> bool:  # noqa: A002 - the field's own word
        """Make a scheduled message due now: a poller moves it at once. As `reschedule`."""
        return await self.reschedule(id)

    async def purge(self, state: Literal["scheduled", "ready", "dead"]) -> int:
        """Delete all messages of a state that are there now, and forget their ids.

        Never those that are pending: they are in the hands of consumers.

        :return: how many were deleted
        :raises ValueError: if `state` is none of these
        :raises ServerError: if the server did not answer, or refused; some may be deleted
        """
        match state:
            case "scheduled":
                return await changes.purge_scheduled(self.client, self.keys)
            case "ready":
                return await changes.purge_ready(self.client, self.keys)
            case "dead":
                return await self.dead.purge()
        raise ValueError(f"state: 'scheduled', 'ready' or 'dead' (got {state!r})")

    @property
    def dead(self) -> DeadLetters:
        """The dead letters."""
        return DeadLetters(self.client, self.keys, self.clock)

    async def register(self) -> None:
        """Have the queue listed among those of its namespace, and agree on its number of lanes.

        :raises LanesDiffer: if others use it with another number
        :raises ServerError: if the server did not answer, or refused
        """
        await cast("Registration", self.registration).claim(self.client)

    async def destroy(self) -> None:
        """Delete every key of the queue, with all its messages. Its consumers must have ended.

        :raises ServerError: if the server did not answer, or refused
        """
        for lane in self.every_lane:
            await scripts.command(self.client, "UNLINK", *lane.keys.all)
        await forget(self.client, self.keys.namespace, self.name)

    async def list(self, state: State, limit: int = 100, after: str = "") -> Page:
        """List messages of a state in their order, a page at a time, as `Browser.list` does."""
        return await Browser(self.client, self.keys).list(state, limit, after)
