"""Interleavings of all transitions on a real server, with time injected, held against a model.

Every transition is one script, so whatever processes do at once, die of or repeat is a sequence of
scripts. Hypothesis looks for one after which Redis is not what the model says, and shrinks it.
`pytest --hypothesis-profile long tests/test_machine.py` looks for longer.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from delayq import LeaseLost, Queue, Retry, Server
from delayq.caller import Caller
from delayq.clock import Clock
from delayq.keys import GROUP
from delayq.lease import Held, Lease, LeaseStore
from delayq.message import Delivery, new_id, unpack
from delayq.pending import Pending
from delayq.publishing import ID_WINDOW_MS, PROMOTE_LIMIT
from delayq.schedule import Schedule, Scheduled
from delayq.transport.anchor import Anchor
from tests import model
from tests.conftest import KEYS, Client
from tests.servers import RealServer

BEGIN_MS = 10**12
TTL_S = 3_600.0
MAX_DELIVERIES = 2
names = st.sampled_from(["c1", "c2", "c3"])
who = st.integers(0, 2)
"""Of those that can, which one."""
ids = st.sampled_from([None, None, None, "a", "b"])
dedup_ids = st.sampled_from([None, None, None, "d"])
keys = st.sampled_from(["k", "k", "l", None])
delays = st.sampled_from([0, 0, 1, 20, ID_WINDOW_MS])
any_terms = st.sampled_from([PROMOTE_LIMIT, -1, 0])
few = st.integers(1, 4)


class Wound(Clock):
    """A clock that the machine winds."""

    def __init__(self) -> None:
        self.at_ms = BEGIN_MS

    def now_ms(self) -> int:
        return self.at_ms


@dataclass
class Consumer:
    """A consumer as it sees itself: whether its lease is still good it does not know."""

    name: str
    store: LeaseStore
    lease: Lease | None = None
    start: str = "-"
    hand: dict[str, Delivery] = field(default_factory=dict)
    reclaimed: str = "-"
    last: Callable[[], None] | None = None
    """Its last call, to be made again as after a lost reply."""


class Machine(RuleBasedStateMachine):
    """Producers, pollers and consumers, of which each may be a zombie at any time."""

    def __init__(self, run: Callable[[Any], Any], client: Client) -> None:
        super().__init__()
        self.run, self.client = run, client
        self.run(client.flushall())
        self.clock = Wound()
        self.numbers = 0
        self.epochs: list[int] = []
        self.seen: list[Scheduled] = []
        self.published: Callable[[], None] | None = None
        self.caller = Caller()

    @initialize(ordering=st.sampled_from(["strict", "none"]))
    def begin(self, ordering: str) -> None:
        self.queue = Queue(
            lambda: self.client,
            KEYS,
            ordering,  # type: ignore[arg-type]
            Retry(MAX_DELIVERIES),
            dedup_window_s=ID_WINDOW_MS / 1000,
            clock=self.clock,
        )
        self.lane = model.Lane(MAX_DELIVERIES, BEGIN_MS)
        self.pending = Pending(self.queue)
        self.consumers = {
            name: Consumer(name, LeaseStore(Anchor(self.client), KEYS, name, TTL_S))
            for name in ("c1", "c2", "c3")
        }
        self.run(self.pending.ensure_group())
        for key in ("k", "k", None):
            self.publish(None, 0, key, None, PROMOTE_LIMIT)
        self.redis_is_what_the_model_says()  # which learns the ids of the entries
        self.acquire("c1", False)
        self.fetch(0, 3, 0, rewind=False, busy=False)
        self.retry(0, 0, 0, park=True)

    # -- producers and pollers --

    @rule(known=ids, delay=delays, key=keys, dedup_id=dedup_ids, terms=any_terms)
    def publish(
        self, known: str | None, delay: int, key: str | None, dedup_id: str | None, terms: int
    ) -> None:
        """Publish on the terms that a queue without a hook, of unknown hook, or with one has."""
        self.numbers += 1
        number, name = self.numbers, known or f"m{self.numbers}"
        due = self.lane.now + delay
        queue = self.on_terms(terms)

        def publish() -> None:
            told = queue.publish(
                number, id=name, delay=timedelta(milliseconds=delay), key=key, dedup_id=dedup_id
            )
            receipt = self.run(told)
            message = model.Message(number, name, key, due)
            [expected] = self.lane.publish([message], None, terms, dedup_id or "")
            assert (receipt.id, receipt.due_ms, receipt.duplicate) == expected
            if receipt.duplicate and number not in self._accepted:
                self.lane.settled.add(number)  # its first is the one message

        publish()
        self.published = publish

    def on_terms(self, terms: int) -> Queue:
        return {
            PROMOTE_LIMIT: self.queue,
            -1: replace(self.queue, past_due=False),
            0: replace(self.queue, on_due=_unused),
        }[terms]

    @rule(count=few, delay=delays, key=keys, terms=any_terms)
    def publish_untold(self, count: int, delay: int, key: str | None, terms: int) -> None:
        """Publish messages whose ids nobody told: known is the call, not they."""
        numbers = range(self.numbers + 1, self.numbers + count + 1)
        self.numbers += count
        queue, call, due = self.on_terms(terms), self.caller.call(), self.lane.now + delay
        after = timedelta(milliseconds=delay)
        told = [queue.message(n, id=f"m{n}", delay=after, key=key) for n in numbers]
        untold = [message._replace(told="") for message in told]

        def publish() -> None:
            receipts = self.run(queue._send(queue._terms("memory"), untold, call, 0.0))
            messages = [model.Message(n, f"m{n}", key, due) for n in numbers]
            expected = self.lane.publish(messages, call, terms)
            assert [(r.id, r.due_ms, r.duplicate) for r in receipts] == expected

        publish()
        self.published = publish

    @precondition(lambda self: self.published)
    @rule()
    def publish_again(self) -> None:
        assert self.published
        self.published()
        self.published = None

    @rule(ms=st.sampled_from([1, 20, 1_000, 12_000, ID_WINDOW_MS + 1]))
    def wait(self, ms: int) -> None:
        self.clock.at_ms += ms
        self.lane.now = self.clock.at_ms
        self.published = None  # the window in which a repeat is known is not for ever

    @precondition(lambda self: self.due)
    @rule()
    def promote(self) -> None:
        moved, _ = self.run(Schedule(self.queue).promote())
        assert moved == self.lane.promote()

    @property
    def due(self) -> list[model.Message]:
        return [m for m in self.lane.schedule if m.due <= self.lane.now]

    @precondition(lambda self: self.due)
    @rule()
    def look(self) -> None:
        """A poller reads what is due; whatever happens until it moves that takes time."""
        self.seen, _ = self.run(Schedule(self.queue).due())
        assert [s.message.body for s in self.seen] == [m.number for m in self.due]
        self.wait(1)

    @precondition(lambda self: self.seen)
    @rule()
    def promote_as(self) -> None:
        moved = self.run(Schedule(self.queue).promote_as(self.seen))
        assert moved == self.lane.promote_as([(s.member, float(s.score)) for s in self.seen])
        self.seen = []

    # -- operators --

    @precondition(lambda self: self.lane.schedule)
    @rule(at=few, delay=delays, cancel=st.booleans())
    def change(self, at: int, delay: int, cancel: bool) -> None:
        known = self.lane.schedule[at % len(self.lane.schedule)].id
        if cancel:
            self.published = None
            assert self.run(self.queue.cancel(known)) == self.lane.cancel(known)
        else:
            done = self.run(self.queue.reschedule(known, delay=delay / 1000))
            assert done == self.lane.reschedule(known, delay)

    @rule(state=st.sampled_from(["dead", "dead", "dead", "scheduled", "ready"]), keep=st.booleans())
    def redrive_or_purge(self, state: Any, keep: bool) -> None:
        self.published = None
        if state == "dead" and keep:
            assert self.run(self.queue.dead.redrive()) == self.lane.redrive()
        elif not keep:
            assert self.run(self.queue.purge(state)) == self.lane.purge(state)

    # -- leases --

    def key(self, name: str) -> str:
        return KEYS.lease(None if self.queue.ordered else name)

    @rule(name=names, killing=st.booleans())
    def acquire(self, name: str, killing: bool) -> None:
        """Take the lease if it is free; or of a holder who is dead, or seems to be."""
        consumer, key = self.consumers[name], self.key(name)
        dead = None
        if killing and (held := self.lane.leases.get(key)):
            connection = self.run(self.client.hget(key, "connection"))
            dead = Held(held.holder, held.epoch, connection, 1.0)
        answer = self.run(consumer.store.acquire(key, dead))
        held = self.lane.leases.get(key)
        nonce = consumer.store._nonce
        if held and held.nonce != nonce and not dead:
            assert isinstance(answer, Held)
            assert (answer.holder, answer.epoch) == (held.holder, held.epoch)
            return
        assert isinstance(answer, Lease)
        if held and held.nonce == nonce:
            assert answer.epoch == held.epoch
        else:
            assert answer.epoch > max(self.epochs, default=0)
            self.epochs.append(answer.epoch)
            self.lane.leases[key] = model.Held(answer.holder, answer.epoch, nonce)
            consumer.start, consumer.hand, consumer.reclaimed = "-", {}, "-"
        consumer.lease = answer

    @precondition(lambda self: self.holders)
    @rule(which=who, what=st.sampled_from(["renew", "expire", "expire", "release", "restart"]))
    def keep_or_lose(self, which: int, what: str) -> None:
        consumer = self.holder(which)
        getattr(self, what)(consumer, consumer.lease)

    def renew(self, consumer: Consumer, _: Lease) -> None:
        self.fenced(consumer, consumer.store.renew, lambda _: None)

    def release(self, consumer: Consumer, lease: Lease) -> None:
        held = self.lane.leases.get(lease.key)
        good = held is not None and held.epoch == lease.epoch
        assert self.run(consumer.store.release(lease)) == good
        if good:
            del self.lane.leases[lease.key]

    def expire(self, _: Consumer, lease: Lease) -> None:
        self.run(self.client.delete(lease.key))
        self.lane.leases.pop(lease.key, None)

    def restart(self, consumer: Consumer, _: Lease) -> None:
        """The process dies and comes back: of what it had in hand it knows nothing."""
        store = LeaseStore(Anchor(self.client), KEYS, consumer.name, TTL_S)
        self.consumers[consumer.name] = Consumer(consumer.name, store)

    @property
    def holders(self) -> list[Consumer]:
        """Those that believe that they hold a lease."""
        return [consumer for consumer in self.consumers.values() if consumer.lease]

    def holder(self, which: int) -> Consumer:
        return self.holders[which % len(self.holders)]

    @property
    def busy(self) -> list[Consumer]:
        """Those that believe that they have messages in hand."""
        return [consumer for consumer in self.holders if consumer.hand]

    def in_hand(self, which: int, at: int = 0) -> tuple[Consumer, Delivery]:
        consumer = self.busy[which % len(self.busy)]
        return consumer, list(consumer.hand.values())[at % len(consumer.hand)]

    def fenced(
        self,
        consumer: Consumer,
        real: Callable[[Lease], Any],
        modelled: Callable[[model.Held], Any],
        check: Callable[[Any], Any] = lambda answer: answer,
    ) -> None:
        """Make a call of a consumer, and the model's; and be able to make both again."""
        lease = consumer.lease
        assert lease

        def call() -> None:
            try:
                held = self.lane.fence(lease.key, lease.epoch)
            except model.Refused:
                with pytest.raises(LeaseLost):
                    self.run(real(lease))
                return
            answer, expected = self.run(real(lease)), modelled(held)
            if expected is not None:
                assert check(answer) == expected

        call()
        consumer.last = call

    @precondition(lambda self: self.holders)
    @rule(which=who)
    def again(self, which: int) -> None:
        """The reply was lost: the call is made again, whatever happened in between."""
        if call := self.holder(which).last:
            call()

    @precondition(lambda self: self.holders)
    @rule(which=who, count=few, acks=st.integers(0, 3), rewind=st.booleans(), busy=st.booleans())
    def fetch(self, which: int, count: int, acks: int, rewind: bool, busy: bool) -> None:
        consumer = self.holder(which)
        settled, call = list(consumer.hand)[:acks], new_id()
        start = "-" if rewind else consumer.start

        def real(lease: Lease) -> Any:
            return self.pending.fetch(lease, start, count, settled, call, busy=busy)

        def modelled(held: model.Held) -> Any:
            self.lane.ack(settled)
            scope = "" if self.queue.ordered else held.holder
            return self.lane.fetch(held, scope, start, count, call, busy=busy)

        def check(batch: Any) -> tuple[bool, list[tuple[int, int]]]:
            for entry in settled:
                consumer.hand.pop(entry, None)
            if batch.deliveries:
                consumer.start = "(" + batch.deliveries[-1].entry
            return batch.held_back, self.taken(consumer, batch.deliveries)

        self.fenced(consumer, real, modelled, check)

    def taken(self, consumer: Consumer, deliveries: list[Any]) -> list[tuple[int, int]]:
        entries = [model.place(d.entry) for d in deliveries]
        assert entries == sorted(entries), "delivered in the order of the stream"
        for delivery in deliveries:
            assert delivery.message.due_ms <= self.lane.now, "never early"
            consumer.hand[delivery.entry] = delivery
        return [(d.message.body, d.message.deliveries) for d in deliveries]

    @precondition(lambda self: self.busy)
    @rule(which=who, count=few)
    def redeliver(self, which: int, count: int) -> None:
        consumer, _ = self.in_hand(which)
        entries = sorted(consumer.hand, key=model.place)[:count]
        messages = [(entry, consumer.hand[entry].delivered) for entry in entries]
        self.fenced(
            consumer,
            lambda lease: self.pending.redeliver(lease, messages),
            lambda held: self.lane.redeliver(held, messages),
            lambda deliveries: self.taken(consumer, deliveries),
        )

    @precondition(lambda self: self.busy)
    @rule(which=who, count=few)
    def give_back(self, which: int, count: int) -> None:
        consumer, _ = self.in_hand(which)
        deliveries = list(consumer.hand.values())[-count:]
        messages = [(d.entry, d.delivered) for d in deliveries]
        self.fenced(
            consumer,
            lambda lease: self.pending.give_back(lease, deliveries),
            lambda held: self.lane.give_back(held, messages),
        )

    def settles(
        self, consumer: Consumer, delivery: Delivery, but: tuple[int, ...] = ()
    ) -> Callable[[int], int]:
        """After this call the message is in hand no more, unless it answers one of `but`."""

        def check(answer: int) -> int:
            if answer not in but:
                consumer.hand.pop(delivery.entry, None)
            return answer

        return check

    @precondition(lambda self: self.busy)
    @rule(which=who, at=few)
    def ack(self, which: int, at: int) -> None:
        consumer, delivery = self.in_hand(which, at)
        key, freed = delivery.message.key, ("", "")
        if key is not None and key in self.lane.parked:
            freed = (key, delivery.message.id)
        self.fenced(
            consumer,
            lambda lease: self.pending.ack(lease, [delivery.entry], freed),
            lambda _: self.lane.ack([delivery.entry], freed),
            self.settles(consumer, delivery),
        )

    @precondition(lambda self: self.busy)
    @rule(which=who, at=few, delay=delays, park=st.sampled_from([True, True, False]))
    def retry(self, which: int, at: int, delay: int, park: bool) -> None:
        consumer, delivery = self.in_hand(which, at)
        deliveries = delivery.message.deliveries
        self.fenced(
            consumer,
            lambda lease: self.pending.retry_later(lease, delivery, delay, park=park),
            lambda _: self.lane.retry(delivery.entry, delay, deliveries, park=park),
            self.settles(consumer, delivery),
        )

    @property
    def waiting(self) -> list[tuple[Consumer, Delivery]]:
        """What somebody has in hand of keys that are parked."""
        found = [
            (consumer, delivery) for consumer in self.busy for delivery in consumer.hand.values()
        ]
        return [(c, d) for c, d in found if d.message.key in self.lane.parked]

    @precondition(lambda self: self.waiting)
    @rule(at=few, lost=st.booleans(), looks=st.booleans())
    def park(self, at: int, lost: bool, looks: bool) -> None:
        consumer, delivery = self.waiting[at % len(self.waiting)]
        self.fenced(
            consumer,
            lambda lease: self.pending.park(lease, delivery, lost=lost, looks=looks),
            lambda _: self.lane.park(
                delivery.entry, delivery.message.key or "", lost=lost, looks=looks
            ),
            self.settles(consumer, delivery, but=(-1, 3)),
        )

    @precondition(lambda self: self.busy)
    @rule(which=who, at=few)
    def dead_letter(self, which: int, at: int) -> None:
        consumer, delivery = self.in_hand(which, at)
        self.fenced(
            consumer,
            lambda lease: self.pending.dead_letter(lease, delivery.entry, 1, "why"),
            lambda _: self.lane.bury(delivery.entry),
            self.settles(consumer, delivery),
        )

    @precondition(lambda self: self.queue.ordered and self.holders)
    @rule(which=who, limit=few)
    def reclaim(self, which: int, limit: int) -> None:
        consumer = self.holder(which)
        start = consumer.reclaimed

        def modelled(held: model.Held) -> int:
            after = [m for m in self.lane.stream if m.owner and not _past(start, m)][:limit]
            return self.lane.claim(held, [m for m in after if m.owner != held.holder])

        def check(part: Any) -> int:
            consumer.reclaimed = part.next_start or "-"
            return len(part.owners)

        self.fenced(
            consumer, lambda lease: self.pending.reclaim(lease, start, limit), modelled, check
        )

    @precondition(lambda self: not self.queue.ordered and len(self.holders) > 1)
    @rule(which=who, killing=st.booleans())
    def inherit(self, which: int, killing: bool) -> None:
        consumer, other = self.holder(which), self.holder(which + 1)
        theirs, key = other.lease, KEYS.lease(other.name)
        assert theirs
        gone = (self.run(self.client.hget(key, "connection")) or "") if killing else ""

        def modelled(held: model.Held) -> int:
            alive = self.lane.leases.get(key)
            if alive and alive.epoch == theirs.epoch:
                if not gone:
                    return -1
                del self.lane.leases[key]
            return self.lane.claim(held, [m for m in self.lane.stream if m.owner == theirs.holder])

        self.fenced(
            consumer, lambda lease: self.pending.inherit(lease, theirs.holder, gone), modelled
        )

    # -- what has to hold after every step --

    @property
    def _accepted(self) -> set[int]:
        lane = self.lane
        there = [*lane.schedule, *lane.stream, *lane.dead]
        return {m.number for m in there} | lane.settled

    @invariant()
    def redis_is_what_the_model_says(self) -> None:
        if hasattr(self, "lane"):
            found, entries = self.run(
                seen(self.client, [self.key(name) for name in self.consumers])
            )
            assert found == self.lane.view
            for message, entry in zip([*self.lane.stream, *self.lane.dead], entries, strict=True):
                message.entry = entry

    @invariant()
    def nobody_is_held_with_nobody_before_it(self) -> None:
        if hasattr(self, "lane"):
            firsts = [min(rows.items())[1] for rows in self.lane.waiting.values() if rows]
            assert not [m.id for m in self.lane.schedule if m.held and m.id in firsts]

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if hasattr(self, "lane"):
            lane = self.lane
            there = [m.number for m in [*lane.schedule, *lane.stream, *lane.dead]]
            assert sorted([*there, *lane.settled]) == list(range(1, self.numbers + 1))

    def teardown(self) -> None:
        """Settle what is left: then nothing is left behind that does not fade by itself."""
        if not hasattr(self, "lane"):
            return
        for purged in ("scheduled", "ready", "dead"):
            self.run(self.queue.purge(purged))
        for message in self.lane.stream:
            if message.owner:
                self.run(self.client.xack(KEYS.stream, GROUP, message.entry))
                self.run(self.client.xdel(KEYS.stream, message.entry))
        kept = {KEYS.stream, KEYS.dead, KEYS.epoch, KEYS.parked, KEYS.waiting, "test:lanes"}
        for key in set(self.run(self.client.keys("*"))) - kept:
            assert self.run(self.client.pttl(key)) > 0, key
        assert self.run(self.client.xlen(KEYS.stream)) == 0


