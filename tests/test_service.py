"""The sample service in processes of its own: killed, stopped, and started again."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from delayq import Server
from delayq.keys import GROUP
from tests.conftest import Client
from tests.processes import clean_environment
from tests.sample import ledger
from tests.sample.ledger import Row
from tests.shops import HELD, ORDERS, REMINDERS, STUCK, Start, hold, until

PUBLISH = [sys.executable, "-m", "tests.sample.publish"]


def publishing(server: Server, book: Path) -> subprocess.Popen[str]:
    variables = {"DELAYQ_REDIS_URL": server.url, "SHOP_LEDGER": str(book)}
    return subprocess.Popen(
        [*PUBLISH, "7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(**variables),
    )


def handled(book: Path) -> list[Row]:
    return [row for row in ledger.rows(book) if row.outcome == "ok"]


async def nothing_left(client: Client) -> None:
    for keys in (ORDERS, REMINDERS):
        while await client.exists(keys.schedule) or await client.xlen(keys.stream):
            pass
        assert await client.xlen(keys.dead) == 0
        for group in await client.xinfo_groups(keys.stream):
            assert (group["name"], group["pending"]) == (GROUP, 0)


def assert_in_order(rows: list[Row]) -> None:
    """Hold the first success of each order against the order of publishing."""
    firsts: dict[str, Row] = {}
    for row in rows:
        if row.queue == "orders":
            firsts.setdefault(row.id, row)
    by_key: dict[str | None, list[int]] = {}
    for row in firsts.values():
        by_key.setdefault(row.key, []).append(row.n)
    for key, numbers in by_key.items():
        assert numbers == sorted(numbers), key


@pytest.mark.parametrize("graceful", [False, True])
async def test_three_processes_handle_all_whatever_happens_to_them(
    server: Server, client: Client, book: Path, start: Start, *, graceful: bool
) -> None:
    chance = random.Random(7)
    running = [start(f"p{number}") for number in range(3)]
    for process in running:
        process.logged("took over")
    publisher = publishing(server, book)
    killed: set[int] = set()
    for number in range(6):
        assert publisher.stdin
        publisher.stdin.write("60\n")
        publisher.stdin.flush()
        more = ledger.count(book) + chance.randrange(5, 40)
        until(book, lambda: ledger.count(book) >= more, "more handled")  # noqa: B023
        victim = running.pop(chance.randrange(3))
        victim.logged("took over")
        if graceful or chance.random() < 0.4:
            victim.send(signal.SIGTERM)
            victim.wait()
            assert victim.process.returncode == 0
        else:
            killed.add(victim.process.pid)
            victim.send(signal.SIGKILL)
            victim.wait()
        running.append(start(f"p{number + 3}"))
    published = json.loads(publisher.communicate(timeout=60)[0])
    everything = {*published["orders"], *published["reminders"]}
    until(book, lambda: everything <= {row.id for row in handled(book)}, "every message handled")
    await nothing_left(client)
    for process in running:
        process.logged("took over")
        process.send(signal.SIGTERM)
    for process in running:
        process.wait()
        assert process.process.returncode == 0
    rows = handled(book)
    assert {row.id for row in rows} == everything
    assert_in_order(rows)
    assert all(row.at_ms >= row.due_ms for row in rows if row.queue == "reminders")
    times = Counter(row.id for row in rows)
    by_id = {row.id: [r for r in rows if r.id == row.id] for row in rows if times[row.id] > 1}
    assert bool(killed) != graceful
    for repeats in by_id.values():
        assert {row.process for row in repeats[:-1]} <= killed, "only a kill repeats a message"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_handlers_end_and_hands_over(
    client: Client, start: Start, book: Path, server: Server, number: signal.Signals
) -> None:
    first = start("p1")
    first.logged("took over", role="held.p1")
    second = start("p2")
    second.logged("stood by", role="held.p2")
    await hold(server, "await")
    until(book, lambda: ledger.count(book) == 1, "begun")
    place = second.end
    first.send(number)
    first.wait()
    assert first.process.returncode == 0
    took_over = second.logged("took over", after=place, role="held.p2")
    assert took_over["why"] == "released"
    assert [row.outcome for row in ledger.rows(book)] == ["begun", "ok"]
    assert await client.xlen(HELD.stream) == 0


async def test_after_the_grace_a_handler_is_cancelled_and_its_message_stays(
    client: Client, start: Start, book: Path, server: Server
) -> None:
    service = start("p1", DELAYQ_GRACE_MS="200")
    service.logged("took over", role="held.p1")
    await hold(server, "await for ever")
    until(book, lambda: ledger.count(book) == 1, "begun")
    service.send(signal.SIGTERM)
    service.wait()
    assert service.process.returncode == 0
    assert await client.xlen(HELD.stream) == 1


@pytest.mark.parametrize("how", ["await for ever", "thread", "block"])
async def test_a_second_signal_ends_at_once_whatever_a_handler_does(
    client: Client, start: Start, book: Path, server: Server, how: str
) -> None:
    service = start("p1", DELAYQ_GRACE_MS="60000")
    service.logged("took over", role="held.p1")
    await hold(server, how)
    until(book, lambda: ledger.count(book) == 1, "begun")
    service.send(signal.SIGTERM)
    if how != "block":
        service.logged("ended", role="held:poller.p1")
    assert service.process.poll() is None, "the first signal only asks"
    began = time.monotonic()
    service.send(signal.SIGINT)
    service.wait()
    assert time.monotonic() - began < 1.5
    assert service.process.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert await client.xlen(HELD.stream) == 1, "its message is for the next one"


@pytest.mark.parametrize("how", ["thread", "sync thread", "block"])
async def test_after_the_grace_the_process_ends_whatever_a_handler_does(
    client: Client, start: Start, book: Path, server: Server, how: str
) -> None:
    service = start("p1", DELAYQ_GRACE_MS="200")
    keys = STUCK if how == "sync thread" else HELD
    service.logged("took over", role=f"{keys.queue}.p1")
    await hold(server, how, keys)
    until(book, lambda: ledger.count(book) == 1, "begun")
    began = time.monotonic()
    service.send(signal.SIGTERM)
    service.wait()
    assert time.monotonic() - began < 4
    assert await client.xlen(keys.stream) == 1
