"""The operators' commands, as a user would try them: with good and with bad input."""

import json
import os
import pty
import signal
import subprocess
from typing import Any

import pytest

from delayq import LaneKeys, Queue, Server
from delayq.commands.table import cell, moment, span, table
from tests.conftest import KEYS, Client, Run
from tests.processes import BASE, clean_environment, run
from tests.state import dump, messages


def answer(said: "subprocess.CompletedProcess[str]") -> Any:
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.splitlines()) == 1
    return json.loads(said.stdout)


async def test_a_message_is_published_with_all_its_parts(operate: Run, queue: Queue) -> None:
    words = ("--delay", "60", "--key", "k", "--id", "a", "--dedup-id", "d")
    headers = ("--header", "x=1,y=2", "--header=z=a=b", "--header", 'q="')
    receipt = answer(operate("publish", "orders", '{"n":1}', *words, *headers, "--json"))
    assert (receipt["id"], receipt["duplicate"]) == ("a", False)
    record = await queue.get("a")
    assert record
    assert (record.state, record.body, record.key) == ("scheduled", {"n": 1}, "k")
    assert record.headers == {"x": "1,y=2", "z": "a=b", "q": '"'}
    again = operate("publish", "orders", "2", "--id", "b", "--dedup-id", "d")
    assert (again.returncode, "a was there already" in again.stdout) == (0, True)


async def test_a_body_is_read_from_stdin(operate: Run, client: Client, queue: Queue) -> None:
    def publish(body: bytes) -> "subprocess.CompletedProcess[str]":
        words = ("--id", "a", "--deliver-at", "2040-01-01T00:00:00Z")
        return operate("publish", "orders", "-", *words, typed=os.fsdecode(body))

    assert publish('"é"'.encode()).returncode == 0
    record = await queue.get("a")
    assert record
    assert (record.body, record.due_ms) == ("é", 2_208_988_800_000)
    await client.flushall()
    for bad in (b"", b"{", b'"\xff"', b"NaN", b"[" * 100_000):
        said = publish(bad)
        assert (said.returncode, "body" in said.stderr) == (2, True)
    assert await client.keys("*") == []


async def test_a_publish_from_outside_leaves_correcting_to_the_poller(
    operate: Run, client: Client, queue: Queue
) -> None:
    await client.zadd(KEYS.schedule, {"000000000001due": 1})
    await client.hset(KEYS.bodies, "due", '000000000001["body","1"]')
    await client.set(KEYS.arrival, 1)
    answer(operate("publish", "orders", "2", "--id", "new", "--json"))
    assert (await messages(client))["scheduled"] == ["due", "new"]
    assert (await queue.stats()).ready == 0


async def test_stats_tell_of_one_queue_or_of_all(
    operate: Run, client: Client, queue: Queue
) -> None:
    assert answer(operate("stats", "--json")) == []
    assert "no queues" in operate("stats").stdout
    await queue.publish(1, delay=60)
    await Queue(lambda: client, LaneKeys("test", "bills")).publish(1)
    every = answer(operate("stats", "--json"))
    assert [(s["queue"], s["scheduled"], s["ready"]) for s in every] == [
        ("bills", 0, 1),
        ("orders", 1, 0),
    ]
    assert operate("stats").stdout.splitlines()[2].split()[:3] == ["orders", "1", "0"]
    one = answer(operate("stats", "orders", "--json"))
    assert (one["scheduled"], one["halted"], one["lag"]) == (1, None, 0)
    assert "scheduled    1" in operate("stats", "orders").stdout


async def test_a_queue_that_cannot_be_counted_hides_no_other(
    operate: Run, client: Client, queue: Queue
) -> None:
    await queue.publish(1)
    await client.hset("test:lanes", mapping={"a b": 1, "bills": 1})
    await client.set(LaneKeys("test", "bills").stream, "x")
    said = operate("stats", "--json")
    assert (said.returncode, said.stderr) == (1, "")
    wrong, bills, orders = json.loads(said.stdout)
    assert (wrong["queue"], bills["queue"], orders["queue"]) == ("a b", "bills", "orders")
    assert "letters" in wrong["error"]
    assert "is a string" in bills["error"]
    assert orders["ready"] == 1
    lines = operate("stats").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["orders", "a", "bills:"]
    assert operate("stats", "bills").returncode == 3


