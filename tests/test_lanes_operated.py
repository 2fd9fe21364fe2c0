"""Queues of several lanes, looked at and changed: by a program, and by commands."""

import json
from typing import Any

import pytest
from anyio import to_thread

from delayq import InvalidCursor, Queue, Server, ServerUnreachable
from delayq.events import StoodBy
from delayq.keys import LaneKeys, lane_of
from delayq.lanes import at_once
from delayq.lease import Lease, LeaseStore
from delayq.pending import Pending
from delayq.resize import resize
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client
from tests.processes import run
from tests.roles import troupe
from tests.state import dump

LANES = 4
KEY = [next(f"k{n}" for n in range(99) if lane_of(f"k{n}", LANES) == lane) for lane in range(LANES)]
"""A key of each lane."""


@pytest.fixture
def queue(client: Client) -> Queue:
    return Queue(lambda: client, KEYS, "strict", lanes=LANES)


async def operate(server: Server, *words: str) -> tuple[int, str, str]:
    def in_thread() -> tuple[int, str, str]:
        said = run(*words, DELAYQ_REDIS_URL=server.url, DELAYQ_NAMESPACE="test")
        assert "Traceback" not in said.stderr
        return said.returncode, said.stdout, said.stderr

    return await to_thread.run_sync(in_thread)


async def answer(server: Server, *words: str) -> Any:
    _, said, wrong = await operate(server, *words, "--json")
    assert said, wrong
    return json.loads(said)


async def die(queue: Queue, lane: int, *ids: str) -> None:
    for name in ids:
        fields = {"id": name, "body": "1", "key": KEY[lane], "reason": "why"}
        await queue.client.xadd(queue.every_lane[lane].keys.dead, fields)  # type: ignore[arg-type]


async def lease_of(client: Client, keys: LaneKeys) -> tuple[LeaseStore, Lease]:
    store = LeaseStore(Anchor(client), keys, "c1", 10)
    lease = await store.acquire(keys.lease())
    assert isinstance(lease, Lease)
    return store, lease


async def test_stats_sum_up_and_tell_of_each_lane(queue: Queue, client: Client) -> None:
    for lane, key in enumerate(KEY):
        for n in range(lane + 1):
            await queue.publish(n, key=key)
    later = await queue.publish("x", key=KEY[2], delay=60)
    sooner = await queue.publish("x", key=KEY[3], delay=30)
    await die(queue, 1, "a", "b")
    _, lease = await lease_of(client, queue.every_lane[3].keys)
    pending = Pending(queue.every_lane[3])
    await pending.ensure_group()
    await pending.fetch(lease, "-", 3)
    found = await queue.stats()
    assert (found.scheduled, found.ready, found.pending, found.dead) == (2, 7, 3, 2)
    assert found.next_due_ms == (sooner.due_ms, later.due_ms)
    assert [lane.ready for lane in found.lanes] == [1, 2, 3, 1]
    assert [lane.holder for lane in found.lanes] == [None, None, None, lease.holder]
    assert found.oldest_ms == max(lane.oldest_ms or 0 for lane in found.lanes)
    assert found.consumers == {lease.holder: 3}
    assert found.holder is None


async def test_a_list_goes_lane_by_lane_in_pages_of_any_size(queue: Queue) -> None:
    for n in range(3):
        for lane in (0, 1, 3):  # and none in lane 2
            await queue.publish([lane, n], key=KEY[lane])
            await queue.publish([lane, n], key=KEY[lane], delay=60 + n)
    expected = [[lane, n] for lane in (0, 1, 3) for n in range(3)]
    for state in ("ready", "scheduled"):
        for limit in (1, 2, 3, 4, 9, 10):
            page, sizes = await queue.list(state, limit), []
            bodies = [record.body for record in page.records]
            while page.next and len(bodies) < 10:
                sizes.append(len(page.records))
                page = await queue.list(state, limit, page.next)
                bodies += [record.body for record in page.records]
            assert bodies == expected
            assert set(sizes) <= {limit}


async def test_a_cursor_of_no_lane_is_refused(queue: Queue, server: Server) -> None:
    for key in KEY:
        await queue.publish(1, key=key)
    page = await queue.list("ready", 1)
    assert page.next
    place = page.next.partition(".")[2]
    for after in (place, f"4.{place}", f"-1.{place}", f"x.{place}", f"²{page.next}", "."):
        with pytest.raises(InvalidCursor):
            await queue.list("ready", 1, after)
    status, _, wrong = await operate(server, "list", "orders", "ready", "--after", f"4.{place}")
    assert (status, "is no cursor of the ready messages" in wrong) == (2, True)


