"""Cancelled from inside: a user's function that cancelled itself, or waited for a task that was."""

import asyncio
import math

import anyio

from delayq.errors import text_of


def cancelled_inside(error: asyncio.CancelledError) -> Exception:
    """Return what to make of it, for a task that nobody but the function and our scopes can cancel.

    :raises asyncio.CancelledError: if the task is cancelled indeed
    """
    if anyio.current_effective_deadline() == -math.inf:
        raise error
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
    return RuntimeError(f"cancelled from inside: {text_of(error)}")