async def test_messages_are_listed_by_pages_and_shown(operate: Run, queue: Queue) -> None:
    for number in range(3):
        await queue.publish({"n": number}, id=f"m{number}", delay=60)
    first = answer(operate("list", "orders", "scheduled", "--limit", "2", "--json"))
    assert [record["id"] for record in first["records"]] == ["m0", "m1"]
    rest = operate("list", "orders", "scheduled", "--after", first["next"])
    assert "m2" in rest.stdout
    assert "m1" not in rest.stdout
    assert (
        f"--after {first['next']}" in operate("list", "orders", "scheduled", "--limit", "2").stdout
    )
    assert operate("list", "orders", "dead").stdout == "nothing is dead\n"
    wrong = operate("list", "orders", "scheduled", "--after", "x")
    assert (wrong.returncode, "cursor" in wrong.stderr) == (2, True)
    shown = operate("show", "orders", "m2")
    assert '{"n":2}' in shown.stdout
    assert answer(operate("show", "orders", "m2", "--json"))["state"] == "scheduled"
    unknown = operate("show", "orders", "none", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)) == (1, None)


async def test_what_foreign_hands_wrote_breaks_no_terminal(operate: Run, client: Client) -> None:
    entries: list[dict[Any, Any]] = [
        {"id": b"\xff", "body": "\x1b[31mred"},
        {"body": '{"a":"\\u001b"}', "due": "inf"},
        {"body": "[" * 900 + "]" * 900, "due": "9" * 300},
    ]
    for entry in entries:
        await client.xadd(KEYS.stream, entry)
    for words in (("list", "orders", "ready"), ("show", "orders", "\udcff")):
        for flags in ((), ("--json",)):
            said = operate(*words, *flags)
            assert said.returncode == 0, said.stderr
            assert "\x1b" not in said.stdout


async def test_a_scheduled_message_is_changed(operate: Run, queue: Queue) -> None:
    await queue.publish(1, id="a", delay=60)
    assert answer(operate("reschedule", "orders", "a", "--delay", "7200", "--json"))["rescheduled"]
    record = await queue.get("a")
    assert record
    assert (record.due_ms or 0) - (await queue.stats()).now_ms > 7_000_000
    assert operate("reschedule", "orders", "a").returncode == 2
    assert operate("cancel", "orders", "a").returncode == 0
    for words in (("cancel", "orders", "a"), ("reschedule", "orders", "a", "--delay", "1")):
        said = operate(*words)
        assert (said.returncode, said.stdout) == (1, "a is not scheduled, or not any more\n")


async def test_dead_letters_are_listed_redriven_and_deleted(operate: Run, client: Client) -> None:
    for number in range(4):
        await client.xadd(KEYS.dead, {"id": f"m{number}", "body": "1", "reason": f"why {number}"})
    await client.xadd(KEYS.dead, {"raw": "{", "error": "ValueError: " + "no " * 50})
    head, *rows = operate("dead", "list", "orders").stdout.splitlines()
    assert head.split()[4:] == ["reason", "error", "body"]
    assert "why 3" in rows[3]
    assert f"ValueError: {'no ' * 15}no…" in rows[4]
    words = ("dead", "redrive", "orders")
    assert answer(operate(*words, "--ids", "m0", "--ids", "x,y", "--json"))["moved"] == 1
    assert answer(operate(*words, "--reason", "why 1", "--json"))["moved"] == 1
    purge = ("dead", "purge", "orders", "--yes", "--json")
    for which in (("--ids", "m0"), ("--reason", "none")):
        said = [operate(*words, *which), operate(*purge, *which)]
        assert [each.returncode for each in said] == [1, 1]
        assert [each.stdout[:2] for each in said] == ["0 ", '{"']
    done = answer(operate(*words, "--yes", "--rate", "1000", "--json"))
    assert done == {"moved": 2, "not_redrivable": 1}
    assert answer(operate(*purge, "--older-than", "3600")) == {"deleted": 0}
    assert answer(operate(*purge)) == {"deleted": 1}
    assert answer(operate("purge", "orders", "scheduled", "--yes", "--json")) == {"deleted": 4}


