"""The outbox: concurrent publishes share calls; none waits, is lost, or is doubled by that."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import anyio
import pytest

from delayq import BacklogFull, Message, Queue, Server, ServerUnreachable
from delayq.caller import Call, Caller
from delayq.clock import Clock, mono_s
from delayq.errors import DelayqError, NotConfirmed
from delayq.outbox import MANY, Answer, Outbox, batches
from delayq.outgoing import Outgoing, Receipt
from delayq.outgoing import outgoing as checked
from delayq.publishing import Terms, publish
from delayq.schedule import Schedule
from tests.conftest import KEYS, Client, MakeQueue
from tests.servers import RealServer
from tests.state import messages


class Gate:
    """A `send` that tells what it was given, and waits until the test lets it go on."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.open = anyio.Event()

    async def send(self, batch: Sequence[Outgoing], _call: Call, _until_s: float) -> list[Answer]:
        self.calls.append([message.id for message in batch])
        await self.open.wait()
        return [Receipt(message.id, 0, duplicate=False) for message in batch]


def outgoing(name: str) -> Outgoing:
    return Outgoing(name, "", "+0", 2, ["body", "1"])


async def scripts_run(client: Client) -> int:
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def test_concurrent_publishes_share_calls_and_each_task_keeps_its_order(
    client: Client, queue: Queue
) -> None:
    await queue.publish("first")
    before = await scripts_run(client)

    async def publish(task: int) -> None:
        for number in range(10):
            await queue.publish([task, number])

    async with anyio.create_task_group() as publishing:
        for task in range(100):
            publishing.start_soon(publish, task)
    assert await scripts_run(client) - before <= 40, "a thousand publishes"
    bodies = [fields["body"] for _, fields in await client.xrange(KEYS.stream)][1:]
    for task in range(100):
        mine = [body for body in bodies if body.startswith(f"[{task},")]
        assert mine == [f"[{task},{number}]" for number in range(10)]


async def test_a_publish_is_one_call_also_where_what_is_due_waits_for_a_hook(
    client: Client, make_queue: MakeQueue
) -> None:
    async def hook(message: Message) -> object:
        return message.body

    queue = make_queue(on_due=hook)
    await queue.publish("first")
    await client.zadd(KEYS.schedule, {"000000000001due": 1})
    before = await scripts_run(client)
    await queue.publish("second")
    assert await scripts_run(client) - before == 1


