"""The permissions that the README gives each role are enough, and needed."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from delayq import Consumer, LaneKeys, Message, OnFailure, Ordering, Poller, Queue, Retry, Server
from delayq.errors import ServerRefused
from delayq.events import Ended, Halted, TookOver
from delayq.fitness import check
from delayq.supervisor import Supervisor
from delayq.tape import Tape
from tests.conftest import Client
from tests.failing import FAIL, FATAL, KILL, LATER, REJECT, Fatal, resume
from tests.processes import run

README = (Path(__file__).parent.parent / "README.md").read_text()
RULES = dict(re.findall(r"^\| (\w+) \| `(~shop:\* [^`]*)` \|$", README, re.M))
KEYS = LaneKeys("shop", "orders")
FAST = Retry(max_deliveries=30, base_ms=1, cap_ms=1, never=(Fatal,))


def of(server: Server, user: str) -> Server:
    return Server(server.url.replace("unix://", f"unix://{user}:secret@"))


async def allow(client: Client, user: str, rules: str) -> None:
    await client.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", *rules.split())


@pytest.fixture
async def users(client: Client) -> AsyncIterator[None]:
    for role, rules in RULES.items():
        await allow(client, role, rules)
    yield
    await client.execute_command("ACL", "DELUSER", *RULES)


def test_the_readme_has_rules_for_each_role() -> None:
    assert set(RULES) == {"publisher", "poller", "consumer", "operator"}


@pytest.mark.usefixtures("users")
async def test_the_publisher_may_publish_in_every_way(server: Server) -> None:
    publisher = of(server, "publisher")
    assert await check(publisher) == []
    async with publisher.client() as client:
        queue = Queue(lambda: client, KEYS, max_backlog=10_000)
        await queue.publish(1, delay=0.001, key="k", headers={"a": "b"})
        await queue.publish(2, dedup_id="d")
        assert (await queue.publish(3, dedup_id="d")).duplicate
        await queue.publish(4, id="x", delay=60)
        assert (await queue.publish(5, id="x")).duplicate
        while await queue.publish_many([6]) and (await client.zcard(KEYS.schedule)) > 1:
            pass  # a publish moves what is due
        with pytest.raises(ServerRefused):
            await queue.destroy()


async def corrected(message: Message) -> object:
    return message.body


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("on_due", [None, corrected])
async def test_the_poller_may_promote(server: Server, client: Client, on_due: Any) -> None:
    queue = Queue(lambda: client, KEYS, on_due=on_due)
    tape = Tape()
    await queue.publish(1, delay=0.05)
    await client.zadd(KEYS.schedule, {"000000000001bad": 1})
    async with Supervisor(tape) as supervisor:
        supervisor.spawn("poller", lambda: Poller(of(server, "poller"), queue, observe=tape))
        with anyio.fail_after(10):
            while await client.exists(KEYS.schedule):
                assert not tape.of(Ended)
                await anyio.lowlevel.checkpoint()
    assert (await client.xlen(KEYS.stream), await client.xlen(KEYS.dead)) == (1, 1)


class Planned:
    """A handler that does what each body says, once for each of its words."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    async def __call__(self, body: str, _context: Any) -> None:
        done = self.begun.count(body)
        self.begun.append(body)
        words = [word for word in body.split()[1:] if word]
        if done < len(words):
            if words[done] == KILL:
                await anyio.sleep_forever()
            raise {
                FAIL: ValueError("no"),
                LATER: TimeoutError("no"),
                REJECT: Fatal("no"),
                FATAL: Fatal("no"),
            }[words[done]]


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
@pytest.mark.parametrize("policy", ["block", "park", "dead_letter", "halt"])
async def test_the_consumer_may_do_all_that_it_does(
    server: Server, client: Client, ordering: Ordering, policy: OnFailure
) -> None:
    queue = Queue(lambda: client, KEYS, ordering, FAST, policy)
    tape, handler = Tape(), Planned()

    def consumer(name: str) -> Consumer:
        user = of(server, "consumer")
        return Consumer(user, queue, handler, name=name, observe=tape)

    bodies = [f"a {FAIL}", "b", f"c {FATAL}", f"d {KILL}", "e"]
    await queue.publish_many([queue.message(body, key="k") for body in bodies])
    await client.xadd(KEYS.stream, {"nothing": "1"})
    with anyio.fail_after(20):
        async with Supervisor(tape) as supervisor:
            supervisor.spawn("poller", lambda: Poller(of(server, "poller"), queue, observe=tape))
            supervisor.spawn("c1", lambda: consumer("c1"))
            await tape.until(TookOver, "c1")
            supervisor.spawn("c2", lambda: consumer("c2"))
            while f"d {KILL}" not in handler.begun:
                await anyio.lowlevel.checkpoint()
                if await client.exists(KEYS.halted):
                    async with of(server, "operator").client() as operator:
                        await resume(operator, KEYS)
            holding = await client.hget(KEYS.lease(), "holder")
            await supervisor.kill(holding.partition("@")[0] if holding else "c1")
            while await client.exists(KEYS.schedule) or await client.xlen(KEYS.stream):
                await anyio.lowlevel.checkpoint()
                if not tape.of(Halted) or await client.exists(KEYS.halted):
                    async with of(server, "operator").client() as operator:
                        await resume(operator, KEYS)
    assert not [event.error for event in tape.of(Ended) if event.how == "crashed"]
    async with of(server, "operator").client() as operator:
        watched = Queue(lambda: operator, KEYS)
        assert (await watched.stats()).dead >= 1
        await watched.destroy()


