"""From a delivery to its outcome. Nothing is done about it here."""

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from delayq.message import Message
from delayq.retry import Again, DeadLetter, Retry


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler is told besides the body."""

    message: Message
    entry: str
    """The message's id in the stream, which begins with the server's ms when it became ready."""
    consumer: str
    """The consumer's name in the group."""
    epoch: int
    """Grows with every holder of the lease: a store that keeps the highest it saw, and refuses
    older ones, is safe from a consumer that was frozen and woke."""


Handler = Callable[[Any, Context], Awaitable[None]]
"""Handles a body. To return is to acknowledge; `RetryLater` and `Reject` say otherwise, and any
other exception follows the queue's retry policy."""


async def outcome_of(
    handler: Handler, context: Context, policy: Retry, *, own_task: bool
) -> Again | DeadLetter | None:
    """Handle a message and tell what is to become of it; None is: acknowledge it.

    :param own_task: nobody but the handler and our own scopes can cancel the task it runs in
    """
    message = context.message
    if policy.exhausted(message.deliveries):
        return DeadLetter("max deliveries", "its consumer died, or lost its lease, each time")
    try:
        await handler(message.body, context)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the message's outcome
        return policy.decide(message.deliveries, error)
    except asyncio.CancelledError as error:
        # It cancelled itself, or waited for a task that was cancelled; or it is really cancelled.
        if anyio.current_effective_deadline() == -math.inf or not (own_task or _uncancelled()):
            raise
        _uncancel()
        return policy.decide(message.deliveries, RuntimeError(f"cancelled from inside: {error}"))
    return None


def is_async(handler: object) -> bool:
    """Tell whether calling `handler` gives something to await."""
    called = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)


def _uncancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def _uncancel() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
