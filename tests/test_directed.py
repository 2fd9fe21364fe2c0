"""Directed schedules: each fault at the one moment where it would hurt."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest
from redis import exceptions

from delayq import Ordering, Queue, Server, ServerError, ServerUnreachable, scripts
from delayq.clock import mono_s
from delayq.events import LeaseEnded, Released, TookOver
from delayq.keys import GROUP
from delayq.lease import Lease, LeaseStore, renew_blocking
from delayq.message import Delivery
from delayq.outbox import Outbox
from delayq.pending import RECLAIM_LIMIT, Pending
from delayq.schedule import Schedule
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe
from tests.servers import RealServer
from tests.state import messages, owners
from tests.test_outbox import Gate, outgoing

FAR_MS = 10**14
LAST_ID = "18446744073709551615-18446744073709551615"


class Dying:
    """The client of a process that dies when so many calls of its were carried out."""

    def __init__(self, client: Client, calls: int) -> None:
        self._client = client
        self._calls = calls

    async def execute_command(self, *words: object, **parsing: bool) -> Any:
        if not self._calls:
            raise exceptions.ConnectionError("the process is dead")
        answer = await self._client.execute_command(*words, **parsing)
        self._calls -= 1
        return answer


async def places(client: Client) -> list[str]:
    """The ids of all messages, each as often as it is somewhere."""
    return sorted(name for where in (await messages(client)).values() for name in where)


async def delivered(queue: Queue, pending: Pending, lease: Lease) -> Delivery:
    """Have `pending` delivered, and others where they wait, or are dead."""
    await queue.publish(1, id="dead")
    letter = (await pending.fetch(lease, "-", 1)).deliveries[0]
    await pending.dead_letter(lease, letter.entry, 1, "rejected")
    await queue.publish(1, id="pending", key="k")
    delivery = (await pending.fetch(lease, "-", 1)).deliveries[0]
    assert isinstance(delivery, Delivery)
    await queue.publish(1, id="ready")
    await queue.publish(1, id="later", delay=60)
    return delivery


Transition = Callable[[Queue, Lease, Delivery], Awaitable[object]]
TRANSITIONS: dict[str, Transition] = {
    "publish": lambda q, _l, _d: q.publish(1, id="new"),
    "publish delayed": lambda q, _l, _d: q.publish(1, id="new", delay=5),
    "publish deduplicated": lambda q, _l, _d: q.publish(1, dedup_id="same"),
    "promote": lambda q, _l, _d: Schedule(q).promote(FAR_MS),
    "ack": lambda q, lease, d: Pending(q).ack(lease, [d.entry]),
    "fetch and ack": lambda q, lease, d: Pending(q).fetch(lease, f"({d.entry}", 9, [d.entry], "x"),
    "retry": lambda q, lease, d: Pending(q).retry_later(lease, d, 5),
    "retry and park": lambda q, lease, d: Pending(q).retry_later(lease, d, 5, park=True),
    "dead letter": lambda q, lease, d: Pending(q).dead_letter(lease, d.entry, 1, "why"),
    "cancel": lambda q, _l, _d: q.cancel("later"),
    "reschedule": lambda q, _l, _d: q.reschedule("later", delay=5),
    "redrive": lambda q, _l, _d: q.dead.redrive(),
}
CALLS = {"redrive": 2}  # it asks first where the end is
LEAVES = {"ack": "pending", "fetch and ack": "pending", "cancel": "later"}


@pytest.mark.parametrize("name", TRANSITIONS)
async def test_whoever_dies_after_its_script_leaves_each_message_in_one_place(
    name: str, client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    delivery = await delivered(queue, pending, lease)
    before = await places(client)
    doomed: Any = Dying(client, CALLS.get(name, 1))
    with suppress(ServerUnreachable):  # whatever more it would do
        await TRANSITIONS[name](replace(queue.bound_to(doomed), patience_s=0), lease, delivery)
    state, after = await messages(client), await places(client)
    kept = [known for known in before if known != LEAVES.get(name)]
    assert [known for known in after if known in before] == kept
    assert len(after) == len(kept) + name.startswith("publish")
    await TRANSITIONS[name](queue, lease, delivery)
    assert await messages(client) == state, "the next to try changes nothing"


async def exhaust(client: Client, *streams: str) -> None:
    """Have streams take no more entries, as another program can: a script fails half-way there."""
    for stream in streams:
        await client.xadd(stream, {"id": "last", "body": "1"}, id=LAST_ID)


async def test_a_promotion_that_fails_half_way_loses_nothing(
    client: Client, queue: Queue, schedule: Schedule
) -> None:
    for name in "abc":
        await queue.publish(1, id=name, delay=5)
    await exhaust(client, KEYS.stream, KEYS.dead)
    with pytest.raises(ServerError):
        await schedule.promote(FAR_MS)
    seen, _ = await schedule.due(FAR_MS)
    with pytest.raises(ServerError):
        await schedule.promote_as(seen)
    assert set(await places(client)) == {*"abc", "last"}


async def test_a_settlement_that_fails_half_way_loses_nothing(
    client: Client, queue: Queue, pending: Pending, lease: Lease
) -> None:
    delivery = await delivered(queue, pending, lease)
    before = await places(client)
    await client.set(KEYS.arrival, "no number")
    for park in (False, True):
        with pytest.raises(ServerError):
            await pending.retry_later(lease, delivery, 5, park=park)
    with pytest.raises(ServerError):
        await queue.dead.redrive()
    await exhaust(client, KEYS.dead)
    with pytest.raises(ServerError):
        await pending.dead_letter(lease, delivery.entry, 1, "why")
    assert await places(client) == sorted([*before, "last"])
    assert await owners(client) == {delivery.entry: lease.holder}


async def test_a_reader_that_waits_over_a_takeover_takes_no_message_with_it(
    server: Server, client: Client, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    async with server.link("zombie") as link, anyio.create_task_group() as waiting:
        waiting.start_soon(link.bells.bell(KEYS.stream).wait, 30)
        while not (await client.info("clients"))["blocked_clients"]:
            pass
        await store.release(lease)
        successor = await LeaseStore(Anchor(client), KEYS, "c2", 10).acquire(KEYS.lease())
        await queue.publish(1, id="a")
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []
    assert isinstance(successor, Lease)
    batch = await pending.fetch(successor, "-", 1)
    assert [d.message.id for d in batch.deliveries if isinstance(d, Delivery)] == ["a"]


async def test_where_the_hosts_clock_is_wrong_due_times_are_the_servers(
    client: Client, queue: Queue, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(time, "time_ns", lambda: 4 * 10**18)
    receipt = await queue.publish(1, delay=60)
    seconds, _ = await client.time()
    assert seconds + 59 <= receipt.due_ms / 1000 <= seconds + 61
    assert (await schedule.promote())[0] == 0


class Slow:
    """A client whose replies come 3 s later, by a clock of its own."""

    connection = None

    def __init__(self, client: Client) -> None:
        self.now_s = 100.0
        self.sent_at = 0.0
        self._client = client

    async def execute_command(self, *words: object, **parsing: bool) -> Any:
        if words[0] in {"EVAL", "EVALSHA"}:  # the lease's call, and none that asks who we are
            self.sent_at = self.now_s
        self.now_s += 3
        return await self._client.execute_command(*words, **parsing)

    async def wire(self) -> Any:
        return await self._client.wire()


async def test_a_lease_is_trusted_from_when_its_call_was_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(client)
    monkeypatch.setattr("delayq.lease.mono_s", lambda: slow.now_s)
    store = LeaseStore(Anchor(slow), KEYS, "c1", 10)  # type: ignore[arg-type]
    await client.delete(KEYS.lease())
    lease = await store.acquire(KEYS.lease())
    assert isinstance(lease, Lease)
    assert lease.trusted_until <= slow.sent_at + 9
    renewed = await store.renew(lease)
    assert lease.trusted_until < renewed.trusted_until <= slow.sent_at + 9


async def test_the_heartbeat_trusts_a_lease_from_when_its_call_was_sent(
    server: Server, client: Client, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    blocking = server.blocking_client()
    execute = blocking.execute_command

    def slow(*words: object) -> object:
        now_s[0] += 3
        return execute(*words)

    monkeypatch.setattr(blocking, "execute_command", slow)
    monkeypatch.setattr("delayq.lease.mono_s", lambda: now_s[0])
    connection = await client.hget(KEYS.lease(), "connection")
    assert renew_blocking(blocking, lease, connection).trusted_until == 109
    blocking.close()


async def test_deliveries_are_counted_over_a_crash_of_the_server() -> None:
    real = RealServer("--appendonly", "yes", "--appendfsync", "always")
    await real.start()
    async with Server(real.url).client() as client:
        queue = Queue(lambda: client, KEYS, "strict")
        pending, store = Pending(queue), LeaseStore(Anchor(client), KEYS, "c1", 600)
        await pending.ensure_group()
        lease = await store.acquire(KEYS.lease())
        assert isinstance(lease, Lease)
        for name in "ab":
            await queue.publish(1, id=name)
        for _ in range(3):
            await pending.fetch(lease, "-", 2)
        real.kill()
        await real.start()
        rows = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 10)
        assert [row["times_delivered"] for row in rows] == [3, 3]
    real.close()


async def test_a_call_to_an_older_holder_is_not_the_newer_ones(
    client: Client, store: LeaseStore, lease: Lease
) -> None:
    asked = scripts.run(client, "handover", [KEYS.lease(), KEYS.vacancy], [""])
    assert await asked == [lease.holder, str(lease.epoch)]
    assert await store.handover_asked(lease)
    assert not await store.handover_asked(replace(lease, epoch=lease.epoch - 1))


async def test_what_was_published_before_there_was_a_consumer_is_delivered(
    queue: Queue, lease: Lease
) -> None:
    await queue.publish(1, id="a")
    pending = Pending(queue)
    await pending.ensure_group()
    assert len((await pending.fetch(lease, "-", 1)).deliveries) == 1


async def test_a_takeover_takes_every_part_of_a_long_pending_list(
    server: Server, client: Client, queue: Queue
) -> None:
    await client.xgroup_create(KEYS.stream, GROUP, "0", mkstream=True)
    for number in range(2 * RECLAIM_LIMIT + 1):
        await client.xadd(KEYS.stream, {"body": str(number)})
    await client.xreadgroup(GROUP, "old@1", {KEYS.stream: ">"}, count=2 * RECLAIM_LIMIT + 1)
    async with troupe(server, queue) as t:
        t.held[0] = anyio.Event()
        took_over = await t.active("c1")
        assert took_over.reclaimed == {"old@1": 2 * RECLAIM_LIMIT + 1}
        t.held[0].set()


async def test_a_bell_hears_what_was_added_before_it_listened(
    server: Server, client: Client
) -> None:
    first = await client.xadd(KEYS.stream, {"body": "1"})
    await client.xadd(KEYS.stream, {"body": "2"})
    async with server.link("test") as link:
        assert await link.bells.bell(KEYS.stream).wait(2, after=first)


async def test_right_after_an_outage_a_closed_connection_proves_nothing(
    server: Server, client: Client
) -> None:
    async with server.client() as anchor:
        store = LeaseStore(Anchor(anchor), KEYS, "c1", 10)
        assert await store.gone(["1000000000"]) == {"1000000000"}
        await client.client_kill_filter(_id=str(await anchor.client_id()))
        with suppress(ServerUnreachable):  # if it is not known yet
            await store.gone(["1000000001"])
        assert await store.gone(["1000000000"]) == set()


@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
async def test_nothing_is_begun_when_trust_has_ended(
    server: Server, make_queue: MakeQueue, ordering: Ordering
) -> None:
    """A process that was frozen may find that before its timers do."""
    queue = make_queue(ordering)
    await publish(queue, 1, 2)
    async with troupe(server, queue) as t:
        t.held[1] = anyio.Event()
        await t.active("c1", concurrency=1)
        await t.begins(1)
        term = t.role("c1").seats[0]._term
        frozen = term.lease.holder
        term.lease = replace(term.lease, trusted_until=mono_s() - 0.001)
        t.held[1].set()
        with anyio.fail_after(10):
            await t.tape.until(LeaseEnded, "c1")
    assert frozen not in [handled.consumer for handled in t.handled if handled.body == 2]


async def test_whoever_passes_on_lets_others_go_first(
    server: Server, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayq.standby.YIELD_S", 0.3)
    async with troupe(server, queue) as t:
        await t.active("c1")
        async with anyio.create_task_group() as asking:
            asking.start_soon(t.hand_over)
            await t.tape.until(Released, "c1")
            released_at, place = mono_s(), t.tape.end
            await t.tape.until(TookOver, "c1", after=place)
            assert mono_s() - released_at >= 0.25


async def test_followers_in_the_call_of_a_cancelled_leader_are_sent_all_the_same() -> None:
    gate, done, leading = Gate(), list[str](), anyio.CancelScope()
    outbox = Outbox(gate.send)

    async def post(name: str) -> None:
        await outbox.post(outgoing(name))
        done.append(name)

    async def lead() -> None:
        with leading:
            await post("leader")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as posting:
            posting.start_soon(post, "before")
            await anyio.wait_all_tasks_blocked()
            posting.start_soon(lead)
            await anyio.wait_all_tasks_blocked()
            for name in "ab":
                posting.start_soon(post, name)
            await anyio.wait_all_tasks_blocked()
            first, gate.open = gate.open, anyio.Event()
            first.set()
            await anyio.wait_all_tasks_blocked()
            assert gate.calls[-1] == ["leader", "a", "b"]
            leading.cancel()
            await anyio.wait_all_tasks_blocked()
            gate.open.set()
    assert done == ["before", "a", "b"]


async def test_a_call_made_again_after_another_one_of_its_consumer_counts_nothing_twice(
    queue: Queue, pending: Pending, lease: Lease
) -> None:
    """As where a key is retried in place while the next batch is fetched, its reply lost."""
    await queue.publish(1, id="retried")
    await queue.publish(1, id="fetched")
    first = (await pending.fetch(lease, "-", 1)).deliveries[0].entry
    for _ in range(2):
        [fetched] = (await pending.fetch(lease, "(" + first, 1, call="lost")).deliveries
        await pending.redeliver(lease, [(first, 1)])
    assert isinstance(fetched, Delivery)
    assert fetched.message.deliveries == 1
