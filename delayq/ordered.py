"""Serving in order: one message at a time, each settled before the next is begun."""

import anyio

from delayq.clock import mono_s
from delayq.message import Delivery
from delayq.pending import Malformed
from delayq.retry import Again, DeadLetter
from delayq.service import IDLE_S, Service, Work
from delayq.term import Term

SETTLE_S = 0.01
"""Handled messages are acknowledged with the next fetch, but not later than this: so that a death
repeats, besides the message in hand, only what was handled in these last milliseconds."""


class Ordered(Service):
    """The active consumer of an ordered queue."""

    own_tasks = False

    def __init__(self, work: Work, term: Term) -> None:
        super().__init__(work, term)
        self._settled_at = mono_s()

    async def serve(self) -> None:
        """See `Service.serve`."""
        while not self._stopping:
            batch = await self._fetch(self.work.batch)
            self._settled_at = mono_s()
            if not batch.deliveries and batch.last_id:
                await self._pause(lambda: self.work.bell.wait(IDLE_S, batch.last_id))  # noqa: B023
            for at, delivery in enumerate(batch.deliveries):
                if self._unacked and mono_s() - self._settled_at > SETTLE_S:
                    await self._flush()
                    self._settled_at = mono_s()
                # The first of a batch may be at its last delivery, which none could repeat.
                if self._stopping and at > 0:
                    break
                await self._settle(delivery)
        await self._flush()

    async def _settle(self, delivery: Delivery | Malformed) -> None:
        """Handle one message, in place as often as the retry policy wants."""
        while True:
            outcome = await self._outcome(delivery)
            match outcome, delivery:
                case DeadLetter(), _:
                    await self._bury(delivery, outcome)
                    return
                case Again(), Delivery():
                    await self._flush()
                    self._report_retry(delivery, outcome)
                    again = await self._again(delivery.entry, outcome.delay_ms)
                    if again is None:
                        return
                    delivery = again
                case _, Delivery():
                    self._handled(delivery)
                    return

    async def _again(self, entry: str, delay_ms: int) -> Delivery | Malformed | None:
        """Deliver a message once more, after a delay; None if stopped, or the entry is gone."""
        await self._pause(lambda: anyio.sleep(delay_ms / 1000))
        if self._stopping:
            return None
        again = await self._redeliver([entry])
        return again[0] if again else None
