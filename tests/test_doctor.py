"""The doctor: each thing that is wrong is found, named with its remedy, and left as it is."""

from typing import Any

import pytest

from delayq import LaneKeys, Queue, Server
from delayq.doctor import Finding, examine_queue, examine_server
from delayq.keys import GROUP
from delayq.lease import Lease
from delayq.pending import Pending
from delayq.share import Members
from tests.conftest import KEYS, Client
from tests.processes import run
from tests.state import dump


async def of_the_queue(client: Client) -> list[Finding]:
    before = await dump(client)
    findings = await of_the_queue_as(client)
    assert await dump(client) == before
    return findings


async def of_the_queue_as(client: Client) -> list[Finding]:
    return [finding async for finding in examine_queue(client, [KEYS])]


async def of_the_server(client: Client) -> list[Finding]:
    return [finding async for finding in examine_server(client, "test")]


async def found(client: Client, text: str) -> Finding:
    [finding] = [finding for finding in await of_the_queue(client) if text in finding.said]
    assert finding.remedy
    return finding


async def test_a_queue_in_good_order_is_ok(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish(1)
    await queue.publish(1, delay=60)
    await pending.fetch(lease, "-", 1)
    [finding] = await of_the_queue(client)
    assert (finding.level, finding.about) == ("ok", "orders")
    assert "1 scheduled, 0 ready, 1 pending" in finding.said


async def test_what_consumers_share_their_lanes_by_is_in_good_order(
    client: Client, queue: Queue
) -> None:
    for keys in (KEYS, queue.group("billing").keys):
        await Members(client, keys, "c1").attend()
        assert await client.exists(keys.members)
        findings = [finding async for finding in examine_queue(client, [keys])]
        assert [finding.level for finding in findings] == ["ok"]


async def test_nothing_at_all_is_ok(client: Client) -> None:
    assert [finding.level for finding in await of_the_queue(client)] == ["ok"]


async def test_what_is_due_and_stays_scheduled_lacks_a_poller(client: Client) -> None:
    seconds, _ = await client.time()
    await client.zadd(KEYS.schedule, {"000000000001a": seconds * 1000 - 3_000})
    assert [finding.level for finding in await of_the_queue(client)] == ["ok"]
    await client.zadd(KEYS.schedule, {"000000000002b": seconds * 1000 - 60_000})
    finding = await found(client, "no poller")
    assert (finding.level, "`python -m delayq run " in finding.remedy) == ("problem", True)


async def test_messages_that_are_ready_and_nobody_handles_are_a_problem(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    seconds, _ = await client.time()
    await queue.publish(1)
    assert {finding.level for finding in await of_the_queue(client)} == {"ok"}
    await client.xtrim(KEYS.stream, maxlen=0)
    await client.delete(KEYS.stream)
    await client.xadd(KEYS.stream, {"body": "1"}, f"{seconds * 1000 - 60_000}-1")
    assert (await found(client, "no consumer is running")).level == "problem"
    await pending.ensure_group()
    assert (await found(client, "no consumer is running")).level == "problem"
    await client.xgroup_createconsumer(KEYS.stream, GROUP, lease.holder)
    assert {finding.level for finding in await of_the_queue(client)} == {"ok"}


async def test_a_halted_lane_and_parked_keys_are_told(client: Client) -> None:
    await client.hset(KEYS.halted, mapping={"id": "m7", "reason": "max deliveries"})
    assert (await found(client, "halted at m7: max deliveries")).level == "problem"
    await client.hset(KEYS.parked, "k", "m8")
    assert (await found(client, "1 keys wait")).level == "warning"


async def test_every_key_of_the_wrong_type_is_named(client: Client) -> None:
    for key in KEYS.all:
        await client.geoadd(key, [0, 0, "x"]) if key not in (
            *(KEYS.schedule, KEYS.recent, KEYS.waiting, KEYS.standby, KEYS.members),
        ) else await client.set(key, "x")
    findings = await of_the_queue(client)
    assert {finding.level for finding in findings} == {"problem"}
    assert [key for key in KEYS.all if any(key in f.said for f in findings)] == KEYS.all


@pytest.mark.parametrize("part", ["stream", "schedule", "bodies", "dead", "epoch"])
async def test_a_key_that_expires_is_a_problem(
    client: Client, queue: Queue, lease: Lease, part: str
) -> None:
    await queue.publish(1)
    await queue.publish(1, delay=60)
    await client.xadd(KEYS.dead, {"body": "1"})
    assert lease.epoch
    await client.pexpire(getattr(KEYS, part), 60_000)
    assert (await found(client, "expires")).level == "problem"


async def test_foreign_and_lost_consumers_are_told(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    for number in range(3):
        await queue.publish(number)
    await pending.fetch(lease, "-", 1)
    await client.xreadgroup(GROUP, "foreign", {KEYS.stream: ">"}, count=1)
    await client.xreadgroup(GROUP, "c9@123", {KEYS.stream: ">"}, count=1)
    assert "foreign" in (await found(client, "no consumer of delayq")).said
    assert "c9@123" in (await found(client, "no lease")).said
    await client.hset(KEYS.lease("c9"), "holder", "c9@123")
    assert len(await of_the_queue(client)) == 1


async def test_a_clock_that_stepped_back_is_told(client: Client) -> None:
    seconds, _ = await client.time()
    await client.set(KEYS.epoch, (seconds + 3600) * 1000)
    assert (await found(client, "stepped back")).level == "warning"


async def test_a_message_that_is_delivered_for_ever_is_told(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    await queue.publish(1, id="a")
    for _ in range(6):
        await pending.fetch(lease, "-", 1)
    assert "a was delivered 6 times" in (await found(client, "not settled")).said


async def test_a_server_in_good_order_has_no_problem(client: Client) -> None:
    before = await dump(client)
    findings = await of_the_server(client)
    assert not [finding for finding in findings if finding.level == "problem"]
    assert [f.level for f in findings if "append-only" in f.said] == ["warning"]
    assert any("may do what the roles need" in finding.said for finding in findings)
    assert await dump(client) == before


async def test_eviction_and_persistence_are_looked_at(client: Client) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await client.config_set("appendonly", "yes")
    try:
        said = {f.said: f.level for f in await of_the_server(client)}
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("appendonly", "no")
    assert [level for text, level in said.items() if "allkeys-lru" in text] == ["problem"]
    assert [level for text, level in said.items() if text.startswith("append-only")] == ["ok"]


@pytest.mark.parametrize(
    ("refused", "level", "rules"),
    [
        ("CLIENT LIST", "warning", ("-client", "+client|id", "+client|setname")),
        ("INFO", "warning", ("-info",)),
        ("EVALSHA", "problem", ("-evalsha",)),
        ("TIME", "problem", ("-time",)),
    ],
)
async def test_what_is_not_permitted_is_named(
    server: Server, client: Client, refused: str, level: str, rules: tuple[str, ...]
) -> None:
    rules = ("on", ">secret", "allkeys", "allchannels", "+@all", *rules)
    await client.execute_command("ACL SETUSER", "small", *rules)
    try:
        limited = Server(server.url.replace("unix://", "unix://small:secret@"))
        async with limited.client() as theirs:
            findings = await of_the_server(theirs)
    finally:
        await client.execute_command("ACL DELUSER", "small")
    [finding] = [finding for finding in findings if "not permitted" in finding.said]
    assert finding.said.startswith(refused)
    assert (finding.level, bool(finding.remedy)) == (level, True)


@pytest.mark.parametrize("refused", ["evalsha", "type", "pttl", "get"])
async def test_a_queue_that_may_not_be_looked_at_is_told(
    server: Server, client: Client, refused: str
) -> None:
    rules: list[Any] = ["on", ">secret", "allkeys", "allchannels", "+@all", f"-{refused}"]
    await client.execute_command("ACL SETUSER", "small", *rules)
    try:
        limited = Server(server.url.replace("unix://", "unix://small:secret@"))
        async with limited.client() as theirs:
            [finding] = await of_the_queue_as(theirs)
    finally:
        await client.execute_command("ACL DELUSER", "small")
    assert (finding.level, "cannot be looked at" in finding.said) == ("warning", True)


async def test_the_command_exits_with_1_where_there_is_a_problem(
    server: Server, client: Client, queue: Queue
) -> None:
    await queue.register()
    await Queue(lambda: client, LaneKeys("test", "bills")).register()
    at = {"DELAYQ_REDIS_URL": server.url, "DELAYQ_NAMESPACE": "test"}
    assert run("doctor", **at).returncode == 0
    await client.hset(KEYS.halted, "id", "m7")
    said = run("doctor", **at)
    assert (said.returncode, "PROBLEM orders: halted at m7" in said.stdout) == (1, True)
    assert run("doctor", "bills", **at).returncode == 0
    await client.hset("test:lanes", "no name", 1)
    assert "no name" in run("doctor", **at).stdout
    assert LaneKeys("test", "orders") == KEYS


@pytest.mark.parametrize(("share", "level"), [(3.0, "ok"), (1.1, "warning"), (0.5, "problem")])
async def test_memory_that_is_nearly_full_is_told_before_it_is_full(
    client: Client, share: float, level: str
) -> None:
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", round(used * share))
    [finding] = [f for f in await of_the_server(client) if "of maxmemory" in f.said]
    assert (finding.level, bool(finding.remedy)) == (level, level != "ok")


async def test_the_server_is_named_as_what_it_is(client: Client) -> None:
    about = await client.info("server")
    named = ("Valkey", about["valkey_version"]) if "valkey_version" in about else ("Redis", "")
    said = [finding.said async for finding in examine_server(client, "test")]
    assert said[0].startswith(" ".join(named))


async def test_a_clock_that_is_right_is_not_said_to_be_a_negative_zero_off(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def offset_ms(_client: object) -> float:
        return -0.3

    monkeypatch.setattr("delayq.doctor.clock_offset_ms", offset_ms)
    said = [finding.said async for finding in examine_server(client, "test")]
    assert "the server's clock is +0 ms from this host's" in said
