"""The thread that renews leases, with holders whose loop seems to be blocked."""

import threading
import time
from collections.abc import Callable, Iterator

import anyio
import pytest

from delayq import Server
from delayq.heartbeat import Heartbeat
from delayq.lease import Lease, LeaseStore
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client

PATIENCE_S = 5.0
NEVER = float("inf")
Watch = Callable[["Holder"], None]


class Holder:
    """Holds a lease, and shows no sign of life since `beat_due`."""

    code: object = None
    connection = "0"

    def __init__(self, lease: Lease, *, blocked: bool, failing: bool = False) -> None:
        self.lease = lease
        self.looked_at, self.is_renewed = threading.Event(), threading.Event()
        self.due_at = time.monotonic() if blocked else NEVER
        self._failing = failing
        self.told = 0

    def beat_due(self) -> float:
        self.looked_at.set()
        return self.due_at

    def renewed(self, lease: Lease) -> None:
        self.lease = lease
        self.is_renewed.set()

    def blocked(self, at: str, *, own: bool) -> None:
        self.told += 1
        if self._failing:
            raise ValueError(f"nobody can be told of {at}, {own}")


async def lease(client: Client, name: str, ttl_s: float) -> Lease:
    taken = await LeaseStore(Anchor(client), KEYS, name, ttl_s).acquire(KEYS.lease(name))
    assert isinstance(taken, Lease)
    return taken


@pytest.fixture
def watch(server: Server) -> Iterator[Watch]:
    heartbeat = Heartbeat()
    ends: list[Callable[[], None]] = []
    yield lambda holder: ends.append(heartbeat.watch(holder, server))
    for end in ends:
        end()


async def test_a_lease_shorter_than_those_watched_before_is_looked_at_in_time(
    client: Client, watch: Watch
) -> None:
    long = Holder(await lease(client, "long", 600), blocked=False)
    watch(long)
    assert long.looked_at.wait(PATIENCE_S)
    short = Holder(await lease(client, "short", 10), blocked=True)
    watch(short)
    assert short.is_renewed.wait(PATIENCE_S)


async def test_a_holder_that_fails_to_tell_costs_the_others_nothing(
    client: Client, watch: Watch
) -> None:
    failing = Holder(await lease(client, "failing", 10), blocked=True, failing=True)
    watch(failing)
    assert failing.looked_at.wait(PATIENCE_S)
    other = Holder(await lease(client, "other", 10), blocked=True)
    watch(other)
    assert other.is_renewed.wait(PATIENCE_S)
    assert failing.is_renewed.wait(PATIENCE_S)


async def test_a_loop_that_is_blocked_is_told_of_once_and_its_leases_share_a_connection(
    client: Client, watch: Watch
) -> None:
    async def connections() -> set[str]:
        return {connection["id"] for connection in await client.client_list()}

    before = await connections()
    holders = [Holder(await lease(client, f"l{i}", 10), blocked=True) for i in range(5)]
    for holder in holders:
        watch(holder)
    for holder in holders:
        assert holder.is_renewed.wait(PATIENCE_S)
    assert len(await connections() - before) == 1
    assert sum(holder.told for holder in holders) == 1
    for holder in holders:
        holder.due_at = NEVER
    with anyio.fail_after(PATIENCE_S):
        while await connections() - before:
            pass


async def test_the_one_whose_handler_blocks_is_told_of_it(client: Client, watch: Watch) -> None:
    holders = [Holder(await lease(client, f"l{i}", 10), blocked=False) for i in range(3)]
    for holder in holders:
        watch(holder)

    def block() -> None:
        for holder in holders:
            holder.due_at = time.monotonic()
        assert holders[2].is_renewed.wait(PATIENCE_S)

    holders[1].code = block.__code__
    block()
    assert [holder.told for holder in holders] == [0, 1, 0]