DESTRUCTIVE = [
    ("purge", "orders", "scheduled"),
    ("purge", "orders", "ready"),
    ("purge", "orders", "dead"),
    ("dead", "purge", "orders"),
    ("dead", "purge", "orders", "--ids", "a"),
    ("dead", "redrive", "orders"),
]


@pytest.mark.parametrize("words", DESTRUCTIVE)
async def test_nothing_is_destroyed_unasked(
    operate: Run, client: Client, queue: Queue, words: tuple[str, ...]
) -> None:
    await queue.publish(1)
    await queue.publish(1, delay=60)
    await client.xadd(KEYS.dead, {"id": "a", "body": "1"})
    before = await dump(client)
    said = operate(*words)
    assert (said.returncode, "--yes" in said.stderr, said.stdout) == (2, True, "")
    assert await dump(client) == before


@pytest.mark.parametrize(
    "words",
    [
        *(("stats",), ("list", "ready"), ("show", "a"), ("cancel", "a"), ("lanes",), ("who",)),
        *(("reschedule", "a", "--delay", "1"), ("handover",), ("resume",), ("doctor",)),
        *(("purge", "dead"), ("dead list",), ("dead redrive",), ("dead purge",)),
        ("drop-group", "billing"),
    ],
)
async def test_a_queue_that_is_not_there_is_named_with_those_that_are(
    operate: Run, client: Client, queue: Queue, words: tuple[str, ...]
) -> None:
    await queue.publish(1)
    await Queue(lambda: client, LaneKeys("test", "bills")).publish(1)
    before = await dump(client)
    command, *more = words
    said = operate(*command.split(), "ordrs", *more)
    assert (said.returncode, said.stdout) == (2, "")
    told = "QUEUE: no queue ordrs in the namespace test; there are: bills, orders"
    assert said.stderr == f"delayq: {told}\n"
    assert await dump(client) == before


