"""What comes from outside: entries, scores, marks, leases, cursors, options, words of commands.

Nothing of that stops a loop: what is no message becomes a dead letter or is refused with an error
that names it, and everything else is still delivered.
"""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from delayq import (
    InvalidCursor,
    InvalidMessage,
    InvalidName,
    LaneKeys,
    Ordering,
    Poller,
    Queue,
    Retry,
    Server,
    ServerError,
    cli,
)
from delayq.delivered import Malformed
from delayq.events import Ended
from delayq.keys import GROUP
from delayq.lease import Held, Lease, LeaseStore
from delayq.message import FORMAT, JSON, Delivery
from delayq.pending import Pending
from delayq.schedule import Schedule
from delayq.survey import Survey
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import troupe
from tests.servers import RealServer
from tests.state import messages

FAR_MS = 10**14
fuzz = settings(
    deadline=None,
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

DEEP = "[" * 20_000
NO_NUMBERS = ("-1", " 5", "1_0", "\u0663", "0x10", "1.5", "1e3", "1e400", "nan", "inf", "soon")
odd_numbers = st.sampled_from(["0", "", "\x00", "9" * 400, "9" * 5_000, *NO_NUMBERS])
odd_text = st.text(max_size=8) | st.sampled_from(["\x00", "é", "a\r\nb", "{}", "0-0 5 x", "-"])
odd_bytes = st.binary(max_size=8) | odd_text.map(lambda text: text.encode("utf-8", "replace"))
odd_json = st.sampled_from(
    ["{", "", "null", "NaN", "[Infinity]", DEEP, '"\\ud800"', '{"a":1}', '{"a":"b"}', "[1,2]"]
)
OURS = ("id", "due", "body", "key", "headers", "published", "deliveries", "place", "v")
names = st.sampled_from([*OURS, "entry", "reason", "error", "raw", "other", ""])
values = st.one_of(odd_numbers, odd_json, odd_bytes, st.just('"ok"'))
entries = st.dictionaries(names | odd_bytes, values, min_size=1, max_size=6)


def is_newer(fields: dict[Any, Any]) -> bool:
    """What a newer delayq wrote is left to it: tests/test_formats.py."""
    try:
        return int(fields.get("v") or 1) > FORMAT
    except ValueError:
        return False


@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
@fuzz
@given(foreign=st.lists(entries.filter(lambda e: not is_newer(e)), min_size=1, max_size=4))
@example([{"body": "1"} | {f"f{n}": "x" for n in range(63)}])
@example([{"body": "1"} | {f"f{n}": "x" for n in range(200)}])
async def test_what_foreign_hands_add_to_the_stream_is_handled_or_dead_and_stops_nothing(
    server: Server, client: Client, ordering: Ordering, foreign: list[dict[Any, Any]]
) -> None:
    await client.flushall()
    queue = Queue(lambda: client, KEYS, ordering, Retry(2, 1, 1))
    for fields in foreign:
        await client.xadd(KEYS.stream, fields)
    await queue.publish("good", key="k")
    async with troupe(server, queue) as t:
        t.failing["good"] = [ValueError("once")]
        t.poller()
        t.consumer("c1")
        await t.settled(len(foreign) + 1)
        assert "good" in t.bodies
        assert not t.tape.of(Ended)
    assert len(t.bodies) - 2 + await client.xlen(KEYS.dead) >= len(foreign)
    assert await client.xlen(KEYS.stream) == 0


scores = st.floats(allow_nan=False) | st.sampled_from([0.0, 1.5, -1.0, 1e22, 1e300])
packs = st.one_of(
    odd_json,
    odd_bytes,
    st.lists(st.sampled_from(["body", "key", "place", "v", "x", '"ok"', "\ud800", 5, None, [], {}]))
    .filter(lambda fields: "v" not in fields)
    .map(json.dumps),
)
members = st.binary(max_size=20) | st.sampled_from([b"x", b"000000000001", b"000000000001bad"])


@pytest.mark.parametrize("hooked", [False, True])
@fuzz
@given(foreign=st.lists(st.tuples(members, scores, packs), min_size=1, max_size=4))
@example([(b"000000000001bad", 1.0, '["body","1","key","\\ud800"]')])
async def test_what_foreign_hands_schedule_is_promoted_or_dead_and_stops_nothing(
    server: Server,
    client: Client,
    make_queue: MakeQueue,
    hooked: bool,
    foreign: list[tuple[bytes, float, Any]],
) -> None:
    async def same(message: Any) -> Any:
        return message.body

    await client.flushall()
    queue = make_queue(on_due=same if hooked else None)
    for member, score, packed in foreign:
        await client.zadd(KEYS.schedule, {member: score})
        await client.hset(KEYS.bodies, member[12:], b"000000000001" + _bytes(packed))
    receipt = await queue.publish("good", delay=60)
    poller = Poller(server, queue)
    await poller.turn(FAR_MS)
    waiting = await client.zcount(KEYS.schedule, "-inf", FAR_MS)
    ready = [fields["id"] for _, fields in await client.xrange(KEYS.stream)]
    assert (waiting, receipt.id in ready) == (0, True)
    there = len(ready) + await client.xlen(KEYS.dead) + await client.zcard(KEYS.schedule)
    assert there == len({member for member, _, _ in foreign}) + 1


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


@fuzz
@given(packed=packs, score=scores)
@example('["key","k","place",["x"]]', 1.0)
async def test_what_foreign_hands_scheduled_can_be_listed_cancelled_and_purged(
    client: Client, queue: Queue, packed: Any, score: float
) -> None:
    await client.flushall()
    for name in ("one", "two"):
        await client.zadd(KEYS.schedule, {f"000000000001{name}": score})
        await client.hset(KEYS.bodies, name, b"000000000001" + _bytes(packed))
    await client.hset(KEYS.parked, "k", "0-0 5 other")
    assert len((await queue.list("scheduled")).records) == 2
    assert await queue.get("one")
    assert await queue.cancel("one")
    assert await queue.purge("scheduled") == 1
    assert not await client.exists(KEYS.schedule, KEYS.bodies)


marks = (
    st.sampled_from(
        ["", "x", "x 5 b", "5-5 x b", "5-5 5", "- - -", "0-0 5 ", "9-9 5 gone", "1-x 5 b", "5 5 5"]
    )
    | odd_bytes
)


@pytest.mark.parametrize("park", [False, True])
@fuzz
@given(found=marks)
async def test_a_mark_of_foreign_hands_parks_nothing_for_ever(
    client: Client, found: Any, park: bool
) -> None:
    await client.flushall()
    queue = Queue(lambda: client, KEYS, "key")
    pending, store = Pending(queue), LeaseStore(Anchor(client), KEYS, "c1", 60)
    await pending.ensure_group()
    lease = await store.acquire(KEYS.lease())
    assert isinstance(lease, Lease)
    await client.hset(KEYS.parked, "k", found)
    for name in ("retried", "acked", "dead", "parked", "cancelled"):
        await queue.publish(1, id=name, key="k", delay=60 if name == "cancelled" else None)
    retried, acked, dead, parked = (await pending.fetch(lease, "-", 9)).deliveries
    assert isinstance(retried, Delivery)
    assert isinstance(parked, Delivery)
    assert await pending.retry_later(lease, retried, 5, park=park) > 0
    assert await pending.ack(lease, [acked.entry], ("k", "acked")) == 1
    assert await pending.dead_letter(lease, dead.entry, 1, "why")
    await pending.park(lease, parked)
    assert await queue.cancel("cancelled")
    state = await messages(client)
    assert (state["dead"], state["ready"]) == (["dead"], [])
    assert {*state["scheduled"], *state["pending"]} == {"retried", "parked"}


lease_values = odd_numbers | st.sampled_from(["c1@5", "@", ""])


@fuzz
@given(
    fields=st.dictionaries(
        st.sampled_from(["holder", "epoch", "nonce", "connection", "since", "call", "x"]),
        lease_values,
        min_size=1,
    ),
    last=st.none() | odd_numbers,
)
async def test_a_lease_of_foreign_hands_is_held_or_free_and_never_an_error(
    client: Client, queue: Queue, fields: dict[str, str], last: str | None
) -> None:
    await client.flushall()
    await client.hset(KEYS.lease(), mapping=fields)
    if last is not None:
        await client.set(KEYS.epoch, last)
    for look in (queue.who(), queue.stats(), queue.handover(timeout_s=0)):
        await look
    store = LeaseStore(Anchor(client), KEYS, "c1", 60)
    found = await store.acquire(KEYS.lease())
    if isinstance(found, Held):
        await client.delete(KEYS.lease())
        found = await store.acquire(KEYS.lease())
    assert isinstance(found, Lease)
    await store.renew(found)
    assert await store.release(found)


@fuzz
@given(letters=st.lists(entries, min_size=1, max_size=4))
async def test_dead_letters_of_foreign_hands_are_listed_redriven_and_purged(
    server: Server, client: Client, make_queue: MakeQueue, letters: list[dict[Any, Any]]
) -> None:
    await client.flushall()
    queue = make_queue()
    for fields in letters:
        await client.xadd(KEYS.dead, fields)
    assert len((await queue.dead.list()).records) == len(letters)
    moved = await queue.dead.redrive()
    assert moved + await client.xlen(KEYS.dead) == len(letters)
    await Poller(server, queue).turn(FAR_MS)
    assert await client.xlen(KEYS.stream) + await client.xlen(KEYS.dead) == len(letters)
    await queue.dead.purge()
    assert await client.xlen(KEYS.dead) == 0


cursors = st.text(max_size=20) | st.one_of(
    st.sampled_from([DEEP, "[]", '["ready","1-1"]', '["ready","9999999999999999999999-0"]'])
    | st.lists(st.sampled_from(["ready", "scheduled", "٣-٣", "1-1", "nan", "-inf", "1e999"])).map(
        json.dumps
    )
).map(lambda text: base64.urlsafe_b64encode(text.encode()).decode())


@fuzz
@given(after=cursors, state=st.sampled_from(["scheduled", "ready", "pending", "dead"]))
async def test_a_cursor_is_one_or_is_refused(queue: Queue, after: str, state: Any) -> None:
    try:
        await queue.list(state, after=after)
    except InvalidCursor as error:
        assert "after" in str(error)


@pytest.mark.parametrize(
    "text", [DEEP, '["ready","9999999999999999999999-0"]', '["ready","٣-٣"]', '["ready","1-1\\n"]']
)
async def test_a_cursor_that_only_looks_like_one_is_refused(queue: Queue, text: str) -> None:
    after = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(InvalidCursor):
        await queue.list("ready", after=after)


anything: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from([10**400, DEEP, "\ud800", "x" * 2_000, [], {}, {"a": 1}, {1: "a"}, object()]),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    st.datetimes(timezones=st.none() | st.sampled_from([UTC, timezone(timedelta(hours=-23))])),
    st.timedeltas(),
)
options = st.dictionaries(
    st.sampled_from(["delay", "deliver_at", "key", "id", "dedup_id", "headers"]), anything
)


