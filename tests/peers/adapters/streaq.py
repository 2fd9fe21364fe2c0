# /// script
# dependencies = ["streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0"]
# [tool.peers]
# title = "streaQ"
# settings = """
# concurrency 100 (default 16), idle_timeout 10 s (60 s), ttl 0 (5 min), silent, uvloop"""
# words = """
# Results, priorities, dependencies among tasks, cron, a dashboard, typed tasks. Delay looked up
# twice a second. No order. Messages of a killed worker come back after idle_timeout."""
# ///
"""streaQ. Its documentation has the options under "Workers" and "Tasks"."""

import os
from datetime import datetime

from streaq import Worker

from tests.peers import handler
from tests.peers.speak import Adapter, Body

worker = Worker(
    redis_url=os.environ["PEERS_URL"],
    concurrency=100,
    idle_timeout=10,  # after which what a dead worker had is handed out again
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(name="handle", ttl=0, silent=True)  # no results kept, no line logged for each
async def handle(body: Body) -> None:
    await handler.handle(body)


class Streaq(Adapter):
    async def open(self) -> None:
        await worker.__aenter__()

    async def publish(self, body: Body) -> None:
        await handle.enqueue(body)

    async def publish_many(self, bodies: list[Body]) -> None:
        await worker.enqueue_many([handle.enqueue(body) for body in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        await handle.enqueue(body).start(schedule=due)

    def consume(self) -> None:
        worker.run_sync()


ADAPTER = Streaq()
