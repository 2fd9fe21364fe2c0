# /// script
# dependencies = ["huey==3.5.4", "redis[hiredis]==8.1.0"]
# [tool.peers]
# title = "Huey"
# settings = """
# RedisHuey with blocking reads, 4 threads (default 1), results off, scheduler interval 1 s (the
# least)"""
# words = """
# Postgres, SQLite or files instead of Redis, results, locks, rate limits, chains, priorities,
# cron, Django's admin. Delay looked up each second. No order. No acknowledgement: what a killed
# consumer had in hand is lost. No bulk."""
# ///
"""Huey. Its documentation has the options under "Consuming tasks"."""

import logging
import os
from datetime import datetime

from huey import RedisHuey

from tests.peers import handler
from tests.peers.speak import Adapter, Body

huey = RedisHuey("peers", url=os.environ["PEERS_URL"], results=False, blocking=True)


@huey.task(name="handle")
def handle(body: Body) -> None:
    handler.handle_blocking(body)


class Huey(Adapter):
    async def publish(self, body: Body) -> None:
        handle(body)

    async def schedule(self, body: Body, due: datetime) -> None:
        handle.schedule((body,), eta=due)

    def consume(self) -> None:
        logging.getLogger("huey").setLevel(logging.ERROR)
        huey.create_consumer(workers=4, worker_type="thread", scheduler_interval=1).run()


ADAPTER = Huey()