async def test_a_queue_that_is_not_registered_is_there_if_anything_of_it_is(
    operate: Run, client: Client
) -> None:
    said = operate("stats", "orders")
    assert (said.returncode, "there are: none yet" in said.stderr) == (2, True)
    await client.xadd(KEYS.stream, {"body": "1"})
    assert answer(operate("stats", "orders", "--json"))["ready"] == 1


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("\n", 1), ("no\n", 1), ("\x04", 1)])
async def test_on_a_terminal_it_is_asked(
    server: Server, client: Client, queue: Queue, typed: str, status: int
) -> None:
    await queue.publish(1, delay=60)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        said = subprocess.run(  # noqa: ASYNC221 - nothing else is to run meanwhile
            [*BASE, "purge", "orders", "scheduled", "--json"],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=clean_environment(DELAYQ_REDIS_URL=server.url, DELAYQ_NAMESPACE="test"),
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (said.returncode, "Delete all scheduled" in said.stderr) == (status, True)
    assert said.stdout == ('{"deleted":1}\n' if status == 0 else "")
    assert await client.zcard(KEYS.schedule) == status


@pytest.mark.parametrize(
    ("words", "asked"), [(["purge", "orders", "scheduled"], "[y/N]"), (["publish", "orders"], "D:")]
)
async def test_ctrl_c_ends_what_waits_for_a_terminal(
    server: Server, client: Client, queue: Queue, words: list[str], asked: str
) -> None:
    await queue.publish(1, delay=60)
    ours, theirs = pty.openpty()
    variables = clean_environment(DELAYQ_REDIS_URL=server.url, DELAYQ_NAMESPACE="test")
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else is to run meanwhile
        [*BASE, *words], stdin=theirs, stderr=subprocess.PIPE, text=True, env=variables
    ) as process:
        try:
            assert process.stderr
            told = ""
            while asked not in told:
                told += process.stderr.read(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 1
            assert process.stderr.read().strip() == "delayq: interrupted"
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
    assert await client.zcard(KEYS.schedule) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["publish"], "QUEUE"),
        (["publish", "orders"], "body: none is given, and the standard input is empty"),
        (["publish", "a b", "1"], "QUEUE"),
        (["publish", "orders", "{"], "body"),
        (["publish", "orders", "1", "2"], "2"),
        (["publish", "orders", "1", "--delay", "-1"], "--delay, DELAYQ_DELAY"),
        (["publish", "orders", "1", "--delay", "nan"], "--delay"),
        (["publish", "orders", "1", "--delay", "1e99"], "--delay"),
        (["publish", "orders", "1", "--deliver-at", "soon"], "--deliver-at"),
        (["publish", "orders", "1", "--deliver-at", "2040-01-01T00:00:00"], "timezone"),
        (
            ["publish", "orders", "1", "--delay", "1", "--deliver-at", "2040-01-01T00:00:00Z"],
            "not both",
        ),
        (["publish", "orders", "1", "--header", "x"], "name=value"),
        (["publish", "orders", "1", "--id", "x" * 200], "id"),
        (["list", "orders"], "STATE"),
        (["list", "orders", "gone"], "STATE"),
        (["list", "orders", "ready", "--limit", "501"], "--limit"),
        (["show", "orders"], "MESSAGE-ID"),
        (["purge", "orders", "pending", "--yes"], "STATE"),
        (["dead"], "dead: list, redrive or purge is needed behind it"),
        (["dead", "--json"], "dead: list, redrive or purge is needed behind it"),
        (["dead", "frob"], "dead frob: no such command; dead has: list, redrive, purge"),
        (["dead", "redrive", "orders", "--rate", "0"], "--rate"),
        (["dead", "redrive", "orders", "--rate", "inf", "--yes"], "--rate"),
        (["dead", "purge", "orders", "--older-than", "inf", "--yes"], "--older-than"),
        (["dead", "purge", "orders", "--older-than", "-1", "--yes"], "--older-than"),
        (["stats", "--namespace", "a b"], "--namespace"),
        (["doctor", "a b"], "QUEUE"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(
    operate: Run, client: Client, words: list[str], told: str
) -> None:
    said = operate(*words)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert await client.keys("*") == []


COMMANDS = [
    ("publish", "orders", "1"),
    ("stats",),
    ("list", "orders", "ready"),
    ("doctor",),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_server_the_variable_and_the_remedy_are_named(words: tuple[str, ...]) -> None:
    said = run(*words)
    assert said.returncode == 2
    assert "DELAYQ_REDIS_URL" in said.stderr
    assert "python -m delayq server" in said.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_a_server_that_is_away_exits_with_3(words: tuple[str, ...]) -> None:
    said = run(*words, DELAYQ_REDIS_URL="redis://me:secret@127.0.0.1:1")
    assert said.returncode == 3
    assert "secret" not in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("name", ["QUEUE", "MESSAGE_ID", "STATE", "BODY"])
async def test_what_has_a_place_is_not_read_from_the_environment(operate: Run, name: str) -> None:
    said = operate("stats", **{f"DELAYQ_{name}": "dead"})
    assert said.returncode == 2
    assert f"DELAYQ_{name}: no such setting" in said.stderr


async def test_lists_are_read_from_the_environment(operate: Run) -> None:
    for value in ('["x=1", "y=a,b"]', "x=1"):
        found = answer(operate("publish", "orders", "1", "--json", DELAYQ_HEADER=value))
        shown = answer(operate("show", "orders", found["id"], "--json"))
        assert shown["headers"]["x"] == "1"
    said = operate("publish", "orders", "1", DELAYQ_HEADER="[1]")
    assert (said.returncode, "DELAYQ_HEADER" in said.stderr) == (2, True)


async def test_a_key_of_the_wrong_type_exits_with_3(operate: Run, client: Client) -> None:
    await client.sadd(KEYS.stream, "foreign")
    said = operate("stats", "orders")
    assert (said.returncode, "is a set, not a stream" in said.stderr) == (3, True)


def test_times_and_cells_are_written_for_people() -> None:
    assert moment(0) == "1970-01-01T00:00:00.000Z"
    assert (moment(None), moment(10**30)) == ("-", str(10**30))
    assert [span(ms) for ms in (None, 5, 1_500, 90_000, 5_400_000, 129_600_000)] == [
        *("-", "5 ms", "1.5 s", "1.5 min", "1.5 h", "1.5 d")
    ]
    assert cell("a\nb") == "a\\nb"
    assert len(cell("x" * 100)) == 60
    assert table(("a", "bb"), [(1, None), ("long", {"x": 1})]) == (
        'a     bb\n1     -\nlong  {"x": 1}'
    )
