# /// script
# dependencies = [
#     "saq[redis,hiredis]==0.26.4",
#     "redis==7.4.1",
#     "hiredis==3.5.0",
#     "uvloop==0.23.0",
#     "typing-extensions==4.16.0",
# ]
# [tool.peers]
# title = "SAQ"
# settings = """
# concurrency 100 (default 10), timers sweep 5 s (60 s), timeout 10 s,
# retries 3 (1), ttl -1 (600 s), uvloop"""
# words = """
# Results, heartbeats, cron, a dashboard, Postgres instead of Redis. Delay looked up each second.
# No order. Messages of a killed worker are swept one by one. No bulk: 500 awaited at once."""
# ///
"""SAQ. Its documentation names the timers of a worker and the arguments of a job."""

import asyncio
import os
from datetime import datetime

import uvloop
from saq import Queue, Worker

from tests.peers import handler
from tests.peers.speak import Adapter, Body

# ttl -1 keeps no result; retries let a swept job run again; timeout makes it stuck.
JOB = {"timeout": 10, "retries": 3, "ttl": -1}


async def handle(_: object, *, body: Body) -> None:
    await handler.handle(body)


def queue() -> Queue:
    # max_concurrent_ops is how many calls to Redis run at once.
    return Queue.from_url(os.environ["PEERS_URL"], max_concurrent_ops=100)


class Saq(Adapter):
    async def open(self) -> None:
        self.queue = queue()

    async def publish(self, body: Body) -> None:
        await self.queue.enqueue("handle", body=body, **JOB)

    async def publish_many(self, bodies: list[Body]) -> None:
        await asyncio.gather(*[self.publish(body) for body in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        # Documented as whole seconds; a fraction is kept, and comes sooner than the next whole one.
        await self.queue.enqueue("handle", body=body, scheduled=due.timestamp(), **JOB)

    def consume(self) -> None:
        uvloop.run(self.work())

    async def work(self) -> None:
        worker = Worker(queue(), [handle], concurrency=100, timers={"sweep": 5, "schedule": 1})
        await worker.start()


ADAPTER = Saq()
