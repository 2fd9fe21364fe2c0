# /// script
# dependencies = ["pydocket==0.27.0", "redis[hiredis]==8.1.0", "uvloop==0.23.0"]
# [tool.peers]
# title = "docket"
# settings = """
# concurrency 100 (default 10), max_connections 200 (100), execution_ttl 0 (15 min),
# redelivery_timeout 10 s (5 min), scheduling_resolution and minimum_check_interval 10 ms (250 ms),
# uvloop"""
# words = """
# Results, progress, dependencies, perpetual tasks, striking out of bad tasks, metrics. No order.
# Messages of a killed worker come back after redelivery_timeout, and up to 31 % of it."""
# ///
"""docket. Its "Docket in Production" advises execution_ttl 0 "for maximum throughput" and names the
settings of a worker; more connections to Redis than messages at once are advised, too."""

import os
from datetime import datetime, timedelta

import uvloop
from docket import Docket, Worker

from tests.peers import handler
from tests.peers.speak import Adapter, Body


async def handle(body: Body) -> None:
    await handler.handle(body)


def docket() -> Docket:
    url = f"{os.environ['PEERS_URL']}?max_connections=200"
    made = Docket("peers", url, execution_ttl=timedelta(0))
    made.register(handle)
    return made


class DocketAdapter(Adapter):
    async def open(self) -> None:
        self.docket = await docket().__aenter__()

    async def publish(self, body: Body) -> None:
        await self.docket.add(handle)(body)

    async def publish_many(self, bodies: list[Body]) -> None:
        await self.docket.add_many([self.docket.call(handle)(body) for body in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        await self.docket.add(handle, when=due)(body)

    def consume(self) -> None:
        uvloop.run(self.work())

    async def work(self) -> None:
        async with (
            docket() as opened,
            Worker(
                opened,
                concurrency=100,
                redelivery_timeout=timedelta(seconds=10),
                minimum_check_interval=timedelta(milliseconds=10),
                scheduling_resolution=timedelta(milliseconds=10),
            ) as worker,
        ):
            await worker.run_forever()


ADAPTER = DocketAdapter()