@pytest.mark.usefixtures("users")
async def test_where_client_is_forbidden_a_dead_one_is_followed_when_its_lease_is_over(
    server: Server, client: Client
) -> None:
    await allow(client, "consumer", RULES["consumer"].replace("+client", "-client"))
    queue, tape, handler = Queue(lambda: client, KEYS, "strict"), Tape(), Planned()
    async with Supervisor(tape) as supervisor:
        for name in ("c1", "c2"):
            supervisor.spawn(
                name,
                lambda name=name: Consumer(  # type: ignore[misc]
                    of(server, "consumer"),
                    queue,
                    handler,
                    name=name,
                    lease_ttl_s=0.5,
                    observe=tape,
                ),
            )
        first = await tape.until(TookOver)
        place = tape.end
        await supervisor.kill(first.role)
        with anyio.fail_after(5):
            assert (await tape.until(TookOver, after=place)).why == "expired"


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("missing", ["evalsha", "xreadgroup", "xgroup", "zadd"])
async def test_a_missing_permission_is_said(server: Server, client: Client, missing: str) -> None:
    await allow(client, "consumer", RULES["consumer"].replace(f"+{missing} ", ""))
    queue = Queue(lambda: client, KEYS, "none", FAST)
    await queue.publish(f"a {FAIL}")
    tape = Tape()
    async with Supervisor(tape) as supervisor:
        supervisor.spawn(
            "c1",
            lambda: Consumer(of(server, "consumer"), queue, Planned(), name="c1", observe=tape),
        )
        with anyio.fail_after(10):
            said = (await tape.until(Ended, "c1")).error
    assert re.search("permission|the user executing the script", said, re.I), said


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("missing", ["evalsha", "zadd", "~shop:*"])
async def test_a_missing_permission_is_an_error_of_its_own(
    server: Server, client: Client, missing: str
) -> None:
    without = [rule for rule in RULES["publisher"].split() if rule.lstrip("+") != missing]
    await allow(client, "publisher", " ".join(without))
    async with of(server, "publisher").client() as publishing:
        with pytest.raises(ServerRefused):
            await Queue(lambda: publishing, KEYS).publish(1, delay=60)


@pytest.mark.usefixtures("users")
async def test_a_command_that_is_refused_ends_with_status_3(server: Server) -> None:
    wrong = server.url.replace("unix://", "unix://consumer:not-the-secret@")
    said = run("run", "tests.sample.shop:app", DELAYQ_REDIS_URL=wrong, SHOP_LEDGER=os.devnull)
    assert said.returncode == 3
    assert "not-the-secret" not in said.stderr
