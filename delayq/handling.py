"""From a delivery to its outcome. Nothing is done about it here."""

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import anyio

from delayq.cancelled import cancelled_inside
from delayq.clock import mono_s
from delayq.errors import LeaseLost
from delayq.message import Message
from delayq.retry import Again, DeadLetter, Retry
from delayq.threads import Threads, ThreadsHang


@dataclass(frozen=True, slots=True)
class Tenure:
    """Under what a consumer handles messages, from taking over until its lease is over."""

    consumer: str
    lane: int
    epoch: int
    lost: anyio.Event
    trusted_until: Callable[[], float]
    """Tells until when, in monotonic seconds, the lease is trusted."""


class Context(NamedTuple):
    """What a handler is told besides the body."""

    message: Message
    entry: str
    """The message's id in the stream, which begins with the server's ms when it became ready."""
    tenure: Tenure
    ends_at: float = math.inf
    """When the time limit of this handling is reached, in monotonic seconds."""

    @property
    def consumer(self) -> str:
        """The consumer's name in the group."""
        return self.tenure.consumer

    @property
    def lane(self) -> int:
        """The lane that the message is in: 0, where the queue has only one."""
        return self.tenure.lane

    @property
    def epoch(self) -> int:
        """Grows with every holder of the lane's lease.

        A store that keeps the highest it saw of a lane, and refuses older ones, is safe from a
        consumer that was frozen and woke.
        """
        return self.tenure.epoch

    @property
    def lost(self) -> anyio.Event:
        """Set when the lease is lost.

        An async handler is cancelled then; one in a thread goes on, so it should look at
        `lost.is_set()`, or call `check`.
        """
        return self.tenure.lost

    @property
    def id(self) -> str:
        """The message's id."""
        return self.message.id

    @property
    def key(self) -> str | None:
        """The ordering key."""
        return self.message.key

    @property
    def headers(self) -> Mapping[str, str]:
        """What the producer sent along."""
        return self.message.headers

    @property
    def deliveries(self) -> int:
        """How often the message was delivered, this time included."""
        return self.message.deliveries

    @property
    def due(self) -> datetime:
        """When it was last to be delivered, by the server's clock."""
        return datetime.fromtimestamp(self.message.due_ms / 1000, UTC)

    def check(self) -> None:
        """Call this before a step that cannot be taken back. It may be called in any thread.

        It asks no server: the lease is trusted for a time that ends before the server lets another
        have it. A process that is frozen right after this call is for `epoch` to guard against.

        :raises LeaseLost: if the lease is not trusted any more: another may handle this message
        """
        if self.lost.is_set() or mono_s() > self.tenure.trusted_until():
            raise LeaseLost(f"epoch {self.epoch} is not trusted any more")

    def remaining(self) -> float:
        """Return the seconds until the time limit of this handling; infinity if it has none."""
        return max(0.0, self.ends_at - mono_s())


Handler = Callable[[Any, Context], Awaitable[None] | None]
"""Handles a body. To return is to acknowledge; `RetryLater` and `Reject` say otherwise, and any
other exception follows the queue's retry policy. One that is not async runs in a thread; what it
returns is awaited, if it can be."""


def check_handler(handler: object) -> None:
    """Check that a handler can be called with a body and a context.

    :raises TypeError: if it cannot
    """
    needed = "handler: a function of two parameters, a body and a context, is needed"
    if not callable(handler):
        raise TypeError(f"{needed} (got {handler!r})")
    with suppress(ValueError):  # some that are written in C do not tell
        try:
            inspect.signature(handler).bind(None, None)
        except TypeError as error:
            named_as = getattr(handler, "__qualname__", handler)
            raise TypeError(f"{needed}; {named_as}: {error}") from None


class Handling:
    """How messages are handled: the handler, and what holds for each call of it.

    :param concurrency: messages handled at once
    :param time_limit_s: how long handling one may take, from when the handler is called
    """

    call: Callable[[Any, Context], Awaitable[None]]
    """Handles a body. Raises TimeoutError if the time limit is reached, and what the handler
    raises; ThreadsHang if it was not called."""

    def __init__(
        self, handler: Handler, concurrency: int, time_limit_s: float | None = None
    ) -> None:
        self.concurrency = concurrency
        self.time_limit_s = time_limit_s
        self._handler: Callable[[Any, Context], Any] = handler
        self.threads: Threads | None = None
        """Those of a handler that is not async."""
        if not _is_async(handler):
            self.threads = Threads(concurrency, time_limit_s or math.inf)
            self.call = self._in_thread
        else:
            self.call = partial(self._timed, handler) if time_limit_s else handler

    @property
    def name(self) -> str:
        """What logs call the handler."""
        return str(getattr(self._handler, "__qualname__", type(self._handler).__name__))

    @property
    def code(self) -> object:
        """The handler's code object, by which it is found in a stack; None if it has none."""
        return getattr(inspect.unwrap(self._handler), "__code__", None)

    async def _in_thread(self, body: Any, context: Context) -> None:
        """Handle a message in a thread, whose time begins when it has a place."""
        threads = self.threads
        assert threads  # noqa: S101 - `call` is this only where there are some
        place = await threads.take()

        async def call(_body: Any, timed: Context) -> None:
            returned = await threads.call(place, self._handler, body, timed)
            if inspect.isawaitable(returned):  # it only looked like one that is not async
                await returned

        try:
            await self._timed(call, body, context)
        finally:
            threads.leave(place)

    async def _timed(
        self, call: Callable[[Any, Context], Awaitable[None]], body: Any, context: Context
    ) -> None:
        """Make a call whose time limit begins now."""
        limit_s = self.time_limit_s or math.inf
        with anyio.move_on_after(limit_s) as limited:
            await call(body, context._replace(ends_at=mono_s() + limit_s))
        if limited.cancelled_caught:
            raise TimeoutError(f"time limit of {self.time_limit_s} s")


async def outcome_of(
    handling: Handling, context: Context, policy: Retry
) -> Again | DeadLetter | None:
    """Handle a message and tell what is to become of it; None is: acknowledge it.

    It runs in a task that nobody but the handler and our own scopes can cancel.

    :raises ThreadsHang: if it was not handled, as no thread was to be had
    """
    message = context.message
    if policy.exhausted(message.deliveries):
        return DeadLetter("max deliveries", "its consumer died, or lost its lease, each time")
    try:
        await handling.call(message.body, context)
    except ThreadsHang:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the message's outcome
        return policy.decide(message.deliveries, error)
    except asyncio.CancelledError as error:
        return policy.decide(message.deliveries, cancelled_inside(error))
    return None


def _is_async(handler: object) -> TypeGuard[Callable[[Any, Context], Awaitable[None]]]:
    """Tell whether calling `handler` gives something to await."""
    called = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)
