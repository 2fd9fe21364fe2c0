"""The ticker: keeps the next tick of a recurring queue on the schedule.

It is there before its time, so that it comes even if every process ends. Any number of tickers may
run side by side, in any state of knowledge: the server accepts each tick once, and none that is
earlier than one it accepted.
"""

import math
from datetime import datetime

import anyio

from delayq import scripts
from delayq.clock import as_argument
from delayq.connection import Server, outlast
from delayq.errors import ServerOutOfMemory, ServerUnreachable
from delayq.events import Observer, Ticked
from delayq.logs import guarded, log_trouble
from delayq.queue import Queue
from delayq.recurring import Recurrence, moment
from delayq.stop import Stop

SAFETY_S = 10.0
"""The longest time without a look: the server's clock may be set while a ticker waits."""


class Ticker:
    """Schedules the ticks of one queue, whose bodies they are.

    The next tick is always scheduled. One that comes due while every process is down is late: it
    is delivered when a poller runs again. Those after it are missed, as nobody scheduled them, and
    what becomes of them is for the recurrence to say.
    """

    def __init__(
        self,
        server: Server,
        queue: Queue[datetime],
        recurrence: Recurrence,
        *,
        name: str = "ticker",
        observe: Observer = log_trouble,
    ) -> None:
        self.name = name
        self.idle = False
        """Whether it waits for the next tick."""
        self._server = server
        self._queue = queue
        self._recurrence = recurrence
        self._observe = guarded(observe)
        self._stop = Stop()

    async def run(self) -> None:
        """Schedule ticks until stopped.

        :raises ServerError: if the server refuses; while it is away, or full, this waits for it
        """
        passing = (ServerUnreachable, ServerOutOfMemory)
        async with self._server.link(self.name) as link:
            self._queue = self._queue.bound_to(link.client)
            with self._stop.cuts():
                await outlast(self._queue.register, self.name, self._observe, passing)
                while True:
                    wait_s = await outlast(self.turn, self.name, self._observe, passing)
                    if wait_s > 0:
                        with self._queue.clock.limit(wait_s):
                            self.idle = True
                            await anyio.sleep(SAFETY_S)
                        self.idle = False

    def stop(self) -> None:
        """Return from `run`: at once, as each call is one step at the server."""
        self._stop.ask()

    async def turn(self, now_ms: int | None = None) -> float:
        """Schedule what was missed, as far as it is made up for, and the next tick.

        :param now_ms: instead of the clock's time
        :return: seconds until there is something to do: 0 if there is more now, infinity if no
            tick comes any more
        """
        _, ticked_ms, at_ms = await self._tick([], now_ms)
        ticks = self._recurrence.ticks(ticked_ms, at_ms)
        if ticks:
            accepted, ticked_ms, at_ms = await self._tick(ticks, now_ms)
            if accepted:
                self._observe(Ticked(self.name, accepted))
        elif ticked_ms is None or ticked_ms <= at_ms:
            return math.inf
        return max(0, (ticked_ms or 0) - at_ms) / 1000

    async def _tick(self, ticks: list[int], now_ms: int | None) -> tuple[int, int | None, int]:
        """Offer ticks; return how many were accepted, the last one ever accepted, and the time."""
        k, queue = self._queue.keys, self._queue
        now_ms = queue.clock.now_ms() if now_ms is None else now_ms
        args: list[object] = [as_argument(now_ms), queue.name]
        for tick in ticks:
            args += [tick, queue.codec.encode(moment(tick, self._recurrence.zone))]
        keys = [k.schedule, k.bodies, k.arrival, k.bell, k.ticked]
        accepted, ticked, at_ms = await scripts.run(queue.client, "tick", keys, args)
        return accepted, int(ticked) if ticked else None, at_ms
