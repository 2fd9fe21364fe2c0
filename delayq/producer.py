"""The producer: publishes what a source yields, one after the other, at an interval."""

from collections.abc import Iterable

import anyio

from delayq.clock import mono_s
from delayq.connection import Server, outlast
from delayq.errors import NotConfirmed, ServerOutOfMemory, ServerUnreachable
from delayq.events import Observer, Published
from delayq.logs import guarded, log_trouble
from delayq.message import new_id
from delayq.queue import Queue
from delayq.stop import Stop


class Producer:
    """Publishes bodies. While the server is away, full, or confirms none, it waits, and loses none.

    None is doubled either, unless a reply is lost and the server then away for over a minute.
    """

    def __init__(
        self,
        server: Server,
        queue: Queue,
        bodies: Iterable[object],
        *,
        interval_s: float = 0.0,
        name: str = "producer",
        observe: Observer = log_trouble,
    ) -> None:
        self.name = name
        self._server = server
        self._queue = queue
        self._bodies = iter(bodies)
        self._interval_s = interval_s
        self._observe = guarded(observe)
        self._stop = Stop()

    async def run(self) -> None:
        """Publish until the source is exhausted, or stopped.

        :raises InvalidMessage: if a body is no JSON, or too large
        :raises ServerError: if the server refuses
        """
        async with self._server.client(self.name) as client:
            self._queue = self._queue.bound_to(client)
            due_at = mono_s()
            for body in self._bodies:
                if self._stop.asked:
                    return
                await self._publish(body)
                due_at += self._interval_s
                with self._stop.cuts():
                    await anyio.sleep(max(0, due_at - mono_s()))

    def stop(self) -> None:
        """Publish what is in hand, and return from `run`."""
        self._stop.ask()

    async def _publish(self, body: object) -> None:
        # The id is chosen before the first try: a repeat after a lost reply is the same message.
        message_id = new_id()
        receipt = await outlast(
            lambda: self._queue.publish(body, id=message_id),
            self.name,
            self._observe,
            (ServerUnreachable, ServerOutOfMemory, NotConfirmed),
        )
        self._observe(Published(self.name, receipt.id, receipt.due_ms, receipt.duplicate))
