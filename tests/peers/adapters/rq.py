# /// script
# dependencies = ["rq==3.0.0", "redis[hiredis]==8.1.0"]
# [tool.peers]
# title = "RQ"
# settings = """
# SimpleWorker with a scheduler, result_ttl 0 (default 500 s), job_timeout 10 s (180 s), Retry 3
# (0), maintenance interval 5 s (10 min), no descriptions"""
# words = """
# Results, dependencies, webhooks, cron, dashboards; each message in a process of its own by
# default (not here). Delay in whole seconds, cut off: early. No order. A killed SimpleWorker's
# messages come back after job_timeout + 60 s."""
# ///
"""RQ. "Performance notes" in its documentation of workers names SimpleWorker, which handles what
comes in its own process, where the default forks for each."""

import os
from datetime import datetime

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from tests.peers import handler
from tests.peers.speak import Adapter, Body

client = Redis.from_url(os.environ["PEERS_URL"])
queue = Queue("peers", connection=client)
# result_ttl 0 keeps no result; a description would be made from the body for each message.
OPTIONS = {"result_ttl": 0, "job_timeout": 10, "description": "handle"}


def handle(body: Body) -> None:
    handler.handle_blocking(body)


class Rq(Adapter):
    async def publish(self, body: Body) -> None:
        queue.enqueue(handle, args=(body,), retry=Retry(3), **OPTIONS)

    async def publish_many(self, bodies: list[Body]) -> None:
        many = [
            Queue.prepare_data(
                handle, (body,), timeout=10, result_ttl=0, description="handle", retry=Retry(3)
            )
            for body in bodies
        ]
        queue.enqueue_many(many)

    async def schedule(self, body: Body, due: datetime) -> None:
        queue.enqueue_at(due, handle, args=(body,), retry=Retry(3), **OPTIONS)

    def consume(self) -> None:
        worker = SimpleWorker([queue], connection=client, maintenance_interval=5)
        worker.log_job_description = False
        worker.work(with_scheduler=True, logging_level="WARNING")


ADAPTER = Rq()
