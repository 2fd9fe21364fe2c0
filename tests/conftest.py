import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import settings

from delayq import LaneKeys, Queue, Retry, Server
from delayq.lease import Lease, LeaseStore
from delayq.pending import Pending
from delayq.queue import OnDue, Ordering
from delayq.schedule import Schedule
from delayq.transport.anchor import Anchor
from tests.processes import Running, run
from tests.sample import ledger
from tests.servers import RealServer
from tests.shops import SHOP, Start
from tests.sides import Side, side

for name in [name for name in os.environ if name.startswith("DELAYQ_")]:
    del os.environ[name]

settings.register_profile("long", max_examples=2_000)

KEYS = LaneKeys("test", "orders")
MakeQueue = Callable[..., Queue]
Client = Any
"""A client of redis-py, whose types know of answers that RESP 2 never gives."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs a command, on the server of a test."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def real_server() -> Iterator[RealServer]:
    server = RealServer("--appendonly", "no")
    anyio.run(server.start)
    yield server
    server.close()


@pytest.fixture
async def server(real_server: RealServer) -> AsyncIterator[Server]:
    server = Server(real_server.url)
    async with server.client() as client:
        await client.flushall()
        await client.config_set("maxmemory", "0")
    yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with server.client("test") as client:
        yield client


@pytest.fixture
def make_queue(client: Client) -> MakeQueue:
    def make(
        ordering: Ordering = "strict",
        retry: Retry | None = None,
        on_due: OnDue | None = None,
        **declared: Any,
    ) -> Queue:
        return Queue(
            lambda: client,
            KEYS,
            ordering,
            retry or Retry(base_ms=1, cap_ms=1),
            on_due=on_due,
            **declared,
        )

    return make


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    return make_queue()


@pytest.fixture
def schedule(queue: Queue) -> Schedule:
    return Schedule(queue)


@pytest.fixture
async def pending(queue: Queue) -> Pending:
    pending = Pending(queue)
    await pending.ensure_group()
    return pending


@pytest.fixture
def store(client: Client) -> LeaseStore:
    return LeaseStore(Anchor(client), KEYS, "c1", 10)


@pytest.fixture
async def lease(store: LeaseStore) -> Lease:
    lease = await store.acquire(KEYS.lease())
    assert isinstance(lease, Lease)
    return lease


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    ledger.create(path)
    return path


@pytest.fixture
def start(server: Server, book: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start(name: str, **variables: str) -> Running:
        given = {"DELAYQ_REDIS_URL": server.url, "SHOP_LEDGER": str(book), "DELAYQ_NAME": name}
        started.append(Running("run", SHOP, **given | variables))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def operate(server: Server) -> Run:
    def operate(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        at = {"DELAYQ_REDIS_URL": server.url, "DELAYQ_NAMESPACE": "test"}
        said = run(*words, **(at | variables))
        assert "Traceback" not in said.stderr
        return said

    return operate


@pytest.fixture
async def ours(client: Client, queue: Queue) -> Side:
    return await side(client, queue)


@pytest.fixture
async def theirs(client: Client, queue: Queue) -> Side:
    return await side(client, queue.group("billing", ordering="strict"))