def _past(start: str, message: model.Message) -> bool:
    return start != "-" and model.place(message.entry) <= model.place(start[1:])


async def _unused(_: object) -> object:
    raise NotImplementedError


async def seen(client: Client, leases: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Redis as the model would tell it, and the ids of the entries in stream and dead stream."""
    async with client.pipeline(transaction=False) as at_once:
        at_once.xrange(KEYS.stream).xrange(KEYS.dead)
        at_once.xpending_range(KEYS.stream, GROUP, "-", "+", 1_000)
        at_once.zrange(KEYS.schedule, 0, -1, withscores=True).hgetall(KEYS.bodies)
        at_once.zrange(KEYS.recent, 0, -1, withscores=True)
        at_once.hgetall(KEYS.dedup).hgetall(KEYS.parked)
        at_once.zrange(KEYS.waiting, 0, -1)
        for key in leases:
            at_once.hmget(key, "holder", "epoch")
        answers = await at_once.execute()
    stream, dead, rows, schedule, bodies, recent, dedup, parked, waiting, *held = answers
    pending = {row["message_id"]: (row["consumer"], row["times_delivered"]) for row in rows}
    assert sorted(member[12:] for member, _ in schedule) == sorted(bodies), "orphans"
    view = {
        "scheduled": [_scheduled(member, due, bodies[member[12:]]) for member, due in schedule],
        "stream": [
            (
                int(fields["body"]),
                fields["id"],
                int(fields["due"]),
                *_counted(fields),
                *pending.get(entry, (None, 0)),
            )
            for entry, fields in stream
        ],
        "dead": [(int(fields["body"]), fields["id"]) for _, fields in dead],
        "recent": {known: int(at) for known, at in recent},
        "dedup": dedup,
        "parked": parked,
        "waiting": [_row(row) for row in waiting],
        "leases": {
            key: (holder, int(epoch))
            for key, (holder, epoch) in zip(leases, held, strict=True)
            if epoch
        },
    }
    return view, [entry for entry, _ in [*stream, *dead]]


def _scheduled(member: str, due: float, packed: str) -> tuple[Any, ...]:
    fields = unpack(packed[12:])
    assert packed[:12] == member[:12], "the arrival number is the same in both"
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return (member, due, int(values["body"]), *_counted(values))


def _row(row: str) -> tuple[str, model.Place, str]:
    """Who waits: 8 digits tell how long the key is; it, its place in 32 digits, and the id."""
    end = 8 + int(row[:8], 16)
    key, at, waiting_id = row[8:end], row[end : end + 32], row[end + 33 :]
    return key, (int(at[:16], 16), int(at[16:], 16)), waiting_id


def _counted(fields: Mapping[str, str]) -> tuple[int, model.Place | None]:
    at = fields.get("place")
    return int(fields.get("deliveries", 0)), model.place(at) if at else None


@pytest.fixture
def run_and_client(real_server: RealServer) -> Iterator[tuple[Callable[[Any], Any], Client]]:
    with asyncio.Runner() as runner:
        opened = Server(real_server.url).client("machine")
        client = runner.run(opened.__aenter__())
        yield runner.run, client
        runner.run(opened.__aexit__(None, None, None))


@pytest.mark.timeout(600)  # cut short, the search would take that for a failure to shrink
def test_whatever_happens_in_whatever_order_redis_is_what_the_model_says(
    run_and_client: tuple[Callable[[Any], Any], Client],
) -> None:
    machine: Any = partial(Machine, *run_and_client)
    run_state_machine_as_test(machine, settings=settings(deadline=None))
