# /// script
# dependencies = ["dramatiq[redis]==2.2.1", "redis[hiredis]==8.1.0"]
# [tool.peers]
# title = "dramatiq"
# settings = """
# 1 process, 8 threads, heartbeat_timeout 10 s (default 60 s), maintenance_chance 10 % (0.1 %),
# dramatiq_worker_timeout 50 ms (1 s)"""
# words = """
# RabbitMQ instead of Redis, priorities, rate limits, groups and pipelines, results by a
# middleware. Delayed messages wait in a worker's memory. No order. A killed worker's messages
# come back by chance after heartbeat_timeout. No bulk."""
# ///
"""dramatiq. Its reference of RedisBroker names what decides when a dead worker is noticed."""

import os
import sys
import time
from datetime import datetime

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.peers import handler
from tests.peers.speak import Adapter, Body

# A worker without a heartbeat for heartbeat_timeout ms is offline; so many commands in a million
# look for such workers.
broker = RedisBroker(
    url=os.environ["PEERS_URL"], heartbeat_timeout=10_000, maintenance_chance=100_000
)
dramatiq.set_broker(broker)


@dramatiq.actor
def handle(body: Body) -> None:
    handler.handle_blocking(body)


class Dramatiq(Adapter):
    async def publish(self, body: Body) -> None:
        handle.send(body)

    async def schedule(self, body: Body, due: datetime) -> None:
        delay_ms = max(0, round(due.timestamp() * 1000 - time.time() * 1000))
        handle.send_with_options(args=(body,), delay=delay_ms)

    def consume(self) -> None:
        # How often a worker looks at the delayed messages in its memory, at the least.
        os.environ["dramatiq_worker_timeout"] = "50"  # noqa: SIM112 - it is named so
        one = ["--processes", "1", "--threads", "8"]
        here = "tests.peers.adapters.dramatiq"
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", *one, here])


ADAPTER = Dramatiq()
