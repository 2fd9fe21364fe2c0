"""The audit of real scripts on a real server, and what the checker makes of it."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delayq import LeaseLost, Queue, Retry, Server, ServerError, scripts
from delayq.appqueue import AppQueue
from delayq.errors import ServerOutOfMemory
from delayq.keys import GROUP
from delayq.lease import Lease, LeaseStore
from delayq.pending import Pending
from delayq.queue import Ordering
from delayq.retry import OnFailure
from delayq.schedule import Schedule
from delayq.verify import audit
from delayq.verify.faults import FAMILIES, Breaking
from delayq.verify.history import FOREIGN, Audited
from delayq.verify.lane import Lane
from delayq.verify.log import Log
from delayq.verify.scan import scan
from delayq.verify.stage import Stage
from tests.audited import History, telling
from tests.conftest import KEYS, Client, MakeQueue
from tests.failing import FAIL, KILL, LATER, REJECT
from tests.servers import RealServer

PREFIX = KEYS.stream.removesuffix("stream")


def switched_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scripts, "_SOURCES", dict(scripts._SOURCES))
    patch.setattr(scripts, "_HASHES", dict(scripts._HASHES))
    patch.setattr(scripts._Seams, "keys", None)
    audit.switch_on()


@pytest.fixture(autouse=True)
def audited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.fixturenames:
        switched_on(monkeypatch)


async def calls(client: Client) -> list[Audited]:
    return [call async for call in audit.read(client, KEYS)]


async def run(server: Server, client: Client, queue: Queue, seed: int) -> History:
    chance = random.Random(seed)
    kinds = [FAIL, LATER, REJECT, KILL]
    failing = {
        number: [chance.choice(kinds) for _ in range(chance.randint(1, 3))]
        for number in chance.sample(range(40), 12)
    }
    async with telling(server, client, queue, failing, resuming=True, batch=5) as play:
        for number in range(40):
            await play.publish(number, chance.choice("abc"), chance.choice([0, 0, 10, 30]))
        await play.drained()
    return play.history


RETRY = Retry(base_ms=1, cap_ms=5, max_deliveries=4)


@pytest.mark.parametrize(
    ("ordering", "on_failure"),
    [("strict", "block"), ("strict", "halt"), ("strict", "dead_letter"), ("none", "block")],
)
async def test_a_run_with_failures_and_kills_passes(
    ordering: Ordering,
    on_failure: OnFailure,
    server: Server,
    client: Client,
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(ordering, RETRY, on_failure=on_failure)
    history = await run(server, client, queue, 1)
    verdict = history.verdict()
    assert not verdict.violations
    counts = verdict.counts
    assert counts["published"] == counts["accepted"] == counts["acked"] + counts["dead"] == 40
    assert counts["faults"] >= 1
    assert counts["live"] == counts["lost"] == counts["phantom"] == 0


class Ending:
    """A client in whose hands a key ends as soon as its type was told."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def type(self, key: str) -> str:
        kind: str = await self.client.type(key)
        await self.client.delete(key)
        return kind


async def test_a_key_that_ends_while_it_is_read_is_not_left(client: Client) -> None:
    await client.set(KEYS.survey, "c1", px=60_000)
    [found] = [found async for found in scan(client, KEYS.namespace)]
    assert found.expires
    assert not [found async for found in scan(Ending(client), KEYS.namespace)]


# -- one entry of a real audit dropped, doubled, or swapped with the next --


@pytest.fixture(scope="module")
def real(real_server: RealServer) -> History:
    async def record() -> History:
        server = Server(real_server.url)
        async with server.client("test") as client:
            await client.flushall()
            return await run(server, client, Queue(lambda: client, KEYS, "strict", RETRY), 2)

    with pytest.MonkeyPatch.context() as patch:
        switched_on(patch)
        return anyio.run(record)


def touched(history: Sequence[Audited]) -> list[set[str]]:
    """For each call, what it changed: messages, and leases that it gave or took."""
    lane, changed = Lane(PREFIX), []
    for call in history:
        step = lane.step(call)
        leases = [c.key for c in step.leases if c.what == "ended" or "epoch" in c.values]
        changed.append({*step.before, *leases})
    return changed


