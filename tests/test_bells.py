"""The bells of many streams, on few connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from redis.asyncio import Redis

from delayq import Queue, Server
from delayq.connection import Lent
from delayq.scripts import command
from delayq.transport.bell import Bell
from delayq.transport.bells import READERS, Bells
from delayq.transport.link import Link
from tests.conftest import Client
from tests.roles import troupe

LONG_S = 30


async def blocked(client: Client, count: int) -> None:
    """Wait until so many connections are blocked at the server."""
    with fail_after(5):
        while (await client.info("clients"))["blocked_clients"] != count:
            await checkpoint()


class Waits:
    """Bells that are waited for, and those that rang."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.rung: list[str] = []

    def bell(self, stream: str) -> Bell:
        return self._link.bells.bell(stream)

    async def wait(self, bell: Bell) -> None:
        assert await bell.wait(LONG_S)
        self.rung.append(bell.stream)

    async def rang(self, *streams: str) -> None:
        with fail_after(5):
            while set(self.rung) != set(streams):
                await checkpoint()


@pytest.mark.parametrize("permitted", [True, False])
async def test_bells_beyond_the_readers_share_them_and_each_is_heard(
    server: Server, client: Client, *, permitted: bool
) -> None:
    words = ("on", ">pw", "allkeys", "+@all", *(() if permitted else ("-client",)))
    await command(client, "ACL SETUSER", "waiter", *words)
    every = [f"s{number}" for number in range(3 * READERS)]
    streams = every.copy()
    url = f"{server.url}?username=waiter&password=pw"
    async with Server(url).link("waiter") as link, create_task_group() as waiting:
        waits = Waits(link)
        for number, stream in enumerate(streams):
            waiting.start_soon(waits.wait, waits.bell(stream))
            await blocked(client, min(READERS, number + 1))
        while streams:  # the last first: no other has freed a reader by then
            await client.xadd(streams.pop(), {"rung": "1"})
            await waits.rang(*set(every).difference(streams))


async def test_a_bell_for_which_a_reader_is_free_wakes_no_other(
    server: Server, client: Client
) -> None:
    async with server.link("waiter") as link, create_task_group() as waiting:
        await client.config_resetstat()
        waits = Waits(link)
        for stream in ("a", "b"):
            waiting.start_soon(waits.wait, waits.bell(stream))
        for _ in range(5):
            await client.xadd("a", {"rung": "1"})
            await waits.rang("a")
            waits.rung.clear()
            waiting.start_soon(waits.wait, waits.bell("a"))
        for stream in ("a", "b"):
            await client.xadd(stream, {"rung": "1"})
        await waits.rang("a", "b")
    assert "cmdstat_client|unblock" not in await client.info("commandstats")


async def test_an_outage_rings(server: Server, client: Client) -> None:
    streams = [f"s{number}" for number in range(2 * READERS)]
    async with server.link("waiter") as link, create_task_group() as waiting:
        waits = Waits(link)
        for stream in streams:
            waiting.start_soon(waits.wait, waits.bell(stream))
        await blocked(client, 1)
        await client.client_kill_filter(_type="normal", skipme=True)
        await waits.rang(*streams)


async def test_roles_that_ended_leave_no_bell_behind(
    server: Server, client: Client, queue: Queue
) -> None:
    keys = queue.keys
    async with server.link("all") as link:
        async with troupe(Lent(server.url, link), queue) as t:
            await t.active("c1")
            t.poller()
            while {bell.stream for bell in link.bells._armed} != {
                keys.stream,
                keys.vacancy,
                keys.bell,
            }:
                await checkpoint()
        assert not link.bells._armed
        link.bells.begin_anew()
        await blocked(client, 0)


async def test_bells_armed_before_any_reader_has_begun_are_heard(
    server: Server, client: Client
) -> None:
    begun = Event()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Redis]:
        await begun.wait()
        async with server.client(one_connection=True) as reader:
            yield reader

    streams = [f"s{number}" for number in range(READERS + 1)]
    async with server.link("waiter") as link, create_task_group() as reading:
        waits = Waits(replace(link, bells=Bells(reading, client, opened)))
        async with create_task_group() as waiting:
            for stream in streams:
                waiting.start_soon(waits.wait, waits.bell(stream))
            await wait_all_tasks_blocked()
            begun.set()
            for stream in streams:
                await client.xadd(stream, {"rung": "1"})
        assert set(waits.rung) == set(streams)
        reading.cancel_scope.cancel()
