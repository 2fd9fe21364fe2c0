"""One group of a queue in a test, and a consumer of it."""

from dataclasses import dataclass

from redis.asyncio import Redis

from delayq import Queue
from delayq.lease import Lease, LeaseStore
from delayq.message import Delivery
from delayq.pending import Pending
from delayq.schedule import Schedule
from delayq.transport.anchor import Anchor


@dataclass
class Side:
    """A group, and the lease of a consumer of it."""

    queue: Queue
    pending: Pending
    lease: Lease
    store: LeaseStore

    async def fetch(self, *acks: str, count: int = 10) -> list[object]:
        return list((await self.pending.fetch(self.lease, "(0", count, acks)).deliveries)

    async def one(self) -> Delivery:
        [delivery] = await self.fetch()
        assert isinstance(delivery, Delivery)
        return delivery

    async def promote(self) -> int:
        moved, _ = await Schedule(self.queue).promote(10**14)
        return moved


async def side(client: Redis, queue: Queue) -> Side:
    pending = Pending(queue)
    await pending.ensure_group()
    store = LeaseStore(Anchor(client), queue.keys, "c1", 10)
    lease = await store.acquire(queue.keys.lease())
    assert isinstance(lease, Lease)
    return Side(queue, pending, lease, store)
