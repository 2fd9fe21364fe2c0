# /// script
# dependencies = []
# [tool.peers]
# title = "raw redis-py loop"
# settings = "XADD; 500 XADD in one script; XREADGROUP 500, decode, await, XACK + XDEL"
# words = "What the client and the server cost by themselves: no delay, no retries, no failover."
# ///
"""The limit: what redis-py can do at all, without a queue around it."""

import asyncio
import json
import os
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from tests.peers.handler import handle
from tests.peers.speak import Adapter, Body

STREAM, GROUP, COUNT = "raw", "group", 500
ADD_MANY = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'body', ARGV[i]) end"


class Raw(Adapter):
    async def open(self) -> None:
        self.client = Redis.from_url(os.environ["PEERS_URL"])
        self.add_many = self.client.register_script(ADD_MANY)

    async def publish(self, body: Body) -> None:
        await self.client.xadd(STREAM, {"body": json.dumps(body, separators=(",", ":"))})

    async def publish_many(self, bodies: list[Body]) -> None:
        await self.add_many([STREAM], [json.dumps(b, separators=(",", ":")) for b in bodies])

    async def schedule(self, body: Body, due: datetime) -> None:
        raise NotImplementedError

    def consume(self) -> None:
        asyncio.run(self.drain())

    async def drain(self) -> None:
        client: Any = Redis.from_url(os.environ["PEERS_URL"], protocol=2)
        await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        while True:
            read = await client.xreadgroup(GROUP, "c", {STREAM: ">"}, count=COUNT, block=1000)
            for _, entries in read:
                for _, fields in entries:
                    await handle(json.loads(fields[b"body"]))
                ids = [entry_id for entry_id, _ in entries]
                pipe = client.pipeline(transaction=False)
                await pipe.xack(STREAM, GROUP, *ids).xdel(STREAM, *ids).execute()


ADAPTER = Raw()
