"""The end of a run: everything is mended, and all that was published is to be handled."""

from collections.abc import Callable

import anyio

from delayq.appqueue import AppQueue
from delayq.clock import mono_s
from delayq.connection import outlast

FAR_MS = 5_000
"""What is due later than this is not waited for."""
STUCK_S = 20.0
"""Nothing was handled for so long: the rest never will be."""
_LOOK_S = 0.1


async def promote_what_is_far(queue: AppQueue) -> None:
    """Have what its producer did not live to cancel, or give another time, be due now.

    :raises ServerError: if the server did not answer, or refused
    """
    now_ms = (await queue.stats()).now_ms
    cursor: str | None = ""
    while cursor is not None:
        page = await queue.list("scheduled", after=cursor)
        for record in page.records:
            if record.due_ms and record.due_ms > now_ms + FAR_MS:
                await queue.promote(record.id)
        cursor = page.next


async def drained(queue: AppQueue, handled: Callable[[], int]) -> int:
    """Wait until nothing is left; or return how much is, if nothing is handled any more."""
    before, since_s = handled(), mono_s()
    while True:
        stats = await outlast(queue.stats)
        left = stats.scheduled + stats.ready + stats.pending
        if handled() != before:
            before, since_s = handled(), mono_s()
        if not left or mono_s() - since_s > STUCK_S:
            return left
        await anyio.sleep(_LOOK_S)
