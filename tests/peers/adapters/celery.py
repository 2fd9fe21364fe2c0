# /// script
# dependencies = ["celery[redis]==5.7.0", "redis[hiredis]==8.1.0"]
# [tool.peers]
# title = "Celery"
# settings = """
# pool of 4 threads (default prefork), worker_prefetch_multiplier 128 (default 4),
# task_ignore_result, task_acks_late, visibility_timeout 15 s (1 h), looked at each second
# (100 s); no gossip, mingle, heartbeat"""
# words = """
# Many brokers, canvas of chains and chords, results, cron, a dashboard (Flower), events. Delayed
# messages wait in a worker's memory; those due after visibility_timeout are delivered again and
# again. No order. A killed worker's messages come back after visibility_timeout. No bulk."""
# ///
"""Celery. "Optimizing" advises a prefetch of 64 or 128 for many short tasks, "Tasks" to ignore
results that nobody reads, "Using Redis" tells of visibility_timeout, which needs acks_late."""

import os
from datetime import datetime

from celery import Celery

from tests.peers import handler
from tests.peers.speak import Adapter, Body

app = Celery("peers", broker=os.environ["PEERS_URL"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
    # An unacknowledged message comes back after visibility_timeout; the other two decide how
    # often that is looked at, and are advised with a low one.
    broker_transport_options={
        "visibility_timeout": 15,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(name="handle")
def handle(body: Body) -> None:
    handler.handle_blocking(body)


class CeleryAdapter(Adapter):
    async def publish(self, body: Body) -> None:
        handle.delay(body)

    async def schedule(self, body: Body, due: datetime) -> None:
        handle.apply_async((body,), eta=due)

    def consume(self) -> None:
        # One process, so threads: the pool for handlers that wait.
        threads = ["--pool", "threads", "--concurrency", "4"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", *threads, "--loglevel", "WARNING", *quiet])


ADAPTER = CeleryAdapter()
