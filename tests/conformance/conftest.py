"""The same tests on a primary that Sentinels watch, and on a Cluster."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from delayq import Server
from delayq.lease import LeaseStore
from tests.clusters import RealCluster, RealSentinels
from tests.conftest import KEYS


@pytest.fixture(scope="session", params=[RealSentinels, RealCluster], ids=["sentinel", "cluster"])
def many_servers(request: pytest.FixtureRequest) -> Iterator[Any]:
    servers = request.param(dead_after_ms=60_000)  # no failover here, however slow the machine
    try:
        anyio.run(servers.start)
        yield servers
    finally:
        servers.close()


@pytest.fixture
async def server(many_servers: RealSentinels | RealCluster) -> AsyncIterator[Server]:
    server = Server(many_servers.url)
    async with server.client() as client:
        await client.flushall()
    yield server


@pytest.fixture
async def store(server: Server) -> AsyncIterator[LeaseStore]:
    async with server.link("test") as link:
        yield LeaseStore(link.anchor, KEYS, "c1", 10)
