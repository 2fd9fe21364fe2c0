"""The wire: each call gets its own answer, whatever becomes of the others."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis import exceptions

from delayq import Server, ServerUnreachable, scripts
from delayq.transport import wire
from tests.conftest import Client
from tests.servers import RealServer

ECHO = "return {ARGV[1], redis.call('INCR', KEYS[1])}"
REFUSE = "return redis.error_reply('LEASELOST ' .. ARGV[1])"


@pytest.fixture
async def own() -> AsyncIterator[RealServer]:
    own = RealServer("--appendonly", "no")
    await own.start()
    yield own
    own.close()


@pytest.fixture
async def wired(own: RealServer) -> AsyncIterator[Client]:
    """Yield a client that is connected to a server of its own."""
    async with Server(own.url).client("wired") as client:
        await echo(client, "before")
        yield client


async def echo(client: Client, word: object) -> Any:
    return await client.execute_command("EVAL", ECHO, 1, "n", word)


async def test_calls_under_way_share_a_connection_and_are_answered_each_in_their_order(
    server: Server,
) -> None:
    async with server.client("wired") as client:
        answers: dict[str, Any] = {}

        async def ask(word: str) -> None:
            answers[word] = await echo(client, word)

        async with anyio.create_task_group() as asking:
            for word in "abcdefgh":
                asking.start_soon(ask, word)
        assert answers == {word: [word, at + 1] for at, word in enumerate("abcdefgh")}
        named = [c for c in await client.client_list() if c["name"] == "wired"]
        assert len(named) == 1, "the wire"


async def test_a_primary_that_became_a_replica_is_connected_to_no_more(wired: Client) -> None:
    before = await wired.client_id()
    await wired.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(exceptions.ResponseError, match="read only replica"):
        await echo(wired, "refused")
    assert await wired.client_id() != before


async def test_whoever_waits_for_a_wire_waits_no_longer_than_for_an_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.1)
    tried = 0

    async def get_connection() -> None:
        nonlocal tried
        tried += 1
        await anyio.sleep(0.06)
        raise exceptions.ConnectionError("in vain")

    async with server.client("wired") as client:
        monkeypatch.setattr(client.connection_pool, "get_connection", get_connection)
        failures: list[Exception] = []

        async def ask() -> None:
            with pytest.raises(exceptions.RedisError) as failed:
                await echo(client, "word")
            failures.append(failed.value)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as asking:
                for _ in range(200):
                    asking.start_soon(ask)
        assert len(failures) == 200
        assert tried < 10, "most had no time left for a try of their own"


async def test_answers_are_read_as_redis_py_reads_them(client: Client) -> None:
    await client.hset("h", mapping={"a": "1"})
    await client.zadd("z", {"b": 2})
    assert await client.hgetall("h") == {"a": "1"}
    assert await client.zrange("z", 0, -1, withscores=True) == [("b", 2)]


async def test_an_error_is_told_to_whom_it_is_the_answer(client: Client) -> None:
    told = list[str]()

    async def ask() -> None:
        with pytest.raises(Exception, match="LEASELOST mine"):
            await client.execute_command("EVAL", REFUSE, 0, "mine")
        told.append("refused")

    async with anyio.create_task_group() as asking:
        asking.start_soon(ask)
        asking.start_soon(echo, client, "other")
    assert told == ["refused"]
    assert (await echo(client, "later"))[0] == "later"


async def test_a_call_that_is_given_up_leaves_its_place_to_its_answer(client: Client) -> None:
    await echo(client, "warm")
    await client.client_pause(200)
    async with anyio.create_task_group() as asking:
        asking.start_soon(echo, client, "given up")
        await anyio.wait_all_tasks_blocked()
        asking.cancel_scope.cancel()
    assert await echo(client, "mine") == ["mine", 3], "both were carried out"


@pytest.mark.parametrize("word", ["ä\udcff", b"\xff", 7])
async def test_words_go_over_as_redis_py_sends_them(client: Client, word: object) -> None:
    sent = str(word) if isinstance(word, int) else word
    sent = sent.decode(errors="surrogateescape") if isinstance(sent, bytes) else sent
    assert (await echo(client, word))[0] == sent


async def unanswered(client: Client, told: list[str]) -> None:
    with pytest.raises(ServerUnreachable):
        await scripts.run(client, "stats", ["k"], [])
    told.append("no answer")


async def test_a_connection_that_is_lost_is_told_to_all_and_the_next_call_has_another(
    own: RealServer, wired: Client
) -> None:
    told = list[str]()
    own.freeze()
    async with anyio.create_task_group() as asking:
        for _ in range(3):
            asking.start_soon(unanswered, wired, told)
        await anyio.wait_all_tasks_blocked()
        own.kill()
    assert len(told) == 3
    await own.start()
    assert await echo(wired, "again") == ["again", 1]


async def test_a_wire_that_was_given_up_takes_no_call_even_before_it_has_heard_of_that(
    wired: Client,
) -> None:
    await echo(wired, "before")
    wired._wire._transport.abort()
    assert (await echo(wired, "at once"))[0] == "at once"


async def test_a_server_that_does_not_answer_is_given_up_in_time(
    own: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.2)
    told = list[str]()
    async with Server(own.url).client() as client:
        await echo(client, "before")
        own.freeze()
        with anyio.fail_after(2):
            await unanswered(client, told)
            await unanswered(client, told)  # now there is no wire to be had
        own.thaw()
        assert (await echo(client, "thawed"))[0] == "thawed"


async def test_a_call_that_is_given_up_late_takes_its_wire_along(
    own: RealServer, wired: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "STUCK_S", 0)
    told = list[str]()
    own.freeze()
    with anyio.fail_after(2):
        async with anyio.create_task_group() as asking:
            asking.start_soon(unanswered, wired, told)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.01):
                await echo(wired, "given up")
    own.thaw()
    assert told == ["no answer"]


@pytest.mark.parametrize("words", [("BLPOP", "list", 0), ("blpop", "list", 0)])
async def test_a_command_that_blocks_holds_up_nobody(
    client: Client, words: tuple[object, ...]
) -> None:
    async with anyio.create_task_group() as blocking:
        blocking.start_soon(lambda: client.execute_command(*words))
        while not (await client.info("clients"))["blocked_clients"]:
            pass
        assert await echo(client, "a") == ["a", 1]
        blocking.cancel_scope.cancel()


async def test_a_command_for_one_connection_changes_no_other(client: Client) -> None:
    await client.set("key", "here")
    await client.execute_command("MULTI")
    assert await client.get("key") == "here"
