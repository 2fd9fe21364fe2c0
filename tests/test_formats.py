"""Old and new processes on one queue: what a newer delayq wrote is left to a newer process."""

import pytest

from delayq import Message, Poller, Server, message
from delayq.events import Corrected, DeadLettered, NewerFound, Released, TookOver
from delayq.tape import Tape
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import troupe
from tests.state import messages

NEWER = {"id": "new", "v": "2", "body": '"new"'}


async def test_a_competing_consumer_puts_off_what_a_newer_one_can_read(
    server: Server, client: Client, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with troupe(server, make_queue("none")) as t:
        await client.xadd(KEYS.stream, NEWER)
        await client.xadd(KEYS.stream, {"body": '"old"'})
        await t.active("c1")
        await t.tape.until(NewerFound, "c1")
        await t.settled(1)
        assert t.bodies == ["old"]
        while not await client.zcard(KEYS.schedule):
            pass
        assert (await messages(client))["scheduled"] == ["new"]
        await t.supervisor.stop("c1")
        monkeypatch.setattr(message, "FORMAT", 2)
        t.poller()
        await t.active("c2")
        await t.settled(2)
        assert [(h.body, h.deliveries) for h in t.handled] == [("old", 1), ("new", 1)]
        assert not t.tape.of(DeadLettered)


@pytest.mark.parametrize("ordering", ["strict", "key"])
async def test_an_active_consumer_steps_aside_for_a_newer_one(
    server: Server,
    client: Client,
    make_queue: MakeQueue,
    monkeypatch: pytest.MonkeyPatch,
    ordering: str,
) -> None:
    async with troupe(server, make_queue(ordering)) as t:
        await client.xadd(KEYS.stream, NEWER | {"key": "k"})
        await client.xadd(KEYS.stream, {"body": '"old"', "key": "k"})
        await t.active("c1")
        await t.tape.until(NewerFound, "c1")
        await t.tape.until(Released, "c1")
        monkeypatch.setattr(message, "FORMAT", 2)
        await t.tape.until(TookOver, after=t.tape.end)
        await t.settled(2)
        assert [(h.body, h.deliveries) for h in t.handled] == [("new", 1), ("old", 1)]


async def test_a_poller_that_corrects_moves_what_it_cannot_read(
    server: Server, client: Client, make_queue: MakeQueue
) -> None:
    async def hook(message: Message) -> object:
        return message.body.upper()

    tape, queue = Tape(), make_queue("none", on_due=hook)
    await queue.publish("old", id="old", delay=1)
    await client.zadd(KEYS.schedule, {"000000000000new": 1})
    await client.hset(KEYS.bodies, "new", '000000000000["v","2","body","\\"new\\""]')
    await Poller(server, queue, observe=tape).turn(10**14)
    assert [event.ids for event in tape.of(Corrected)] == [("old",)]
    found = {fields["id"]: fields["body"] for _, fields in await client.xrange(KEYS.stream)}
    assert found == {"old": '"OLD"', "new": '"new"'}
