"""The producer of a run: publishes what its seed says, in every way there is, and records it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from delayq.appqueue import AppQueue
from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.errors import NotConfirmed, ServerOutOfMemory, ServerUnreachable
from delayq.message import new_id
from delayq.outgoing import Options, Receipt, when
from delayq.verify.history import Cancelled, Published, PublishFailed, Publishing, Recorded
from delayq.verify.log import Log
from delayq.verify.workload import Item, Step

AGAIN_S = 0.1
"""How long after a failure a publish is repeated: often while its id is still known."""
BEHIND_S = 1.0
"""What was not published in time is caught up with, but no more than so much."""

Receipts = Sequence[Receipt]


class Author:
    """Publishes steps at a rate. A role of the supervisor.

    :param steps: what to do next
    """

    def __init__(self, queue: AppQueue, log: Log, steps: Callable[[], Step], rate: float) -> None:
        self.published = 0
        """Messages that were accepted."""
        self._queue = queue
        self._log = log
        self._steps = steps
        self._rate = rate
        self._stopping = False
        self._resting = anyio.CancelScope()

    async def run(self) -> None:
        """Publish until stopped."""
        due_at = mono_s()
        while not self._stopping:
            step = self._steps()
            await self._do(step)
            due_at = max(due_at + len(step.items) / self._rate, mono_s() - BEHIND_S)
            with anyio.CancelScope() as self._resting:
                await anyio.sleep(max(0, due_at - mono_s()))

    def stop(self) -> None:
        """Publish what is in hand, and return from `run`."""
        self._stopping = True
        self._resting.cancel()

    async def _do(self, step: Step) -> None:
        drafts = [_Draft(item) for item in step.items]
        first = drafts[0]
        match step.how:
            case "many":
                await self._accepted(drafts, self._in_bulk)
            case "together":
                await self._together(drafts)
            case "repeated":
                await self._together([first, first])
                await self._one(first)
            case "deduplicated":
                dedup_id = new_id()
                await self._together([_Draft(first.item, dedup_id) for _ in range(2)])
            case "cancelled":
                await self._one(first)
                if await outlast(lambda: self._queue.cancel(first.id)):
                    self._write(Cancelled, first)
            case "rescheduled":
                await self._one(first)
                await outlast(lambda: self._queue.reschedule(first.id, delay=step.again_s))
            case _:
                await self._one(first)

    async def _together(self, drafts: list["_Draft"]) -> None:
        async with anyio.create_task_group() as publishing:
            for draft in drafts:
                publishing.start_soon(self._one, draft)

    async def _one(self, draft: "_Draft") -> None:
        async def publish(drafts: Sequence[_Draft]) -> Receipts:
            return [await self._queue.publish(d.item.body, **d.options) for d in drafts]

        await self._accepted([draft], publish)

    async def _in_bulk(self, drafts: Sequence["_Draft"]) -> Receipts:
        messages = [self._queue.message(d.item.body, **d.options) for d in drafts]
        return await self._queue.publish_many(messages)

    async def _accepted(
        self, drafts: "_Drafts", publish: Callable[["_Drafts"], Awaitable[Receipts]]
    ) -> None:
        """Publish again and again, with the same ids, until all are accepted."""
        while True:
            for d in drafts:
                told = {"when": when(d.item.delay_s, None), "key": d.item.key}
                self._write(Publishing, d, **told, dedup_id=d.dedup_id)
            try:
                receipts = await publish(drafts)
            except (ServerOutOfMemory, ServerUnreachable, NotConfirmed) as error:
                written = False if isinstance(error, ServerOutOfMemory) else None
                for d in drafts:
                    self._write(PublishFailed, d, error=str(error), written=written)
            else:
                break
            await anyio.sleep(AGAIN_S)
        for d, receipt in zip(drafts, receipts, strict=True):
            told = {"receipt_id": receipt.id, "durability": receipt.durability}
            due_ms, duplicate = receipt.due_ms, receipt.duplicate
            self._write(Published, d, **told, due_ms=due_ms, duplicate=duplicate)
            self.published += not receipt.duplicate

    def _write(self, kind: type[Recorded], draft: "_Draft", **told: Any) -> None:
        lane = self._queue.lane_of(self._queue.message(draft.item.body, **draft.options)).keys
        self._log.write(kind, queue=lane.queue, lane=lane.lane, id=draft.id, **told)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A message, and what stays the same however often it is published."""

    item: Item
    dedup_id: str | None = None
    id: str = field(default_factory=new_id)

    @property
    def options(self) -> Options:
        """What `publish` is told besides the body."""
        options: Options = {"id": self.id, "delay": self.item.delay_s, "key": self.item.key}
        return options | {"dedup_id": self.dedup_id} if self.dedup_id else options


_Drafts = Sequence[_Draft]