async def test_a_message_is_found_in_whichever_lane_it_is(queue: Queue) -> None:
    for lane, key in enumerate(KEY):
        await queue.publish(lane, key=key, id=f"r{lane}")
        await queue.publish(lane, key=key, id=f"s{lane}", delay=60)
        await die(queue, lane, f"d{lane}")
    for lane in range(LANES):
        for letter, state in (("r", "ready"), ("s", "scheduled"), ("d", "dead")):
            record = await queue.get(f"{letter}{lane}")
            assert record
            assert (record.state, record.key) == (state, KEY[lane])
    assert await queue.get("none") is None
    assert await queue.get("s1", key=KEY[2]) is None
    assert await queue.get("s1", key=KEY[1])


async def test_a_key_narrows_a_change_to_its_lane(queue: Queue) -> None:
    for key in KEY[:3]:
        await queue.publish(1, key=key, id="same", delay=60)
    assert not await queue.cancel("same", key=KEY[3])
    assert await queue.cancel("same", key=KEY[0])
    assert [lane.scheduled for lane in (await queue.stats()).lanes] == [0, 1, 1, 0]
    assert await queue.promote("same", key=KEY[1])
    due = [lane.next_due_ms[0] - lane.now_ms for lane in (await queue.stats()).lanes[1:3]]
    assert due[0] <= 0 < due[1]
    assert await queue.reschedule("same", delay=3600)  # without a key: in every lane
    assert all(
        lane.next_due_ms[0] - lane.now_ms > 3_000_000 for lane in (await queue.stats()).lanes[1:3]
    )
    assert await queue.cancel("same")
    assert (await queue.stats()).scheduled == 0
    assert not await queue.cancel("same")


async def test_purges_and_dead_letters_are_of_all_lanes(queue: Queue) -> None:
    for lane, key in enumerate(KEY):
        await queue.publish(1, key=key)
        await queue.publish(1, key=key, delay=60)
        await die(queue, lane, f"a{lane}", f"b{lane}", f"c{lane}")
    page = await queue.dead.list(7)
    rest = await queue.dead.list(7, page.next or "")
    ids = [r.id for r in page.records + rest.records]
    assert ids == [f"{letter}{lane}" for lane in range(LANES) for letter in "abc"]
    assert await queue.dead.redrive(ids=["a0", "a3", "none"]) == 2
    assert await queue.dead.purge(ids=["b1", "b2"]) == 2
    found = await queue.stats()
    assert [lane.scheduled for lane in found.lanes] == [2, 1, 1, 2]
    assert [lane.dead for lane in found.lanes] == [2, 2, 2, 2]
    assert [await queue.purge(s) for s in ("scheduled", "ready", "dead")] == [6, 4, 8]
    found = await queue.stats()
    assert (found.scheduled, found.ready, found.dead) == (0, 0, 0)


async def test_a_halted_lane_is_resumed_and_no_other(queue: Queue, client: Client) -> None:
    for lane in (1, 2):
        keys = queue.every_lane[lane].keys
        entry = await client.xadd(keys.stream, {"id": f"m{lane}", "body": "1"})
        await client.hset(keys.halted, mapping={"entry": entry, "id": f"m{lane}", "reason": "x"})
    assert await queue.resume(lane=0) == ()
    assert await queue.resume(lane=2) == ("m2",)
    halted = (await queue.stats()).halted
    assert halted
    assert halted.id == "m1"
    assert await queue.resume() == ("m1",)
    with pytest.raises(ValueError, match=r"lane: orders has 0 to 3 \(got 4\)"):
        await queue.resume(lane=4)


async def test_who_and_handover_tell_of_each_lane(server: Server, queue: Queue) -> None:
    await queue.register()
    assert await queue.who() == (None,) * LANES
    third = queue.every_lane[2]
    async with troupe(server, third) as t:
        await t.active("c1")
        t.consumer("c2")
        await t.tape.until(StoodBy, "c2")
        assert [active and active.name for active in await queue.who()] == [None, None, "c1", None]
        status, said, _ = await operate(server, "who", "orders")
        rows = [line.split() for line in said.splitlines()]
        assert (status, rows[1]) == (0, ["0", "-", "-", "-", "-"])
        assert (rows[3][:2], rows[3][-1]) == (["2", "c1"], "c2")
        status, _, wrong = await operate(server, "handover", "orders", "--lane", "4")
        assert (status, "--lane: orders has 0 to 3 (got 4)" in wrong) == (2, True)
        assert (await operate(server, "handover", "orders", "--lane", "1"))[0] == 1
        status, said, _ = await operate(server, "handover", "orders")
        assert (status, said.startswith("lane 2: c1 passed on to c2, epoch ")) == (0, True)
        assert [active and active.name for active in await queue.who()] == [None, None, "c2", None]


