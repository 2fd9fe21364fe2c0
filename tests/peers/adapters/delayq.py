# /// script
# dependencies = []
# [tool.peers]
# title = "delayq"
# settings = "concurrency 100, batch 500 (defaults: 10, 100)"
# words = """
# Acknowledged and fenced; order strict, by key or none; delay in ms; retries, dead letters,
# cron; a killed consumer is followed at once. No results, priorities, chains or dashboard; Redis
# only."""
# ///
"""This checkout, as a user would use it."""

import os
from datetime import datetime

import anyio

from delayq import App, Context
from tests.peers.handler import handle
from tests.peers.speak import Adapter, Body

app = App(redis_url=os.environ["PEERS_URL"])
queue = app.queue("peers", dict)


@queue.handler(concurrency=100, batch=500)
async def handler(body: Body, _: Context) -> None:
    await handle(body)


class Delayq(Adapter):
    async def open(self) -> None:
        await app.__aenter__()

    async def publish(self, body: Body) -> None:
        await queue.publish(body)

    async def publish_many(self, bodies: list[Body]) -> None:
        await queue.publish_many(bodies)

    async def schedule(self, body: Body, due: datetime) -> None:
        await queue.publish(body, deliver_at=due)

    def consume(self) -> None:
        anyio.run(app.run)


ADAPTER = Delayq()
