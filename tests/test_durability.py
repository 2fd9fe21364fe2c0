"""What a publish waits for: the receipt says no more than the server confirmed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import anyio
import pytest

from delayq import (
    BacklogFull,
    CannotConfirm,
    Durability,
    InvalidMessage,
    NotConfirmed,
    Queue,
    Server,
)
from delayq.errors import ServerRefused
from delayq.outgoing import Receipt
from delayq.verify.server import free_port
from tests.conftest import KEYS, Client, MakeQueue
from tests.processes import run
from tests.proxy import losing
from tests.servers import RealServer
from tests.state import messages


class Pair:
    """A primary and its replica."""

    def __init__(self) -> None:
        port = str(free_port())
        self.primary = RealServer("--port", port, "--repl-diskless-sync-delay", "0")
        self.replica = RealServer("--replicaof", "127.0.0.1", port)

    async def __aenter__(self) -> "Pair":
        await self.primary.start()
        await self.replica.start()
        async with Server(self.primary.url).client() as client:
            with anyio.fail_after(20):
                # Before its first word of its own, after a second, a replica confirms nothing.
                while not (await client.info("replication")).get("slave0", {}).get("offset"):
                    await client.wait(2, 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.replica.close()
        self.primary.close()


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Pair]:
    async with Pair() as pair:
        yield pair


@pytest.fixture
async def pair(shared: Pair) -> AsyncIterator[Pair]:
    async with Server(shared.primary.url).client() as client:
        await client.flushall()
        await client.wait(1, 10_000)
    yield shared
    shared.replica.thaw()


@pytest.fixture
async def primary(pair: Pair) -> AsyncIterator[Client]:
    async with Server(pair.primary.url).client() as client:
        yield client


def queue_on(client: Client, **declared: object) -> Queue:
    return Queue(lambda: client, KEYS, **declared)  # type: ignore[arg-type]


@asynccontextmanager
async def alone(*options: str) -> AsyncIterator[Client]:
    """Run a server of its own."""
    server = RealServer(*options)
    await server.start()
    try:
        async with Server(server.url).client() as client:
            yield client
    finally:
        server.close()


async def calls(client: Client, command: str) -> int:
    found: int = (await client.info("commandstats")).get(f"cmdstat_{command}", {}).get("calls", 0)
    return found


async def test_a_replicated_message_is_in_the_replica_when_its_receipt_comes(
    pair: Pair, primary: Client
) -> None:
    queue = queue_on(primary, durability="replicated")
    async with Server(pair.replica.url).client() as replica:
        for number in range(50):
            receipt = await queue.publish(number, delay=number % 2)
            stored = await replica.xlen(KEYS.stream) + await replica.zcard(KEYS.schedule)
            assert (receipt.durability, stored) == ("replicated", number + 1)
    assert (await queue.publish("quick", durability="memory")).durability == "memory"


async def test_what_no_replica_took_in_time_is_there_and_a_repeat_waits_for_it_again(
    pair: Pair, primary: Client
) -> None:
    queue = queue_on(primary, durability="replicated", patience_s=0.5)
    await queue.publish("before")
    pair.replica.freeze()
    for _ in range(3):
        with (
            anyio.fail_after(queue.patience_s + 0.2),
            pytest.raises(NotConfirmed, match=r"^x: not replicated in time; .* same id"),
        ):
            await queue.publish("x", id="x")
    assert not (await queue.publish("quick", durability="memory")).duplicate
    pair.replica.thaw()
    receipt = await replace(queue.bound_to(primary), patience_s=20).publish("x", id="x")
    assert receipt == Receipt("x", receipt.due_ms, duplicate=True, durability="replicated")
    assert (await messages(primary))["ready"].count("x") == 1
    async with Server(pair.replica.url).client() as replica:
        assert await replica.xlen(KEYS.stream) == 3


@pytest.mark.parametrize("delay", [None, 86_400])
async def test_a_repeat_by_another_process_is_not_confirmed_by_what_that_one_wrote(
    pair: Pair, primary: Client, delay: float | None
) -> None:
    await queue_on(primary).publish("warm", durability="replicated")
    pair.replica.freeze()
    await queue_on(primary).publish("x", id="x", delay=delay)
    async with Server(pair.primary.url).client() as other:
        with pytest.raises(NotConfirmed):
            await queue_on(other, patience_s=0.3, durability="replicated").publish("x", id="x")


async def test_publishes_at_the_same_time_share_the_wait(primary: Client) -> None:
    queue = queue_on(primary, durability="replicated")
    await queue.publish("warm")
    before = await calls(primary, "wait")
    async with anyio.create_task_group() as publishing:
        for number in range(500):
            publishing.start_soon(queue.publish, number)
    assert await calls(primary, "wait") - before <= 4
    assert await primary.xlen(KEYS.stream) == 501


async def test_a_repeat_waits_for_its_first_try_also_at_maxmemory(
    pair: Pair, primary: Client
) -> None:
    hasty = queue_on(primary, durability="replicated", patience_s=0.5)
    pair.replica.freeze()
    with pytest.raises(NotConfirmed):
        await hasty.publish("x", id="x")
    await primary.config_set("maxmemory", 1)
    try:
        pair.replica.thaw()
        patient = replace(hasty.bound_to(primary), patience_s=20)
        assert (await patient.publish("x", id="x")).duplicate
    finally:
        await primary.config_set("maxmemory", 0)


async def test_publish_many_says_how_many_are_confirmed(pair: Pair, primary: Client) -> None:
    queue = queue_on(primary, patience_s=0.5)
    receipts = await queue.publish_many(range(300), durability="replicated")
    assert {receipt.durability for receipt in receipts} == {"replicated"}
    pair.replica.freeze()
    with pytest.raises(NotConfirmed, match="0 of 300 were confirmed"):
        await queue.publish_many(range(300), durability="replicated")


async def test_what_is_refused_in_a_call_is_refused_and_the_others_are_confirmed(
    pair: Pair, primary: Client
) -> None:
    queue = queue_on(primary, max_backlog=5, durability="replicated", patience_s=0.5)
    found: list[object] = []

    async def publish(number: int) -> None:
        try:
            found.append((await queue.publish(number)).durability)
        except (BacklogFull, NotConfirmed) as error:
            found.append(type(error))

    async def publish_all(count: int) -> None:
        async with anyio.create_task_group() as publishing:
            for number in range(count):
                publishing.start_soon(publish, number)

    await publish_all(7)
    assert sorted(map(str, found)) == sorted(map(str, ["replicated"] * 5 + [BacklogFull] * 2))
    await queue.purge("ready")
    pair.replica.freeze()
    found.clear()
    await publish_all(7)
    assert sorted(map(str, found)) == sorted(map(str, [NotConfirmed] * 5 + [BacklogFull] * 2))


async def test_a_script_that_the_server_forgot_is_sent_again_and_confirmed(primary: Client) -> None:
    queue = queue_on(primary, durability="replicated")
    await queue.publish(1)
    await primary.script_flush()
    assert (await queue.publish(2)).durability == "replicated"
    assert await primary.xlen(KEYS.stream) == 2


async def test_a_publisher_cancelled_while_it_waits_leaves_no_answer_to_others(
    pair: Pair, primary: Client
) -> None:
    queue = queue_on(primary, patience_s=20)
    await queue.publish("warm", durability="replicated")
    pair.replica.freeze()
    async with anyio.create_task_group() as publishing:
        with anyio.move_on_after(0.1):
            await queue.publish("cut", id="cut", durability="replicated")
        publishing.start_soon(lambda: queue.publish("next", id="next", durability="replicated"))
        for number in range(20):
            assert (await queue.publish(number, id=f"n{number}")).id == f"n{number}"
        pair.replica.thaw()
    ready = (await messages(primary))["ready"]
    assert sorted(ready[1:]) == sorted(["cut", "next", *(f"n{number}" for number in range(20))])


async def test_a_confirmation_that_is_lost_is_asked_for_again(
    pair: Pair, primary: Client, tmp_path: Path
) -> None:
    async with losing(pair.primary.socket, tmp_path / "s", every=3) as proxy:
        async with Server(f"unix://{tmp_path}/s").client() as client:
            queue = queue_on(client, durability="replicated", patience_s=20)
            ids = [(await queue.publish(number)).id for number in range(30)]
        assert proxy.lost >= 10
    assert (await messages(primary))["ready"] == ids


async def test_a_message_is_flushed_to_disk_when_its_receipt_says_so() -> None:
    async with alone("--appendonly", "yes", "--appendfsync", "always") as client:
        if "waitaof" not in await client.command():
            pytest.skip("this server has no WAITAOF")
        queue = queue_on(client, durability="fsynced")
        await queue.publish("warm", durability="memory")
        assert (await queue.publish("x", id="x")).durability == "fsynced"
        assert (await queue.publish("x", id="x")).durability == "fsynced"
        assert await calls(client, "waitaof") == 2


async def test_a_server_that_keeps_no_file_cannot_confirm_that_it_was_flushed(
    client: Client, queue: Queue
) -> None:
    if "waitaof" not in await client.command():
        pytest.skip("this server has no WAITAOF")
    with pytest.raises(CannotConfirm, match=r"appendonly is off.*is there, in memory"):
        await queue.publish(1, durability="fsynced")
    assert await client.xlen(KEYS.stream) == 1


async def test_a_server_that_is_too_old_to_confirm_is_named_with_what_would_do() -> None:
    async with alone() as client:
        known = "waitaof" in await client.command()
    async with alone(*(("--rename-command", "WAITAOF", "") if known else ())) as client:
        with pytest.raises(CannotConfirm, match=r"Redis 7\.2 or Valkey has"):
            await queue_on(client).publish(1, durability="fsynced")


async def test_a_durability_that_there_is_not_is_refused(
    queue: Queue, make_queue: MakeQueue
) -> None:
    for wrong in ("replicate", ["memory"]):
        with pytest.raises(InvalidMessage, match="durability: one of memory, replicated, fsynced"):
            await queue.publish(1, durability=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="durability"):
            make_queue(durability=wrong)


async def test_a_user_who_may_not_ask_is_told_so(server: Server, client: Client) -> None:
    await client.execute_command("ACL SETUSER", "p", "reset", "on", ">s", "~*", "+@all", "-wait")
    async with Server(server.url.replace("unix://", "unix://p:s@")).client() as limited:
        with pytest.raises(ServerRefused, match="wait"):
            await queue_on(limited).publish(1, durability="replicated")
    await client.execute_command("ACL DELUSER", "p")


async def test_the_command_waits_and_says_what_was_confirmed(pair: Pair) -> None:
    words = ("publish", "orders", "1", "--id", "x", "--durability", "replicated")
    said = run(*words, DELAYQ_REDIS_URL=pair.primary.url)
    assert (said.returncode, said.stdout.split(",")[:2]) == (0, ["x accepted", " replicated"])
    pair.replica.freeze()
    said = run(*words, DELAYQ_REDIS_URL=pair.primary.url)
    assert said.returncode == 3
    assert "not replicated in time" in said.stderr


def test_each_durability_is_tried_here() -> None:
    assert set(get_args(Durability)) == {"memory", "replicated", "fsynced"}


async def test_the_command_names_the_message_that_was_not_confirmed_and_what_is_missing() -> None:
    server = RealServer()
    await server.start()
    words = ("publish", "orders", "1", "--namespace", "test", "--durability")
    lone = run(*words, "replicated", DELAYQ_REDIS_URL=server.url)
    kept = run(*words, "fsynced", "--id", "a", DELAYQ_REDIS_URL=server.url)
    async with Server(server.url).client() as client:
        there = (await queue_on(client).list("ready")).records[0]
    server.close()
    assert (lone.returncode, kept.returncode) == (3, 3)
    assert lone.stderr.startswith(f"delayq: {there.id}: not replicated in time; ")
    assert lone.stderr.endswith("; the server has no replica\n")
    assert kept.stderr.startswith("delayq: a: durability fsynced: ")
