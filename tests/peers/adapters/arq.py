# /// script
# dependencies = ["arq==0.28.0", "redis[hiredis]==5.3.1", "uvloop==0.23.0"]
# [tool.peers]
# title = "arq"
# settings = """
# max_jobs 100 (default 10), poll_delay 10 ms (500 ms), keep_result 0 (1 h), job_timeout 10 s
# (300 s), uvloop"""
# words = """
# Results, cron, unique ids, abort. No order. A killed worker's messages come back when the
# longest job_timeout + 10 s is over. No bulk: 500 awaited at once."""
# ///
"""arq. Its documentation has the settings of a worker under "Reference", and says under
"Usage / Retrying jobs and cancellation" that a job runs again once its in-progress key expires."""

import asyncio
import os
from datetime import datetime

import arq
import uvloop
from arq.connections import RedisSettings

from tests.peers import handler
from tests.peers.speak import Adapter, Body

SETTINGS = RedisSettings.from_dsn(os.environ["PEERS_URL"])


async def handle(_: object, body: Body) -> None:
    await handler.handle(body)


class Arq(Adapter):
    async def open(self) -> None:
        self.pool = await arq.create_pool(SETTINGS)

    async def publish(self, body: Body) -> None:
        await self.pool.enqueue_job("handle", body)

    async def publish_many(self, bodies: list[Body]) -> None:
        await asyncio.gather(*[self.publish(body) for body in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        await self.pool.enqueue_job("handle", body, _defer_until=due)

    def consume(self) -> None:
        uvloop.install()
        asyncio.set_event_loop(asyncio.new_event_loop())
        # poll_delay is how late a job may come; keep_result 0 keeps none, as handlers return none;
        # a job in hand of a dead worker is free again after job_timeout + 10 s.
        arq.Worker(
            [handle],
            redis_settings=SETTINGS,
            max_jobs=100,
            poll_delay=0.01,
            keep_result=0,
            job_timeout=10,
            log_results=False,
        ).run()


ADAPTER = Arq()