def is_safe_to_repeat(call: Audited) -> bool:
    """Whether it may be there twice: made again after a lost reply, it answers the same."""
    return all(write.words[0] in {"XCLAIM", "XGROUP", "HSET"} for write in call.writes)


def test_a_real_audit_without_one_of_its_entries_is_found(real: History) -> None:
    whole, changed = real.calls, touched(real.calls)
    assert whole[-1].script == "release"  # what is not there any more may have ended by itself
    for at in [at for at in range(len(whole) - 1) if changed[at]]:
        assert real.verdict([*whole[:at], *whole[at + 1 :]]).violations, whole[at]


def test_a_real_audit_with_one_of_its_entries_doubled_is_found(real: History) -> None:
    whole, changed = real.calls, touched(real.calls)
    for at in [at for at in range(len(whole)) if changed[at] and not is_safe_to_repeat(whole[at])]:
        assert real.verdict([*whole[: at + 1], *whole[at:]]).violations, whole[at]


def test_a_real_audit_with_two_entries_swapped_that_touch_the_same_is_found(real: History) -> None:
    whole, changed = real.calls, touched(real.calls)
    for at, (one, two) in enumerate(pairwise(changed)):
        if one & two:
            other = [*whole[:at], whole[at + 1], whole[at], *whole[at + 2 :]]
            assert real.verdict(other).violations, whole[at : at + 2]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.data())
def test_a_real_audit_with_one_answer_changed_is_found(real: History, data: st.DataObject) -> None:
    """Of commands that say how many messages they moved, another number."""
    counted = {"XACK", "XDEL", "ZREM", "HDEL", "INCR"}
    rows = [
        (at, number)
        for at, call in enumerate(real.calls)
        for number, write in enumerate(call.writes)
        if write.words[0] in counted and not write.words[1].endswith((":recent", ":standby"))
    ]
    at, number = data.draw(st.sampled_from(rows))
    call = real.calls[at]
    write = call.writes[number]
    wrong = replace(write, reply=str(int(str(write.reply)) + data.draw(st.sampled_from([-1, 1]))))
    writes = (*call.writes[:number], wrong, *call.writes[number + 1 :])
    other = [*real.calls[:at], replace(call, writes=writes), *real.calls[at + 1 :]]
    assert real.verdict(other).violations


# -- what is recorded --


async def test_nothing_is_recorded_unless_it_is_switched_on(
    monkeypatch: pytest.MonkeyPatch, client: Client, queue: Queue
) -> None:
    monkeypatch.undo()
    await queue.publish(1)
    assert await client.keys("*audit*") == []


async def test_a_call_tells_what_it_wrote_and_what_was_answered(
    client: Client, queue: Queue, lease: Lease, pending: Pending
) -> None:
    await queue.publish("a", key="k", id="a")
    await pending.fetch(lease, "-", 5)
    acquired, published, fetched = await calls(client)
    assert acquired.script == "acquire" and acquired.epoch is None
    assert (published.script, published.epoch, published.refusal) == ("publish", None, None)
    [added] = [w for w in published.writes if w.words[:2] == ("XADD", KEYS.stream)]
    assert {"id", "a", "key", "k", "body", '"a"'} <= set(added.words)
    assert (fetched.epoch, fetched.consumer) == (lease.epoch, lease.holder)
    assert fetched.lease == lease.key
    [read] = [w for w in fetched.writes if w.words[0] == "XREADGROUP"]
    assert read.reply == (added.reply,)


async def test_what_changes_nothing_is_not_recorded(
    client: Client, queue: Queue, schedule: Schedule
) -> None:
    await queue.stats()
    await schedule.promote()
    await queue.cancel("nobody")
    assert await calls(client) == []


async def test_a_refusal_is_recorded(
    client: Client, store: LeaseStore, lease: Lease, pending: Pending
) -> None:
    await store.release(lease)
    with pytest.raises(LeaseLost):
        await pending.fetch(lease, "-", 5)
    refused = (await calls(client))[-1]
    assert (refused.script, refused.epoch, refused.writes) == ("fetch", lease.epoch, ())
    assert refused.refusal and refused.refusal.startswith("LEASELOST")


