"""A call was carried out, its reply lost, and it is made again: that changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from delayq import OnFailure, Ordering, Poller, Producer, Queue, Retry, RetryLater, Server
from delayq.events import Published
from delayq.keys import GROUP
from delayq.pending import Pending
from delayq.tape import Tape
from tests.conftest import Client, MakeQueue
from tests.proxy import losing
from tests.roles import troupe
from tests.servers import RealServer
from tests.state import emptied, messages


async def test_a_publish_whose_reply_is_lost_is_one_message(
    real_server: RealServer, client: Client, queue: Queue, tmp_path: Path
) -> None:
    async with losing(real_server.socket, tmp_path / "s", every=3) as proxy:
        tape = Tape()
        await Producer(Server(f"unix://{tmp_path}/s"), queue, range(30), observe=tape).run()
        assert proxy.lost >= 10
    assert len(tape.of(Published)) == 30
    assert (await messages(client))["ready"] == [event.id for event in tape.of(Published)]


async def test_an_ordered_consumer_whose_replies_are_lost_skips_and_reorders_nothing(
    real_server: RealServer, server: Server, client: Client, queue: Queue, tmp_path: Path
) -> None:
    async with losing(real_server.socket, tmp_path / "s", every=4) as proxy:
        await Producer(server, queue, range(200)).run()
        async with troupe(Server(f"unix://{tmp_path}/s"), queue) as t:
            t.consumer("c1", batch=7)
            while await client.xlen(queue.keys.stream):
                pass
            assert t.bodies == list(range(200))
            assert {handled.deliveries for handled in t.handled} == {1}
        assert proxy.lost >= 5


async def test_competing_consumers_whose_replies_are_lost_keep_every_message(
    real_server: RealServer, server: Server, make_queue: MakeQueue, tmp_path: Path
) -> None:
    queue = make_queue("none")
    async with losing(real_server.socket, tmp_path / "s", every=4) as proxy:
        await Producer(server, queue, range(200)).run()
        async with troupe(Server(f"unix://{tmp_path}/s"), queue) as t:
            t.failing = {number: [RetryLater(1)] for number in range(0, 200, 10)}
            t.poller()
            t.consumer("c1", batch=7)
            await t.settled(200)
            assert sorted(t.bodies) == sorted([*range(200), *range(0, 200, 10)])
        assert proxy.lost >= 5


@pytest.mark.parametrize(
    ("ordering", "on_failure"),
    [("none", "block"), ("strict", "block"), ("strict", "park"), ("key", "park")],
)
async def test_groups_whose_replies_are_lost_repeat_and_reorder_nothing(
    real_server: RealServer,
    client: Client,
    make_queue: MakeQueue,
    tmp_path: Path,
    ordering: Ordering,
    on_failure: OnFailure,
) -> None:
    declared: Any = {"retry": Retry(base_ms=1, cap_ms=1), "on_failure": on_failure}
    queue = make_queue(ordering, **declared)
    billing = queue.group("billing", ordering=ordering, **declared)
    async with losing(real_server.socket, tmp_path / "s", every=4) as proxy:
        lossy = Server(f"unix://{tmp_path}/s")
        async with troupe(lossy, queue) as ours, troupe(lossy, billing) as theirs:
            for t in (ours, theirs):
                t.failing = {number: [ValueError("once")] for number in range(0, 60, 9)}
                t.poller()
                await Pending(t.queue).ensure_group()
                t.consumer("c1", batch=7)
            await queue.publish_many(queue.message(n, key=str(n % 7)) for n in range(60))
            for t in (ours, theirs):
                await t.settled(60)
                assert sorted(t.succeeded) == list(range(60))
                assert len(t.handled) == 67
                for key in range(7) if ordering != "none" else ():
                    of_key = [number for number in t.succeeded if number % 7 == key]
                    assert of_key == sorted(of_key)
            await emptied(client)  # the last retry of one group is passed by the other
        assert proxy.lost >= 10
    left = await queue.stats(), await billing.stats()
    assert [(s.scheduled, s.ready, s.pending, s.dead) for s in left] == [(0, 0, 0, 0)] * 2
    assert await client.xlen(queue.keys.stream) == 0


async def test_an_heir_whose_replies_are_lost_keeps_every_message(
    real_server: RealServer, client: Client, make_queue: MakeQueue, tmp_path: Path
) -> None:
    queue = make_queue("none")
    await client.xgroup_create(queue.keys.stream, GROUP, "0", mkstream=True)
    for number in range(40):
        await client.xadd(queue.keys.stream, {"body": str(number)})
    await client.xreadgroup(GROUP, "dead@1", {queue.keys.stream: ">"}, count=30)
    async with losing(real_server.socket, tmp_path / "s", every=2) as proxy:
        async with troupe(Server(f"unix://{tmp_path}/s"), queue) as t:
            t.consumer("c1", batch=7)
            await t.settled(40)
            assert sorted(t.bodies) == list(range(40))
            assert {handled.deliveries for handled in t.handled} == {1, 2}
        assert proxy.lost >= 5


async def test_a_poller_whose_replies_are_lost_doubles_nothing(
    real_server: RealServer, client: Client, queue: Queue, tmp_path: Path
) -> None:
    ids = [(await queue.publish(number, delay=1)).id for number in range(300)]
    async with losing(real_server.socket, tmp_path / "s", every=2) as proxy:
        async with troupe(Server(f"unix://{tmp_path}/s"), queue) as t:
            t.supervisor.spawn("p", lambda: Poller(t.server, queue))
            while await client.exists(queue.keys.schedule):
                pass
        assert proxy.lost >= 1
    assert (await messages(client))["ready"] == ids
