"""A queue: declared alike in every process, and published to.

Looking at it and changing it is what its lanes do: see `delayq.lanes`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, Self, Unpack, get_args

from redis.asyncio import Redis

from delayq import scripts
from delayq.body import B, Codec
from delayq.bulk import Bulk
from delayq.caller import Call, Callers
from delayq.durability import LEAST_S, Durability, chosen
from delayq.groups import Start, groups
from delayq.keys import lane_of
from delayq.lanes import Lanes
from delayq.message import Message
from delayq.outbox import Answer, Outbox
from delayq.outgoing import Options, Outgoing, Receipt, checked_body, outgoing
from delayq.publishing import PROMOTE_LIMIT, Terms, patiently, publish
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
MAX_PATIENCE_S = 86_400.0


@dataclass(frozen=True)
class Queue(Lanes, Generic[B]):
    """A queue on one server; `bound_to` gives the same queue over another client.

    Declare it alike in every process: with `on_due`, a publish leaves promoting to the pollers.

    :raises ValueError: if `ordering` or `on_failure` is none that there is, or a number is out of
        range
    """

    ordering: Ordering = "none"
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = "block"
    """What a failure means, where the order is kept."""
    on_due: OnDue | None = None
    codec: Codec[B] = field(default_factory=Codec)
    max_backlog: int | None = None
    """Messages scheduled, ready and pending, beyond which a publish is refused.

    With several groups it counts what is kept for any; but not what another retries later.
    """
    dedup_window_s: float = 3600.0
    """How long a `dedup_id` is known."""
    patience_s: float = 3.0
    """How long a publish is tried again while the server is away; a day at most."""
    past_due: bool = True
    """False for those who do not know the queue's `on_due`: they leave promoting to the pollers,
    and publish behind what is due."""
    durability: Durability = "memory"
    """What a publish waits for, if it is not told."""
    start: Start = "beginning"
    """Where its group begins, when its first consumer does."""
    registration: Registration = field(default=None, repr=False, compare=False)  # type: ignore[assignment]
    """Shared by the lanes of a queue."""
    _outboxes: dict[Durability, Outbox] = field(init=False, repr=False, compare=False)
    """One for each: what waits for nothing does not wait behind what waits for a replica."""
    _callers: Callers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (
            ("ordering", self.ordering, get_args(Ordering)),
            ("on_failure", self.on_failure, get_args(OnFailure)),
            ("durability", self.durability, get_args(Durability)),
            ("start", self.start, get_args(Start)),
        ):
            if value not in known:
                raise ValueError(f"{name}: one of {known} (got {value!r})")
        if not isinstance(self.retry, Retry):
            raise TypeError(f"retry: a Retry is needed (got {self.retry!r})")
        if self.max_backlog is not None and self.max_backlog < 1:
            raise ValueError(f"max_backlog: at least 1, or None (got {self.max_backlog})")
        if not 1 <= self.dedup_window_s <= MAX_DEDUP_WINDOW_S:
            raise ValueError(
                f"dedup_window_s: 1 to {MAX_DEDUP_WINDOW_S:.0f} (got {self.dedup_window_s})"
            )
        if not 0 <= self.patience_s <= MAX_PATIENCE_S:
            raise ValueError(f"patience_s: 0 to {MAX_PATIENCE_S:.0f} (got {self.patience_s})")
        registration = Registration(self.keys.namespace, self.name, self.lanes)
        object.__setattr__(self, "registration", self.registration or registration)
        outboxes = {
            each: Outbox(
                partial(self._send, self._terms(each)),
                self.patience_s,
                limited=self.limited,
                least_s=0 if each == "memory" else LEAST_S,
            )
            for each in get_args(Durability)
        }
        object.__setattr__(self, "_outboxes", outboxes)
        object.__setattr__(self, "_callers", Callers())

    @property
    def ordered(self) -> bool:
        """Whether one consumer is active, and the others stand by."""
        return self.ordering != "none"

    @property
    def limited(self) -> bool:
        """Whether a publish may find the queue full."""
        return self.max_backlog is not None

    def bound_to(self, client: Redis) -> "Queue[B]":
        """Return this queue, over `client`."""
        return replace(self, connect=lambda: client)

    def lane_of(self, message: Outgoing) -> "Queue[B]":
        """Return the lane that a message belongs to."""
        return self.every_lane[0 if self.lanes == 1 else lane_of(message.route, self.lanes)]

    def group(
        self,
        name: str,
        *,
        ordering: Ordering = "none",
        retry: Retry | None = None,
        on_failure: OnFailure = "block",
        start: Start = "beginning",
    ) -> Self:
        """Declare another group of consumers, which is to have every message of this queue as well.

        It has a pace, an order, retries and dead letters of its own. What is kept grows with the
        slowest group: a message leaves Redis when all groups that are there are done with it.

        :param ordering: as for the queue
        :param retry: as for the queue
        :param on_failure: as for the queue
        :param start: where it begins when its first consumer does: with what is kept, or with what
            comes next
        :return: the queue, as the group sees it; to publish to it is to publish to all groups
        :raises InvalidName: if the name cannot stand in a key
        :raises ValueError: if an option is none that there is, or an app has a group of that name
        """
        declared = replace(
            self,
            keys=replace(self.keys, group=name),
            ordering=ordering,
            retry=retry or Retry(),
            on_failure=on_failure,
            start=start,
        )
        return self._added(declared)

    def _added(self, group: Self) -> Self:
        """Take note of a group that was declared: an app knows of all."""
        return group

    @property
    def starts(self) -> Mapping[str, Start]:
        """The groups that a consumer creates if they are not there, and where each begins."""
        return {self.keys.group: self.start}

    @property
    def schedules(self) -> "tuple[Queue[B], ...]":
        """The queues whose schedules a poller of this one promotes: a group's retries have one."""
        shared = self.keys.shared
        return (self,) if self.keys == shared else (replace(self, keys=shared), self)

    # -- publishing --

    async def publish(
        self, body: B, *, durability: Durability | None = None, **options: Unpack[Options]
    ) -> Receipt:
        """Publish a message: when this returns, it is in the primary's dataset, or safer still.

        Publishes at the same time share a script call. While the server is away this is tried
        again for `patience_s`: never twice, as the id is known.

        :param body: of the queue's type
        :param durability: what is waited for, within `patience_s`; None is the queue's
        :param options: `delay`, `deliver_at`, `key`, `id`, `dedup_id`, `headers`: see `Options`
        :raises InvalidMessage: if a part breaks a limit; nothing was written
        :raises BacklogFull: if the queue is at `max_backlog`; nothing was written
        :raises ServerOutOfMemory: if the server is at maxmemory; nothing was written
        :raises ServerUnreachable: if no answer came; a repeat with the same id is safe
        :raises NotConfirmed: if the durability was not confirmed; a repeat with the same id is safe
        :raises CannotConfirm: if the server cannot confirm it
        """
        message = outgoing(self.codec.encode(body), options)
        lane = self.lane_of(message)
        outbox = lane._outboxes[chosen(durability, self.durability)]  # noqa: SLF001 - of our own
        return await outbox.post(message)

    def message(self, body: B, **options: Unpack[Options]) -> Outgoing:
        """Make a message for `publish_many`. Parameters are those of `publish`.

        :raises InvalidMessage: if a part breaks a limit
        """
        return outgoing(self.codec.encode(body), options)

    async def publish_many(
        self, messages: Iterable[B | Outgoing], *, durability: Durability | None = None
    ) -> Receipts:
        """Publish many messages in their order, up to 500, or 1 MB, by one script call.

        Fewer where they take longer: a sixth as many of those that are scheduled, half as many of
        those with a key or headers, a quarter of those that are known by an id, or may find the
        queue full.

        :param messages: bodies, or what `message` made of them
        :param durability: what is waited for after each of these calls; None is the queue's
        :return: a receipt for each
        :raises InvalidMessage: if one breaks a limit; nothing was written
        :raises BacklogFull: if not all of a call's messages have room; the error tells how many
            were accepted
        :raises ServerError: as for `publish`
        """
        encode = self.codec.encode
        every = [m if isinstance(m, Outgoing) else checked_body(encode(m)) for m in messages]
        bulk = Bulk(every, self._callers, self.patience_s, limited=self.limited)
        terms = self._terms(chosen(durability, self.durability), whole=True)
        await bulk.send(
            [partial(lane._send, terms) for lane in self.every_lane],  # noqa: SLF001 - of our own
            lambda message: lane_of(message.route, self.lanes),
        )
        return bulk.receipts()

    def _terms(self, durability: Durability, *, whole: bool = False) -> Terms:
        promote = -1 if not self.past_due else 0 if self.on_due else PROMOTE_LIMIT
        window_ms = round(self.dedup_window_s * 1000)
        return Terms(None, promote, window_ms, self.max_backlog, whole, durability)

    async def _send(
        self, terms: Terms, messages: Sequence[Outgoing], same: Call, until_s: float
    ) -> Answers:
        now_ms = self.clock.now_ms()
        if now_ms is not None:
            terms = terms._replace(now_ms=now_ms)
        client, keys, registration = self.client, self.keys.shared, self.registration

        async def call() -> Answers:
            if not registration.done:
                await registration.claim(client)
            return await publish(client, keys, terms, messages, same, until_s=until_s)

        # What waits to be confirmed has a timer of its own.
        ends = client if terms.durability == "memory" else None
        answers: Answers = await patiently(ends, call, until_s, self.name)
        return answers

    async def register(self) -> None:
        """Have the queue listed among those of its namespace, and agree on its number of lanes.

        :raises LanesDiffer: if others use it with another number
        :raises ServerError: if the server did not answer, or refused
        """
        await self.registration.claim(self.client)

    async def destroy(self) -> None:
        """Delete every key of the queue, with all its messages. Its consumers must have ended.

        Epochs of lanes that it had once, and has not any more, stay: see `delayq.resize`.

        :raises ServerError: if the server did not answer, or refused
        """
        for lane in self.every_lane:
            unwanted = lane.keys.shared.all
            for name in await groups(self.client, lane.keys):
                unwanted += replace(lane.keys, group=name).own
            await scripts.command(self.client, "UNLINK", *unwanted)
        await forget(self.client, self.keys.namespace, self.name)
        self.registration.done = False