async def test_commands_take_the_number_of_lanes_from_the_registry(
    queue: Queue, server: Server
) -> None:
    await queue.register()
    for lane, key in enumerate(KEY):
        words = ("publish", "orders", f"{lane}", "--key", key, "--id", f"m{lane}", "--delay", "60")
        assert (await operate(server, *words))[0] == 0
    assert [lane.scheduled for lane in (await queue.stats()).lanes] == [1] * LANES
    status, said, _ = await operate(server, "stats", "orders")
    assert (status, said.split()[:2]) == (0, ["scheduled", "4"])
    assert [line.split()[:2] for line in said.splitlines()[-4:]] == [
        [f"{n}", "1"] for n in range(4)
    ]
    assert (await answer(server, "show", "orders", "m3"))["key"] == KEY[3]
    assert (await answer(server, "cancel", "orders", "m3", "--key", KEY[0]))["cancelled"] is False
    assert (await answer(server, "cancel", "orders", "m3"))["cancelled"] is True
    listed = await answer(server, "list", "orders", "scheduled")
    assert [record["id"] for record in listed["records"]] == ["m0", "m1", "m2"]
    assert (await answer(server, "purge", "orders", "scheduled", "--yes"))["deleted"] == 3


async def test_the_doctor_names_the_lane(queue: Queue, server: Server, client: Client) -> None:
    await queue.register()
    findings = (await answer(server, "doctor", "orders"))["findings"]
    assert [f["about"] for f in findings if f["about"] != "server"] == ["orders"]
    keys = queue.every_lane[2].keys
    await client.hset(keys.halted, mapping={"id": "m7", "reason": "max deliveries"})
    findings = (await answer(server, "doctor", "orders"))["findings"]
    assert [f["about"] for f in findings if f["about"] != "server"] == ["orders, lane 2"]


async def test_the_number_of_lanes_is_shown_and_set(
    queue: Queue, server: Server, client: Client
) -> None:
    status, _, told = await operate(server, "lanes", "orders")
    assert (status, "no queue orders" in told) == (2, True)
    await queue.register()
    assert (await operate(server, "lanes", "orders"))[:2] == (0, "orders has 4 lanes\n")
    for wrong in ("0", "1025", "x"):
        status, _, told = await operate(server, "lanes", "orders", wrong)
        assert (status, "NUMBER" in told.upper()) == (2, True)
    store, lease = await lease_of(client, queue.every_lane[3].keys)
    await store.release(lease)
    await queue.publish(1, key=KEY[3], delay=60)
    await queue.publish(1, key=KEY[2])
    assert await queue.purge("scheduled") == await queue.purge("ready") == 1
    assert (await operate(server, "lanes", "orders", "2"))[:2] == (0, "orders has 2 lanes\n")
    assert (await answer(server, "lanes", "orders"))["lanes"] == 2
    gone = [await client.keys(f"*orders:{lane}*") for lane in (2, 3)]
    assert gone == [[], [queue.every_lane[3].keys.epoch]]
    assert (await operate(server, "lanes", "orders", "4"))[0] == 0
    _, again = await lease_of(client, queue.every_lane[3].keys)
    assert again.epoch > lease.epoch


@pytest.mark.parametrize("what", ["scheduled", "ready", "dead", "lease", "competing"])
async def test_a_queue_that_is_used_keeps_its_lanes(
    queue: Queue, server: Server, client: Client, what: str
) -> None:
    await queue.register()
    keys = queue.every_lane[3].keys
    told = f"1 {what}"
    match what:
        case "scheduled" | "ready":
            await queue.publish(1, key=KEY[3], delay=60 if what == "scheduled" else 0)
        case "dead":
            await die(queue, 3, "a")
        case "lease":
            _, lease = await lease_of(client, keys)
            told = f"the lease of {lease.holder}"
        case "competing":
            await Pending(queue.every_lane[3]).ensure_group()
            await client.xgroup_createconsumer(keys.stream, "delayq", "c7@5")
            await client.hset(keys.lease("c7"), "holder", "c7@5")
            told = "the lease of c7@5"
    before = await dump(client)
    for number in ("2", "8"):
        status, said, _ = await operate(server, "lanes", "orders", number)
        assert (status, said.splitlines()[1:]) == (1, [f"lane 3: {told}"])
        assert said.startswith("orders keeps its 4 lanes: ")
    assert await dump(client) == before


async def test_a_lane_that_is_used_meanwhile_is_not_closed(
    queue: Queue, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> str:  # as it was before the message came
        return ""

    await queue.publish(1, key=KEY[3])
    before = await dump(client)
    monkeypatch.setattr("delayq.resize._held", nothing)
    assert await resize(queue, 3) == {3: "used right now"}
    assert await dump(client) == before


async def test_what_several_lanes_meet_at_once_is_one_error() -> None:
    lanes = [LaneKeys("test", "orders", lane) for lane in range(3)]

    async def ask(keys: LaneKeys) -> None:
        raise ServerUnreachable(f"no answer of lane {keys.lane}")

    with pytest.raises(ServerUnreachable, match="no answer of lane 0"):
        await at_once(ask, lanes)