async def test_a_call_that_fails_half_way_is_recorded_with_what_it_had_done(
    client: Client, queue: Queue
) -> None:
    await client.set(KEYS.arrival, "no number")
    with pytest.raises(ServerError, match="not an integer"):
        await queue.publish_many([1, queue.message(2, delay=5)])
    [failed] = await calls(client)
    assert failed.refusal and "not an integer" in failed.refusal
    assert [w.words[0] for w in failed.writes if w.words[1] == KEYS.stream] == ["XADD"]


async def test_at_maxmemory_a_refusal_is_recorded_and_draining_goes_on(
    client: Client, queue: Queue, lease: Lease, pending: Pending
) -> None:
    await queue.publish(1)
    await client.config_set("maxmemory", "1")
    with pytest.raises(ServerOutOfMemory):
        await queue.publish(2)
    [delivery] = (await pending.fetch(lease, "-", 1)).deliveries
    await pending.ack(lease, [delivery.entry])
    refused, _, acked = (await calls(client))[-3:]
    assert refused.refusal and "OOM" in refused.refusal and not refused.writes
    assert acked.script == "ack" and acked.refusal is None


async def test_of_long_values_a_digest_is_recorded_alike_wherever_they_stand(
    client: Client, queue: Queue, schedule: Schedule
) -> None:
    receipt = await queue.publish("ü" * 9_000, delay=0.001, id="long")
    while not (await schedule.promote(receipt.due_ms))[0]:
        pass
    published, promoted = await calls(client)
    [packed] = [w.words[3] for w in published.writes if w.words[1] == KEYS.bodies]
    [added] = [w.words for w in promoted.writes if w.words[0] == "XADD"]
    digest = added[added.index("body") + 1]
    assert digest.startswith("sha1:") and digest in packed
    assert len(packed) < 200


async def test_bytes_that_are_no_text_are_recorded(client: Client) -> None:
    await audit.foreign(client, KEYS, ("XADD", KEYS.stream, "*", "body", b"\xff\x00"))
    [call] = await calls(client)
    assert call.writes[0].words[-1].encode(errors="surrogateescape") == b"\xff\x00"


async def test_what_foreign_hands_do_is_recorded_with_its_answer(client: Client) -> None:
    entry = await audit.foreign(client, KEYS, ("XADD", KEYS.stream, "*", "bodi", "x"))
    assert await audit.foreign(client, KEYS, ("XLEN", KEYS.stream)) == 1
    assert await audit.foreign(client, KEYS, ("XDEL", KEYS.stream, entry)) == 1
    added, deleted = await calls(client)
    assert added.script == deleted.script == FOREIGN
    assert (added.writes[0].reply, deleted.writes[0].reply) == (entry, "1")


@pytest.mark.parametrize("breaking", FAMILIES["foreign"], ids=lambda breaking: breaking.name)
async def test_foreign_hands_do_all_of_it_or_nothing(
    breaking: Breaking, client: Client, queue: Queue, tmp_path: Path
) -> None:
    pending = Pending(queue)
    await pending.ensure_group()
    await queue.publish(1)
    await client.xreadgroup(GROUP, "stranger", {KEYS.stream: ">"}, 1)
    told = len(await calls(client))
    with Log(tmp_path / "faults.log", "nemesis") as log:
        stage = Stage(AppQueue(lambda: client, KEYS), client, [], log, 1.0, None)
        await breaking.act(stage, random.Random(1))
    assert len(await calls(client)) == told + 1


async def test_an_audit_is_read_on_from_where_it_was_read_before(
    client: Client, queue: Queue
) -> None:
    for number in range(audit.PAGE + 3):
        await queue.publish(number)
    whole = await calls(client)
    assert len(whole) == audit.PAGE + 3
    assert [c async for c in audit.read(client, KEYS, whole[4].at)] == whole[5:]


async def test_whoever_is_around_a_call_sees_its_name_and_its_answer(
    monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    seen: list[tuple[str, object]] = []

    async def around(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        seen.append((name, None))
        answer = await call()
        seen.append((name, type(answer)))
        return answer

    monkeypatch.setattr(scripts._Seams, "around", None)
    scripts.interpose(around)
    await queue.publish(1)
    scripts.interpose(None)
    await queue.publish(2)
    assert seen == [("publish", None), ("publish", list)]
