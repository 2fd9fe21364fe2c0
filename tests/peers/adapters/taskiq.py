# /// script
# dependencies = [
#     "taskiq-redis==1.2.4",
#     "taskiq==0.13.0",
#     "redis[hiredis]==8.1.0",
#     "uvloop==0.23.0",
# ]
# [tool.peers]
# title = "taskiq-redis"
# settings = """
# RedisStreamBroker, 1 worker process, max-async-tasks 100, idle_timeout 10 s (default 10 min),
# unacknowledged_lock_timeout 5 s (none); ListRedisScheduleSource and a scheduler process,
# update-interval 1 s (60 s); uvloop"""
# words = """
# Brokers for other servers, middlewares, dependencies, results, cron. Delay by a process of its
# own, which looks each second. No order. What is pending is claimed by idle time, live or dead,
# and only after a new message. No bulk: 500 awaited at once."""
# ///
"""taskiq with taskiq-redis: the README of taskiq-redis recommends the stream broker where tasks are
to be acknowledged, and ListRedisScheduleSource for schedules."""

import asyncio
import os
import subprocess
import sys
from datetime import datetime

from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from tests.peers import handler
from tests.peers.speak import Adapter, Body

URL = os.environ["PEERS_URL"]
HERE = "tests.peers.adapters.taskiq"
# consumer_id 0 has a new group begin with what was published before it. What stays unacknowledged
# for idle_timeout is claimed; the lock's timeout is advised in case that a claiming worker dies.
broker = RedisStreamBroker(
    URL, consumer_id="0", idle_timeout=10_000, unacknowledged_lock_timeout=5.0
)
source = ListRedisScheduleSource(URL)
scheduler = TaskiqScheduler(broker, [source])


@broker.task(task_name="handle")
async def handle(body: Body) -> None:
    await handler.handle(body)


class Taskiq(Adapter):
    async def open(self) -> None:
        await broker.startup()

    async def publish(self, body: Body) -> None:
        await handle.kiq(body)

    async def publish_many(self, bodies: list[Body]) -> None:
        await asyncio.gather(*[self.publish(body) for body in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        await handle.schedule_by_time(source, due, body)

    def consume(self) -> None:
        quiet = ["--log-level", "WARNING"]
        command = [sys.executable, "-m", "taskiq"]
        every_second = ["--update-interval", "1", "--loop-interval", "1"]
        subprocess.Popen([*command, "scheduler", f"{HERE}:scheduler", *every_second, *quiet])
        one = ["--workers", "1", "--max-async-tasks", "100"]
        os.execv(sys.executable, [*command, "worker", f"{HERE}:broker", *one, *quiet])


ADAPTER = Taskiq()