@pytest.mark.parametrize(("publishers", "parties"), [(10, 1), (MANY, 2), (300, 2)])
async def test_many_publishers_are_two_parties_that_take_turns(
    publishers: int, parties: int
) -> None:
    calls, away, at_work = list[set[str]](), set[str](), list[int]()

    async def send(batch: Sequence[Outgoing], _call: Call, _until_s: float) -> list[Answer]:
        at_work.append(len(away))
        calls.append({message.id for message in batch})
        away.update(calls[-1])
        await anyio.lowlevel.checkpoint()
        return [Receipt(message.id, 0, duplicate=False) for message in batch]

    outbox = Outbox(send)

    async def publish(publisher: int) -> None:
        for _ in range(10):
            await outbox.post(outgoing(str(publisher)))
            away.discard(str(publisher))

    async with anyio.create_task_group() as publishing:
        for publisher in range(publishers):
            publishing.start_soon(publish, publisher)
    steady = calls[4:-4]
    assert {len(call) * parties // publishers for call in steady} == {1}
    for before, after in pairwise(steady):  # whoever sent for the others comes again at once
        assert len(before & after) == publishers if parties == 1 else len(before & after) <= 1
    # Those that the last call was for have not come again when the next is sent.
    assert min(at_work[4:-4]) >= publishers // 2 - 1 if parties == 2 else max(at_work) == 0


async def test_a_lone_publish_is_sent_at_once() -> None:
    gate = Gate()
    gate.open.set()
    outbox = Outbox(gate.send)
    for name in "abc":
        await outbox.post(outgoing(name))
    assert gate.calls == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("cancelled", ["a", "b", "ab", "bc", "abcd"])
async def test_a_publisher_that_is_cancelled_holds_up_no_other(cancelled: str) -> None:
    gate, scopes, done = Gate(), dict[str, anyio.CancelScope](), set[str]()
    outbox = Outbox(gate.send)

    async def post(name: str) -> None:
        with anyio.CancelScope() as scopes[name]:
            await outbox.post(outgoing(name))
            done.add(name)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as posting:
            for name in "abcd":
                posting.start_soon(post, name)
            await anyio.wait_all_tasks_blocked()
            for name in cancelled:
                scopes[name].cancel()
            await anyio.wait_all_tasks_blocked()
            gate.open.set()
    assert done == set("abcd") - set(cancelled)
    await outbox.post(outgoing("later"))
    assert gate.calls[-1] == ["later"]


async def test_a_leader_cancelled_while_others_come_again_leaves_the_call_to_them() -> None:
    gate, scope = Gate(), anyio.CancelScope()
    gate.open.set()
    outbox = Outbox(gate.send)

    async def cancelled() -> None:
        with scope:
            await outbox.post(outgoing("cancelled"))

    async def cancel() -> None:
        scope.cancel()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as posting:  # one, then those that came meanwhile
            for name in "abc":
                posting.start_soon(outbox.post, outgoing(name))
        async with anyio.create_task_group() as posting:
            posting.start_soon(cancelled)
            for name in "de":
                posting.start_soon(outbox.post, outgoing(name))
            posting.start_soon(cancel)
    assert gate.calls == [["a"], ["b", "c"], ["d", "e"]]


async def test_a_leader_cancelled_in_flight_leaves_its_followers_sent_once(
    client: Client, queue: Queue
) -> None:
    receipts: list[Receipt] = []
    leading = anyio.CancelScope()

    async def lead() -> None:
        with leading:
            await queue.publish(0, id="leader")

    async def follow(number: int) -> None:
        receipts.append(await queue.publish(number, id=f"follower-{number}"))

    await queue.publish("warm")
    await client.client_pause(300)
    async with anyio.create_task_group() as publishing:
        publishing.start_soon(lead)
        await anyio.wait_all_tasks_blocked()
        for number in range(20):
            publishing.start_soon(follow, number)
        await anyio.wait_all_tasks_blocked()
        leading.cancel()
    ids = (await messages(client))["ready"]
    assert len(ids) == len(set(ids))
    assert {f"follower-{number}" for number in range(20)} <= set(ids)
    assert len(receipts) == 20


async def test_a_call_that_was_cut_off_is_made_again_as_the_same_one() -> None:
    gate, calls = Gate(), []

    async def send(batch: Sequence[Outgoing], call: Call, until_s: float) -> list[Answer]:
        calls.append(call)
        return await gate.send(batch, call, until_s)

    outbox, cut = Outbox(send), anyio.CancelScope()

    async def lead() -> None:
        with cut:
            await outbox.post(outgoing("b"))

    async with anyio.create_task_group() as publishing:
        publishing.start_soon(outbox.post, outgoing("a"))
        await anyio.wait_all_tasks_blocked()
        publishing.start_soon(lead)
        await anyio.wait_all_tasks_blocked()
        publishing.start_soon(outbox.post, outgoing("c"))
        await anyio.wait_all_tasks_blocked()
        gate.open.set()
        gate.open = anyio.Event()
        await anyio.wait_all_tasks_blocked()
        cut.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.open.set()
    assert gate.calls == [["a"], ["b", "c"], ["b", "c"]]
    assert calls[0] != calls[1] == calls[2]


@pytest.mark.parametrize("patience_s", [0, 3600])
async def test_whose_time_is_over_behind_a_call_in_vain_is_sent_by_no_other(
    patience_s: float,
) -> None:
    made, away, failures = list[int](), anyio.Event(), list[ServerUnreachable]()

    async def send(batch: Sequence[Outgoing], _call: Call, _until_s: float) -> list[Answer]:
        made.append(len(batch))
        await away.wait()
        raise ServerUnreachable("away")

    outbox = Outbox(send, patience_s)

    async def post(number: int) -> None:
        with pytest.raises(ServerUnreachable) as told:
            await outbox.post(outgoing(str(number)))
        failures.append(told.value)

    async with anyio.create_task_group() as posting:
        for number in range(1_200):
            posting.start_soon(post, number)
        await anyio.wait_all_tasks_blocked()
        away.set()
    assert (len(made) == 1) is (patience_s == 0)
    assert len({id(failure) for failure in failures}) == 1_200, "each has an error of its own"


@pytest.mark.parametrize("failure", [ServerUnreachable, NotConfirmed])
async def test_each_is_tried_for_as_long_as_it_has_patience_itself(
    failure: type[DelayqError],
) -> None:
    tried, away = list[tuple[list[str], Call, float]](), anyio.Event()

    async def send(batch: Sequence[Outgoing], call: Call, until_s: float) -> list[Answer]:
        tried.append(([message.id for message in batch], call, until_s))
        await away.wait()
        if failure is ServerUnreachable:
            raise ServerUnreachable("away")
        return [failure(message.id) for message in batch]

    outbox, posted = Outbox(send, 3600), dict[str, float]()

    async def post(name: str) -> None:
        posted[name] = mono_s()
        with pytest.raises(failure):
            await outbox.post(outgoing(name))

    async with anyio.create_task_group() as posting:
        for name in "abc":
            posting.start_soon(post, name)
            await anyio.wait_all_tasks_blocked()
        away.set()
    (first, _, a), (second, call, b), (third, again, c) = tried
    assert (first, second, third) == (["a"], ["b", "c"], ["b", "c"])
    assert call == again
    for name, until_s, next_posted in (("a", a, "b"), ("b", b, "c"), ("c", c, "c")):
        assert posted[name] <= until_s - 3600 <= posted[next_posted] + (name == "c")


async def test_what_was_refused_for_good_is_not_sent_again_with_the_others() -> None:
    tried, away = list[list[str]](), anyio.Event()

    async def send(batch: Sequence[Outgoing], _call: Call, _until_s: float) -> list[Answer]:
        tried.append([message.id for message in batch])
        await away.wait()
        return [BacklogFull() if m.id == "c" else NotConfirmed(m.id) for m in batch]

    outbox, failures = Outbox(send, 3600), dict[str, type[Exception]]()

    async def post(name: str) -> None:
        with pytest.raises(DelayqError) as told:
            await outbox.post(outgoing(name))
        failures[name] = told.type

    async with anyio.create_task_group() as posting:
        for name in "abcd":
            posting.start_soon(post, name)
            await anyio.wait_all_tasks_blocked()
        away.set()
    assert tried == [["a"], ["b", "c", "d"], ["b", "d"]]
    assert failures["c"] is BacklogFull
    assert {failures[name] for name in "abd"} == {NotConfirmed}


@pytest.mark.parametrize("names", ["a", "ab"])
async def test_a_call_made_again_adds_nothing_though_the_caller_chose_no_id(
    client: Client, names: str
) -> None:
    terms = Terms(None, 128, 60_000, None, whole=False)
    caller = Caller()
    first, second, third = (caller.call() for _ in range(3))
    for call in (first, first, second, second, third):
        await publish(client, KEYS, terms, [outgoing(name) for name in names], call)
    assert (await messages(client))["ready"] == [*names, *names, *names]


async def test_publishes_outlast_a_server_that_comes_back_within_their_patience() -> None:
    real = RealServer("--appendonly", "yes", "--appendfsync", "always")
    await real.start()
    async with Server(real.url).client() as client:
        queue = Queue(lambda: client, KEYS, patience_s=20)
        await queue.publish(-1)
        real.kill()
        async with anyio.create_task_group() as publishing:
            for number in range(50):
                publishing.start_soon(queue.publish, number)
            await anyio.wait_all_tasks_blocked()
            await real.start()
        assert await client.xlen(KEYS.stream) == 51
        hasty = replace(queue, patience_s=0.1)
        real.kill()
        failures: list[ServerUnreachable] = []

        async def fail() -> None:
            with pytest.raises(ServerUnreachable) as told:
                await hasty.publish(1)
            failures.append(told.value)

        async with anyio.create_task_group() as publishing:
            for _ in range(5):
                publishing.start_soon(fail)
        assert len({id(error) for error in failures}) == 5, "each has an error of its own"
    real.close()


async def outcomes(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    found: list[Any] = [None] * len(calls)

    async def call(at: int) -> None:
        try:
            found[at] = await calls[at]()
        except BacklogFull as error:
            found[at] = error

    async with anyio.create_task_group() as calling:
        for at in range(len(calls)):
            calling.start_soon(call, at)
    return found


async def test_a_full_backlog_refuses_some_of_a_shared_call_and_not_the_others(
    client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(max_backlog=5)
    found = await outcomes(*(lambda n=n: queue.publish(n) for n in range(12)))
    assert [isinstance(answer, BacklogFull) for answer in found] == [False] * 5 + [True] * 7
    assert await client.xlen(KEYS.stream) == 5


async def test_publish_many_is_all_or_nothing_for_each_call(
    client: Client, make_queue: MakeQueue
) -> None:
    queue = make_queue(max_backlog=544)
    with pytest.raises(BacklogFull, match="500 of 600 were accepted"):
        await queue.publish_many(range(600))
    assert await client.xlen(KEYS.stream) == 500
    with pytest.raises(BacklogFull, match="0 of 45 were accepted"):
        await queue.publish_many(range(45))
    assert len(await queue.publish_many(range(44))) == 44
    assert await client.xlen(KEYS.stream) == 544


@pytest.mark.parametrize(
    ("options", "limited", "sizes"),
    [
        ({}, False, [500, 100]),
        ({"key": "k"}, False, [250, 250, 100]),
        ({"delay": 1}, False, [84] * 7 + [12]),
        ({"id": "i"}, False, [125, 125, 125, 125, 100]),
        ({}, True, [125, 125, 125, 125, 100]),
        ({"dedup_id": "d", "delay": 1}, False, [56] * 10 + [40]),
    ],
)
def test_a_call_has_fewer_messages_where_they_take_longer(
    options: Any, limited: bool, sizes: list[int]
) -> None:
    messages = [checked(f"m{n}", options) for n in range(600)]
    assert [len(batch) for batch in batches(messages, limited=limited)] == sizes


def test_a_call_has_fewer_messages_where_they_are_large() -> None:
    messages = [checked("x" * 100_000, {}) for _ in range(25)]
    assert [len(batch) for batch in batches(messages)] == [10, 10, 5]


class Wound(Clock):
    """A clock that the test winds."""

    at_ms = 10**12

    def now_ms(self) -> int:
        return self.at_ms


async def test_a_dedup_id_makes_one_message_of_many_until_its_window_is_over(
    client: Client, make_queue: MakeQueue
) -> None:
    clock = Wound()
    queue = make_queue(clock=clock, dedup_window_s=60)
    in_one_call = [queue.message(n, dedup_id="same") for n in range(3)]
    first, *others = await queue.publish_many(in_one_call)
    assert not first.duplicate
    assert {(other.id, other.duplicate) for other in others} == {(first.id, True)}
    clock.at_ms += 59_999
    assert (await queue.publish(4, dedup_id="same")).id == first.id
    clock.at_ms += 1
    assert not (await queue.publish(5, dedup_id="same")).duplicate
    assert await client.xlen(KEYS.stream) == 2


async def test_a_hundred_thousand_messages_of_one_millisecond_come_in_their_order(
    client: Client, queue: Queue
) -> None:
    at = datetime(2040, 1, 1, tzinfo=UTC)
    for start in range(0, 100_000, 20_000):
        numbers = range(start, start + 20_000)
        await queue.publish_many([queue.message(n, deliver_at=at) for n in numbers])
    schedule = Schedule(queue)
    wait_s: float | None = 0.0
    while wait_s is not None:
        _, wait_s = await schedule.promote(now_ms=10**14)
    seen, last = 0, "-"
    while entries := await client.xrange(KEYS.stream, last, "+", 10_000):
        assert [int(f["body"]) for _, f in entries] == list(range(seen, seen + len(entries)))
        seen, last = seen + len(entries), f"({entries[-1][0]}"
    assert seen == 100_000