@fuzz
@given(body=anything, options=options)
@example(1, {"headers": ["a"]})
@example(1, {"headers": "abc"})
@example(1, {"deliver_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))})
async def test_a_publish_is_accepted_and_delivered_or_refused_by_name(
    client: Client, queue: Queue, body: Any, options: dict[str, Any]
) -> None:
    await client.flushall()
    try:
        receipt = await queue.publish(body, **options)
    except InvalidMessage as error:
        named = str(error).split(":")[0].split(",")[0]
        assert named in {"body", *options}
        assert not await client.exists(KEYS.stream, KEYS.schedule)
        return
    await Schedule(queue).promote(10**18)
    [(_, fields)] = await client.xrange(KEYS.stream)
    assert (fields["id"], JSON.decode(fields["body"])) == (receipt.id, json.loads(json.dumps(body)))


@given(name=st.one_of(anything, st.sampled_from(["a b", "a\n", "{x}", "é", "a:b", "", "x" * 129])))
def test_a_name_can_stand_in_a_key_or_is_refused(name: Any) -> None:
    try:
        keys = LaneKeys("test", name)
    except InvalidName as error:
        assert "queue" in str(error)
    else:
        assert keys.stream == f"test:{{{name}:0}}:stream"


async def test_what_is_no_json_is_malformed_also_where_python_would_read_it(
    client: Client, pending: Pending, lease: Lease
) -> None:
    for body in ("NaN", "[Infinity]", '{"a":-Infinity}'):
        await client.xadd(KEYS.stream, {"body": body})
    found = (await pending.fetch(lease, "-", 9)).deliveries
    assert [type(delivery) for delivery in found] == [Malformed] * 3


@pytest.mark.parametrize("count", range(58, 65))
async def test_an_entry_of_many_fields_that_is_delivered_once_is_delivered_again(
    client: Client, queue: Queue, pending: Pending, lease: Lease, count: int
) -> None:
    await client.xadd(KEYS.stream, {"body": "1"} | {f"f{n}": "x" for n in range(count - 1)})
    [first] = (await pending.fetch(lease, "-", 1)).deliveries
    if isinstance(first, Delivery):
        due_ms = await pending.retry_later(lease, first, 5, park=True)
        await Schedule(queue).promote(due_ms)
        [again] = (await pending.fetch(lease, "-", 1)).deliveries
        assert isinstance(again, Delivery)
        assert again.message.deliveries == 2


async def test_a_halt_of_foreign_hands_can_be_resumed(client: Client, queue: Queue) -> None:
    await client.hset(KEYS.halted, mapping={"x": "1"})
    await queue.resume()
    assert not await client.exists(KEYS.halted)


@pytest.mark.parametrize("ordering", ["strict", "key"])
@pytest.mark.parametrize("mark", ["", "x", "0-0 5 m", "\x00", b"\xff"])
async def test_marks_of_foreign_hands_do_not_keep_a_consumer_from_beginning(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering, mark: str | bytes
) -> None:
    queue = make_queue(ordering)
    await client.hset(KEYS.parked, mapping={"k": mark, "l": mark, b"\xff": mark})
    for body, key in enumerate(["k", "l", "m", "k"]):
        await queue.publish(body, key=key)
    async with troupe(server, queue) as t:
        await t.active("c1")
        await t.settled(4)
    assert sorted(t.bodies) == [0, 1, 2, 3]
    assert t.bodies.index(0) < t.bodies.index(3)


async def test_a_lease_of_foreign_hands_does_not_end_a_survey(
    client: Client, queue: Queue, pending: Pending, store: LeaseStore, lease: Lease
) -> None:
    await pending.ensure_group()
    await client.xgroup_createconsumer(KEYS.stream, GROUP, "c2@5")
    await client.hset(KEYS.lease("c2"), mapping={"holder": "c2@5", "connection": "x"})
    await client.xgroup_createconsumer(KEYS.stream, GROUP, lease.holder)
    survey = Survey(queue, store)
    assert await survey.turn(lease) == (0, ["c2@5"])
    assert await survey.connections(["c2@5"]) == {"c2@5": "x"}
    assert await Anchor(client).gone(["x", "00", "-1", "1e3", "9" * 30]) == set()


@pytest.mark.parametrize("score", ["inf", "-inf"])
async def test_a_publish_of_an_id_that_foreign_hands_scheduled_for_never_is_answered(
    client: Client, queue: Queue, score: str
) -> None:
    await client.zadd(KEYS.schedule, {"000000000001a": score})
    await client.hset(KEYS.bodies, "a", '000000000001["body","1"]')
    assert (await replace(queue, past_due=False).publish(1, id="a")).duplicate


async def test_a_publish_that_failed_half_way_is_not_known_when_it_is_repeated(
    client: Client, queue: Queue
) -> None:
    await client.set(KEYS.arrival, "no number")
    with pytest.raises(ServerError):
        await queue.publish(1, id="a", delay=5)
    await client.delete(KEYS.arrival)
    assert not (await queue.publish(1, id="a", delay=5)).duplicate
    assert (await messages(client))["scheduled"] == ["a"]


odd_words = st.one_of(
    st.sampled_from(["orders", "a b", "1", "{", DEEP, "\udcff", "", "-", "--", "-h", "ready"]),
    st.sampled_from(
        ["--json", "--delay", "--limit", "--after", "--id", "--yes", "--reason", "--x"]
    ),
    st.sampled_from(["nan", "-1", "1e999", "9" * 5_000, "=", "--limit=٣", "--header=\udcff=x"]),
    st.text(max_size=5),
)
commands = st.sampled_from(
    [[*command.words] for command in cli.COMMANDS if not set(command.words) & {"run", "run-demo"}]
).filter(lambda words: words[0] not in ("server", "handover", "doctor", "bench", "verify"))


@pytest.fixture
def quiet_environment(real_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DELAYQ_REDIS_URL", real_server.url)
    monkeypatch.setattr("delayq.logs.configure", lambda *_: None)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1")))
    yield


@pytest.mark.usefixtures("quiet_environment")
@fuzz
@given(command=commands, words=st.lists(odd_words, max_size=5))
@example(["show"], ["orders", "\udcff"])
@example(["cancel"], ["orders", "\udcff"])
def test_a_command_answers_or_says_what_is_wrong(command: list[str], words: list[str]) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main([*command, *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
    out.flush()
    err.flush()
    assert status in {0, 1, 2, 3}
