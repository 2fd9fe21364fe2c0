"""The roles in processes of their own, against one server: killed, frozen, interrupted."""

import signal
import time
from collections.abc import AsyncIterator

import pytest

from delayq import LaneKeys, Queue, Server
from tests.conftest import Client
from tests.processes import Running, running
from tests.servers import RealServer
from tests.state import emptied

KEYS = LaneKeys("delayq", "failover")


def consumer(server: Server, name: str, *more: str) -> Running:
    words = ("run-demo", "failover", "--only", "consumer", "--name", name, "--handle-ms", "5")
    return Running(*words, *more, "--json", DELAYQ_REDIS_URL=server.url)


@pytest.fixture
async def queue(client: Client) -> AsyncIterator[Queue]:
    yield Queue(lambda: client, KEYS, "strict")


async def publish(queue: Queue, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await queue.publish({"number": number})


async def test_the_roles_of_the_delay_demo_in_three_terminals(
    server: Server, client: Client
) -> None:
    def role(name: str, *more: str) -> Running:
        words = ("run-demo", "delay", "--only", name, "--json", "--delay-ms", "300", *more)
        return Running(*words, DELAYQ_REDIS_URL=server.url)

    consuming, polling = role("consumer"), role("poller")
    try:
        consuming.logged("took over")
        producing = role("producer", "--messages", "60", "--interval-ms", "5")
        published = producing.wait()
        producing.close()
        assert (published["ok"], producing.process.returncode) == (True, 0)
        keys = LaneKeys("delayq", "delay")
        while await client.exists(keys.schedule) or await client.xlen(keys.stream):
            pass
        for command in (consuming, polling):
            command.send(signal.SIGINT)
        handled, corrected = consuming.wait(), polling.wait()
        assert published["published"] == handled["handled"] == 60
        assert handled["corrupted"] == corrected["corrected"] > 10
        assert (handled["duplicates"], handled["early"]) == (0, 0)
        assert consuming.process.returncode == polling.process.returncode == 0
    finally:
        consuming.close()
        polling.close()


async def test_ctrl_c_on_the_active_one_hands_over_to_another_terminal(
    server: Server, client: Client, queue: Queue
) -> None:
    first, second = consumer(server, "c1"), None
    try:
        first.logged("took over")
        second = consumer(server, "c2")
        assert second.logged("stood by")["holder"].startswith("c1@")
        await publish(queue, 1, 50)
        first.logged("acked")
        first.send(signal.SIGINT)
        one = first.wait()
        assert second.logged("took over")["why"] == "released"
        await publish(queue, 51, 60)
        await emptied(client, KEYS.stream)
        second.send(signal.SIGINT)
        two = second.wait()
        assert one["handled"] + two["handled"] == 60
        assert one["duplicates"] == two["duplicates"] == 0
        assert one["out_of_order"] == two["out_of_order"] == 0
        assert first.process.returncode == second.process.returncode == 0
    finally:
        first.close()
        if second:
            second.close()


async def test_a_process_that_is_killed_is_followed_within_milliseconds(
    server: Server, client: Client, queue: Queue
) -> None:
    """Ten kills with a lease of 10 s: the median is far below the lease, and bounded by a poll."""
    took_ms = []
    names = [f"c{number}" for number in range(11)]
    active = consumer(server, names[0], "--lease-ttl-ms", "10000")
    standby = None
    try:
        took = active.logged("took over")
        for number, name in enumerate(names[1:]):
            standby = consumer(server, name, "--lease-ttl-ms", "10000")
            standby.logged("stood by")
            await publish(queue, number * 30 + 1, number * 30 + 30)
            active.logged("acked")
            began = time.monotonic()
            active.send(signal.SIGKILL)
            took = standby.logged("took over")
            standby.logged("acked")
            took_ms.append((time.monotonic() - began) * 1000)
            assert took["why"] == "connection gone"
            assert await client.xlen(KEYS.stream) <= 30
            await emptied(client, KEYS.stream)
            active.close()
            active, standby = standby, None
    finally:
        active.close()
        if standby:
            standby.close()
    assert sorted(took_ms)[5] <= 300, took_ms
    assert took["deleted"]


async def test_a_frozen_waiting_process_wakes_to_nothing(
    server: Server, client: Client, queue: Queue
) -> None:
    """The blocked reader: frozen while it waits, it must not be given a message when it wakes."""
    first, second = consumer(server, "c1", "--lease-ttl-ms", "600"), None
    try:
        first.logged("took over")
        await publish(queue, 1, 3)
        await emptied(client, KEYS.stream)
        second = consumer(server, "c2", "--lease-ttl-ms", "600")
        second.logged("stood by")
        first.send(signal.SIGSTOP)
        assert second.logged("took over")["why"] == "expired"
        await publish(queue, 4, 30)
        place = first.end
        first.send(signal.SIGCONT)
        await emptied(client, KEYS.stream)
        assert first.logged("stood by", after=place)["holder"].startswith("c2@")
        await publish(queue, 31, 40)
        await emptied(client, KEYS.stream)
        for command in (first, second):
            command.send(signal.SIGINT)
        one, two = first.wait(), second.wait()
        assert (one["handled"], two["handled"]) == (3, 37)
        assert one["out_of_order"] == two["out_of_order"] == 0
        assert one["duplicates"] == two["duplicates"] == 0
    finally:
        first.close()
        if second:
            second.close()


async def test_a_process_frozen_in_a_handler_is_refused_when_it_wakes(
    server: Server, client: Client, queue: Queue
) -> None:
    first, second = consumer(server, "c1", "--lease-ttl-ms", "600", "--handle-ms", "100"), None
    try:
        first.logged("took over")
        second = consumer(server, "c2", "--lease-ttl-ms", "600")
        second.logged("stood by")
        await publish(queue, 1, 10)
        first.logged("acked")
        first.send(signal.SIGSTOP)
        second.logged("took over")
        await emptied(client, KEYS.stream)
        place = first.end
        first.send(signal.SIGCONT)
        first.logged("lease ended", after=place)
        for command in (first, second):
            command.send(signal.SIGINT)
        one, two = first.wait(), second.wait()
        assert 10 <= one["handled"] + two["handled"] <= 11
        assert one["out_of_order"] == two["out_of_order"] == 0
    finally:
        first.close()
        if second:
            second.close()


async def test_the_roles_outlast_a_server_that_is_killed() -> None:
    real = RealServer("--appendonly", "yes", "--appendfsync", "always")
    await real.start()
    server = Server(real.url)
    words = ("run-demo", "failover", "--only", "producer", "--json")
    first, second = consumer(server, "c1"), None
    try:
        first.logged("took over")
        second = consumer(server, "c2")
        second.logged("stood by")
        more = ("--messages", "200", "--interval-ms", "10")
        with running(*words, *more, DELAYQ_REDIS_URL=server.url) as producer:
            for _ in range(2):
                producer.logged("published", after=producer.end)
                place = producer.end
                real.kill()
                producer.logged("unreachable", after=place)
                await real.start()
                producer.logged("recovered", after=place)
            assert producer.wait()["published"] == 200
        async with server.client() as client:
            await emptied(client, KEYS.stream)
        for command in (first, second):
            command.send(signal.SIGINT)
        one, two = first.wait(), second.wait()
        assert one["handled"] + two["handled"] >= 200
        assert one["handled"] + two["handled"] - 200 <= 4, "one for each death at the most"
        assert one["out_of_order"] == two["out_of_order"] == 0
    finally:
        first.close()
        if second:
            second.close()
        real.close()
