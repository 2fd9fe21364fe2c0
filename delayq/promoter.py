"""The promoter: moves what is due in one lane to its stream."""

import asyncio
import math

import anyio

from delayq.cancelled import cancelled_inside
from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.errors import named
from delayq.events import Corrected, CorrectionFailed, Observer, Promoted
from delayq.queue import OnDue, Queue
from delayq.schedule import Schedule, Scheduled
from delayq.transport.bells import Bells

SAFETY_S = 1.0
"""The longest time without a look at the schedule."""
NEAR_S = 0.001
"""How long before a message is due one look more has ended. It wakes this process, the server and
all between them, which on an idle machine takes about 1 ms."""
HOOK_TIMEOUT_S = 10.0
"""How long `on_due` may take for one message."""


def until_near(wait_s: float, look_s: float) -> float:
    """Return how long to wait, if `wait_s` are left: until that, or to be near it after one look.

    :param look_s: how long a look takes; if it takes all that is left there is no other
    """
    near_s = wait_s - NEAR_S - look_s
    return near_s if near_s > NEAR_S else wait_s


class Promoter:
    """Promotes one lane's messages as they become due, for a poller called `name`."""

    def __init__(self, queue: Queue, name: str, observe: Observer) -> None:
        self.name = name
        self.idle = False
        """Whether it waits for the next due time."""
        self._queue = queue
        self.observe = observe

    async def run(self, bells: Bells) -> None:
        """Promote for ever.

        :param bells: give the one that is rung when a new earliest due time appears
        :raises ServerError: if the server refuses; while it is merely away, this waits for it
        """
        bell = bells.bell(self._queue.keys.bell)
        try:
            while True:
                began_s = mono_s()
                wait_s = await outlast(self.turn, self.name, self.observe)
                if wait_s > 0:
                    if self._queue.clock.now_ms() is None:
                        wait_s = until_near(wait_s, mono_s() - began_s)
                    with self._queue.clock.limit(wait_s):
                        self.idle = True
                        await bell.wait(SAFETY_S)
                    self.idle = False
        finally:
            bells.let_go(bell)

    async def turn(self, now_ms: int | None = None) -> float:
        """Move one batch of what is due.

        :param now_ms: instead of the clock's time
        :return: seconds to wait for the next look: 0 if more are due, infinity if none is scheduled
        """
        on_due = self._queue.on_due
        if on_due is None:
            moved, wait_s = await Schedule(self._queue).promote(now_ms)
            if moved:
                self.observe(Promoted(self.name, moved))
        else:
            seen, wait_s = await Schedule(self._queue).due(now_ms)
            if seen:
                await self._correct(on_due, seen)
                return 0  # while the hooks ran, more may have become due
        return math.inf if wait_s is None else wait_s

    async def _correct(self, on_due: OnDue, seen: list[Scheduled]) -> None:
        corrected = list(seen)

        async def correct(at: int) -> None:
            corrected[at] = await self._corrected(on_due, seen[at])

        async with anyio.create_task_group() as hooks:
            for at in range(len(seen)):
                hooks.start_soon(correct, at)
        moved = await Schedule(self._queue).promote_as(corrected)
        ids = [s.message.id for s, was_moved in zip(seen, moved, strict=True) if was_moved]
        if ids:
            self.observe(Corrected(self.name, tuple(ids)))

    async def _corrected(self, on_due: OnDue, seen: Scheduled) -> Scheduled:
        """Call the hook. Where it fails the message goes on as it was: its handler decides."""
        try:
            with anyio.fail_after(HOOK_TIMEOUT_S):
                return seen.corrected(self._queue.codec.encode(await on_due(seen.message)))
        except Exception as error:  # noqa: BLE001 - one bad message must not stop the others
            failed = error
        except asyncio.CancelledError as error:
            failed = cancelled_inside(error)
        self.observe(CorrectionFailed(self.name, seen.message.id, named(failed)))
        return seen
