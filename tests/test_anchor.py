"""The sign of life, asked for by many."""

from pathlib import Path

import anyio
import pytest

from delayq import Server
from delayq.connection import outlast
from delayq.transport.anchor import Anchor, Lookout
from delayq.verify.proxy import Proxy, before
from tests.conftest import Client


async def test_many_who_ask_at_once_are_answered_by_one_call(
    server: Server, client: Client
) -> None:
    connection = str(await client.client_id())
    answers: list[set[str]] = []

    async def ask(anchor: Anchor, ids: list[str]) -> None:
        answers.append(await anchor.gone(ids))

    async with server.link("many") as link:
        await link.anchor.gone([connection, "1000000000"])
        await client.config_resetstat()
        async with anyio.create_task_group() as asking:
            for _ in range(50):
                asking.start_soon(ask, link.anchor, [connection, "1000000000"])
    stats = await client.info("commandstats")
    calls = [at["calls"] for name, at in stats.items() if name.startswith("cmdstat_client|list")]
    assert sum(calls) <= 1
    assert answers == [{"1000000000"}] * 50


async def test_all_leases_learn_at_once_that_the_connection_is_another(
    server: Server, client: Client
) -> None:
    async with server.link("many") as link:
        first = await link.anchor.identity()
        await client.client_kill_filter(_id=first)
        with anyio.fail_after(5):
            while (await outlast(link.anchor.identity)) == first:
                pass
        second = await link.anchor.identity()
        await client.client_kill_filter(_id=second)
        await outlast(lambda: link.anchor.command("PING"))
        found: list[str] = []

        async def name() -> None:
            found.append(await link.anchor.identity())

        async with anyio.create_task_group() as naming:
            for _ in range(20):
                naming.start_soon(name)
        assert set(found).isdisjoint({first, second})
        assert len(set(found)) == 1


async def test_calls_of_many_lanes_do_not_wait_for_each_others_answers(
    server: Server, client: Client, tmp_path: Path
) -> None:
    proxy, answered = Proxy(), list[object]()

    async def call(anchor: Anchor) -> None:
        answered.append(await anchor.command("ECHO", "a"))

    async with (
        before(server.url, proxy, tmp_path / "slow.sock") as url,
        Server(url).link("many") as link,
        anyio.create_task_group() as lanes,
    ):
        await link.anchor.identity()
        proxy.hold("replies")
        await client.config_resetstat()
        for _ in range(16):
            lanes.start_soon(call, link.anchor)
        with anyio.fail_after(2):
            while (await client.info("commandstats")).get("cmdstat_echo", {}).get("calls") != 16:
                pass
        assert not answered
        proxy.heal()
    assert answered == ["a"] * 16


async def test_a_call_whose_caller_goes_away_does_not_close_the_connection(
    server: Server, client: Client
) -> None:
    async with server.link("one") as link:
        first = await link.anchor.identity()
        await client.client_pause(200)
        with anyio.move_on_after(0.05) as leaving:
            await link.anchor.command("PING")
        assert leaving.cancelled_caught
        assert await link.anchor.command("CLIENT ID") == int(first)
        assert await link.anchor.identity() == first


async def test_an_identity_is_asked_for_once(server: Server, client: Client) -> None:
    async with server.link("one") as link:
        first = await link.anchor.identity()
        await client.config_resetstat()
        assert await link.anchor.identity() == first
        assert not await link.anchor.gone([first, "0"])
    stats = await client.info("commandstats")
    assert not [name for name in stats if name.startswith("cmdstat_client|id")]


async def test_whoever_waited_long_for_its_turn_to_ask_is_still_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("delayq.transport.anchor._FORGET_S", -1)
    lists: list[list[str]] = []

    async def listed(ids: list[str]) -> list[str]:
        lists.append(ids)
        return ids

    assert await Lookout(listed).gone({"7"}) == set()
    assert lists == [["7"]]
