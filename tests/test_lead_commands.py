"""The commands who, handover and resume, as an operator would try them."""

import json
from typing import Any

import anyio
from anyio import to_thread

from delayq import Queue, Retry, Server
from delayq.events import Halted, StoodBy
from tests.conftest import Client, MakeQueue
from tests.processes import run
from tests.roles import publish, troupe
from tests.state import messages


async def operate(server: Server, *words: str) -> tuple[int, str, Any]:
    """Run a command beside the roles of a test."""

    def in_thread() -> tuple[int, str, Any]:
        at = {"DELAYQ_REDIS_URL": server.url, "DELAYQ_NAMESPACE": "test"}
        people, programs = run(*words, **at), run("who", "orders", "--json", **at)
        assert "Traceback" not in people.stderr
        return people.returncode, people.stdout, json.loads(programs.stdout)

    return await to_thread.run_sync(in_thread)


async def test_who_tells_the_active_one_its_standby_and_since_when(
    server: Server, queue: Queue
) -> None:
    await queue.register()
    async with troupe(server, queue) as t:
        status, said, value = await operate(server, "who", "orders")
        assert (status, value["lanes"], said) == (1, [None], "nobody is active\n")
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        status, said, value = await operate(server, "who", "orders")
        assert status == 0
        names, row = said.splitlines()
        assert names.split() == ["lane", "active", "epoch", "since", "stand", "by"]
        [active] = value["lanes"]
        assert row.split()[:3] == ["0", "c1", str(active["epoch"])]
        assert row.endswith(" ago  c2")
        assert (active["name"], active["standby"]) == ("c1", ["c2"])


async def test_who_lists_consumers_that_compete(server: Server, make_queue: MakeQueue) -> None:
    async with troupe(server, make_queue("none")) as t:
        t.held[1] = anyio.Event()
        await publish(t.queue, 1)
        await t.active("c1")
        await t.begins(1)
        status, said, _ = await operate(server, "who", "orders")
        assert (status, said[:11], "1 pending" in said) == (0, "consumers; ", True)
        assert "c1@" in said
        t.held[1].set()


async def test_handover_says_who_took_over(server: Server, queue: Queue) -> None:
    await queue.register()
    async with troupe(server, queue) as t:
        assert (await operate(server, "handover", "orders"))[:2] == (1, "nobody is active\n")
        await t.active("c1")
        status, said, _ = await operate(server, "handover", "orders")
        assert (status, said) == (1, "c1 goes on: nobody stood by\n")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        status, said, value = await operate(server, "handover", "orders")
        assert (status, said.startswith("c1 passed on to c2, epoch")) == (0, True)
        assert value["lanes"][0]["name"] == "c2"


async def test_handover_does_not_wait_for_ever(server: Server, queue: Queue) -> None:
    async with troupe(server, queue) as t:
        t.held[1] = anyio.Event()
        await publish(queue, 1)
        await t.active("c1")
        await t.begins(1)
        status, said, _ = await operate(server, "handover", "orders", "--wait-ms", "50")
        assert (status, said) == (1, "c1 has not passed on yet\n")
        t.held[1].set()


async def test_resume_goes_on_with_the_message_or_past_it(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue("strict", Retry(max_deliveries=1), on_failure="halt")
    await queue.register()
    async with troupe(server, queue) as t:
        assert (await operate(server, "resume", "orders"))[:2] == (1, "it is not halted\n")
        t.failing["bad"] = [ValueError("no")] * 2
        await queue.publish("bad", id="b")
        await queue.publish("good", id="g")
        await t.active("c1")
        await t.tape.until(Halted)
        place = t.tape.end
        assert (await operate(server, "resume", "orders"))[:2] == (0, "goes on with b\n")
        await t.tape.until(Halted, after=place)
        status, said, _ = await operate(server, "resume", "orders", "--skip")
        assert (status, said) == (0, "goes on past b\n")
        await t.begins("good")
        assert t.bodies == ["bad", "bad", "good"]
    assert (await messages(client))["dead"] == ["b"]
