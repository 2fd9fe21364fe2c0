"""Each script's header against its body, and what holds for all fenced ones."""

import re
from collections.abc import Awaitable, Callable
from importlib import resources

import pytest
from redis import exceptions

from delayq import LeaseLost, Queue, ServerError, scripts
from delayq.errors import GroupMissing, ServerOutOfMemory
from delayq.keys import GROUP
from delayq.lease import Held, Lease, LeaseStore
from delayq.message import Delivery
from delayq.pending import Pending
from delayq.schedule import Schedule
from delayq.survey import Survey
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client
from tests.state import dump

FILES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in resources.files("delayq").joinpath("lua").iterdir()
    if file.is_file()
}
SCRIPTS = sorted(FILES)
TYPES = {"STREAM", "ZSET", "HASH", "STRING"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_header_tells_what_the_body_uses(name: str) -> None:
    header, _, body = FILES[name].partition("\n\nlocal ")
    for kind in ("KEYS", "ARGV"):
        told = re.findall(rf"^-- {kind}\[(\d+)(…)?\] *(.*)$", header, re.M)
        numbers = [int(number) for number, _, _ in told]
        assert numbers == list(range(1, len(told) + 1)), f"{kind}: not told in order"
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", body)}
        used |= {int(number) for number in re.findall(rf"unpack\({kind}, (\d+)", body)}
        used |= {int(n) for n in re.findall(r"at = (\d+)", body)} if kind == "ARGV" else set()
        assert used <= set(numbers), f"{kind}: used, not told"
        if kind == "KEYS":
            assert used == set(numbers), "a key is told, and not used"
            assert all(rest.split()[1] in TYPES for _, _, rest in told)
    assert re.search(r"^-- Returns .", header, re.M)
    assert re.search(r"^-- Cost: O\(", header, re.M)


async def test_a_script_that_the_server_forgot_is_sent_again(client: Client, queue: Queue) -> None:
    await client.script_flush()
    assert (await queue.publish(1)).duplicate is False


Call = Callable[[Pending, LeaseStore, Lease, Delivery], Awaitable[object]]
FENCED: dict[str, Call] = {
    "fetch": lambda p, _s, lease, _d: p.fetch(lease, "-", 10),
    "fetch and ack": lambda p, _s, lease, d: p.fetch(lease, "-", 10, [d.entry]),
    "redeliver": lambda p, _s, lease, d: p.redeliver(lease, [(d.entry, 1)]),
    "ack": lambda p, _s, lease, d: p.ack(lease, [d.entry]),
    "retry": lambda p, _s, lease, d: p.retry_later(lease, d, 5),
    "dead letter": lambda p, _s, lease, d: p.dead_letter(lease, d.entry, 1, "why"),
    "retry and park": lambda p, _s, lease, d: p.retry_later(lease, d, 5, park=True),
    "put off": lambda p, _s, lease, d: p.put_off(lease, d.entry, 5),
    "park": lambda p, _s, lease, d: p.park(lease, d),
    "halt": lambda p, _s, lease, d: p.halt(lease, d, "why", ""),
    "give back": lambda p, _s, lease, d: p.give_back(lease, [d]),
    "free a key": lambda p, _s, lease, d: p.ack(lease, [], ("k", d.message.id)),
    "reclaim": lambda p, _s, lease, _d: p.reclaim(lease, "-"),
    "inherit": lambda p, _s, lease, _d: p.inherit(lease, "x@1", "7"),
    "survey": lambda p, s, lease, _d: Survey(p._queue, s).turn(lease),
    "renew": lambda _p, s, lease, _d: s.renew(lease),
}


async def delivered(queue: Queue, pending: Pending, lease: Lease) -> Delivery:
    await queue.publish("a", key="k")
    await queue.publish("b")
    batch = await pending.fetch(lease, "-", 1)
    assert isinstance(batch.deliveries[0], Delivery)
    return batch.deliveries[0]


@pytest.mark.parametrize("name", FENCED)
async def test_the_holder_may(
    name: str, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    await FENCED[name](pending, store, lease, await delivered(queue, pending, lease))


@pytest.mark.parametrize("name", FENCED)
async def test_an_older_epoch_is_refused_and_changes_nothing(
    name: str, client: Client, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    delivery = await delivered(queue, pending, lease)
    await store.release(lease)
    successor = await LeaseStore(Anchor(client), KEYS, "c2", 100).acquire(KEYS.lease())
    assert isinstance(successor, Lease)
    before = await dump(client)
    with pytest.raises(LeaseLost):
        await FENCED[name](pending, store, lease, delivery)
    assert await dump(client) == before


@pytest.mark.parametrize("name", FENCED)
async def test_without_a_lease_all_is_refused_and_nothing_changes(
    name: str, client: Client, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    delivery = await delivered(queue, pending, lease)
    await client.delete(KEYS.lease())
    before = await dump(client)
    with pytest.raises(LeaseLost):
        await FENCED[name](pending, store, lease, delivery)
    assert await dump(client) == before


async def test_a_key_of_the_wrong_type_is_named_and_nothing_changes(
    client: Client, queue: Queue
) -> None:
    for key in [
        KEYS.stream,
        KEYS.schedule,
        KEYS.bodies,
        KEYS.recent,
        KEYS.arrival,
        KEYS.bell,
        KEYS.dedup,
    ]:
        await client.flushall()
        await client.sadd(key, "foreign")
        await queue.register()
        before = await dump(client)
        with pytest.raises(ServerError, match=re.escape(key)):
            await queue.publish(1, delay=5)
        assert await dump(client) == before


async def test_a_lone_publish_that_failed_is_not_known(client: Client, queue: Queue) -> None:
    await queue.publish(0)
    await client.delete(KEYS.stream)
    await client.sadd(KEYS.stream, "foreign")
    before = await dump(client)
    with pytest.raises(ServerError, match=re.escape(KEYS.stream)):
        await queue.publish(1)
    assert await dump(client) == before, "a repeat of that call would be told that it was accepted"


async def test_at_maxmemory_publishing_is_refused_and_draining_goes_on(
    client: Client, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    for number in range(6):
        await queue.publish(number)
    await queue.publish("later", delay=3600, id="later")
    batch = await pending.fetch(lease, "-", 4)
    first, second, third, fourth = (d for d in batch.deliveries if isinstance(d, Delivery))
    await client.config_set("maxmemory", "1")
    before = await dump(client)
    with pytest.raises(ServerOutOfMemory):
        await queue.publish("refused")
    with pytest.raises(ServerOutOfMemory):
        await queue.publish("refused", delay=5)
    assert await dump(client) == before
    assert await pending.ack(lease, [first.entry]) == 1
    assert await pending.retry_later(lease, second, 5) > 0
    assert await pending.dead_letter(lease, third.entry, 1, "why")
    assert await pending.redeliver(lease, [(fourth.entry, 1)])
    assert (await pending.fetch(lease, "(" + fourth.entry, 10)).deliveries
    assert (await Schedule(queue).promote(now_ms=10**14))[0] == 2
    lease = await store.renew(lease)
    other = LeaseStore(Anchor(client), KEYS, "c2", 10)
    seen = await other.acquire(KEYS.lease())
    assert isinstance(seen, Held)
    took = await other.acquire(KEYS.lease(), seen)
    assert isinstance(took, Lease)
    assert (await pending.reclaim(took, "-")).next_start is None
    assert await other.release(took)


def test_every_refusal_has_its_error() -> None:
    said = {
        "LEASELOST epoch 5 is not": "LeaseLost",
        "ERR Error running script (call to f_1): @user_script:3: -NOGROUP No": "GroupMissing",
        "OOM command not allowed": "ServerOutOfMemory",
        "LOADING Redis is loading": "ServerUnreachable",
        "READONLY You can't write": "ServerReadOnly",
        "NOPERM this user has no permissions": "ServerRefused",
        "ERR ACL failure in script: User u has no permissions": "ServerRefused",
        "WRONGKEY x is a set, not a stream": "ScriptFailed",
        "something new": "ScriptFailed",
    }
    for text, name in said.items():
        error = exceptions.ResponseError(text)
        assert type(scripts.translated(error)).__name__ == name
    assert type(scripts.translated(exceptions.TimeoutError())).__name__ == "ServerUnreachable"
    assert type(scripts.translated(OSError("away"))).__name__ == "ServerUnreachable"


async def test_a_group_that_is_gone_is_told_apart(
    client: Client, pending: Pending, lease: Lease
) -> None:
    await client.xgroup_destroy(KEYS.stream, GROUP)
    with pytest.raises(GroupMissing):
        await pending.fetch(lease, "-", 1)
    await client.delete(KEYS.stream)
    with pytest.raises(GroupMissing):
        await pending.reclaim(lease, "-")
