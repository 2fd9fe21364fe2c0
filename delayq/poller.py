"""The delay poller: sleeps until the next due time, and moves what is due to the stream.

Three things wake it: an exact timer for the next due time, the bell for an earlier one, and a
safety poll, which is the truth where a bell was lost. Any number may run side by side.
"""

import anyio

from delayq.connection import Server, outlast
from delayq.errors import ScriptFailed
from delayq.events import LaneFailed, Observer, in_lane
from delayq.lanes import REST_S
from delayq.logs import guarded, log_trouble
from delayq.promoter import Promoter
from delayq.queue import Queue
from delayq.stop import Stop
from delayq.transport.bells import Bells


class Poller:
    """Promotes one queue's messages as they become due, corrected by its `on_due` if it has one.

    Where a script fails in one lane of several, the others go on.
    """

    def __init__(
        self,
        server: Server,
        queue: Queue,
        *,
        name: str = "poller",
        observe: Observer = log_trouble,
    ) -> None:
        self.name = name
        self._server = server
        self._queue = queue
        self._observe = guarded(observe)
        self._stop = Stop()
        self._promoters = self._made(queue)

    async def run(self) -> None:
        """Promote until stopped.

        :raises LanesDiffer: if others use the queue with another number of lanes
        :raises ServerError: if the server refuses; while it is merely away, this waits for it
        """
        async with self._server.link(self.name) as link:
            queue = self._queue.bound_to(link.client)
            self._promoters = self._made(queue)
            with self._stop.cuts():
                await outlast(queue.register, self.name, self._observe)
                await self._promote(link.bells)

    def stop(self) -> None:
        """Return from `run`: at once, as each move is one step at the server."""
        self._stop.ask()

    @property
    def idle(self) -> bool:
        """Whether it waits for the next due time, in each lane."""
        return all(promoter.idle for promoter in self._promoters)

    async def turn(self, now_ms: int | None = None) -> float:
        """Move one batch of what is due, in each lane.

        :param now_ms: instead of the clock's time
        :return: seconds to wait for the next look: 0 if more are due, infinity if none is scheduled
        """
        return min([await promoter.turn(now_ms) for promoter in self._promoters])

    def _made(self, queue: Queue) -> list[Promoter]:
        """Make one for each lane; for another group's retries each once more."""
        lanes = [lane for each in queue.schedules for lane in each.every_lane]
        return [
            Promoter(lane, self.name, in_lane(self._observe, lane.keys.lane, queue.lanes))
            for lane in lanes
        ]

    async def _promote(self, bells: Bells) -> None:
        async with anyio.create_task_group() as promoting:
            for promoter in self._promoters:
                promoting.start_soon(self._keep_promoting, promoter, bells)

    async def _keep_promoting(self, promoter: Promoter, bells: Bells) -> None:
        while True:
            try:
                await promoter.run(bells)
            except ScriptFailed as error:
                if self._queue.lanes == 1:
                    raise
                promoter.observe(LaneFailed(self.name, str(error)))
                await anyio.sleep(REST_S)
