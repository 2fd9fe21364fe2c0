"""Callers: one is known by its last call, for a minute at least, and by that call alone."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import anyio
import pytest

from delayq import Queue, scripts
from delayq.caller import Caller
from delayq.outgoing import Receipt, outgoing
from delayq.publishing import PROMOTE_LIMIT, Terms, _arguments, publish
from tests.conftest import KEYS, Client

TERMS = Terms(None, PROMOTE_LIMIT, 60_000, None, whole=False)
_FORKED = """
import os
from delayq.caller import Caller

caller = Caller()
before = caller.call()
if os.fork():
    os.wait()
after = caller.call()
print(before.caller, before.number, after.caller, after.number)
"""


def pickled(caller: Caller) -> Caller:
    there: Caller = pickle.loads(pickle.dumps(caller))
    return there


def test_calls_are_numbered_and_no_two_callers_are_one() -> None:
    one, other = Caller(), Caller()
    calls = [one.call(), one.call(), other.call()]
    assert [call.number for call in calls] == [1, 2, 1]
    assert calls[0].caller == calls[1].caller != calls[2].caller


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_is_another_caller(copied: Callable[[Caller], Caller]) -> None:
    caller = Caller()
    before = caller.call()
    other = copied(caller).call()
    assert other.caller != before.caller
    assert other.number == 1


def test_a_process_that_was_forked_is_another_caller() -> None:
    words = [sys.executable, "-c", _FORKED]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
    (before, _, child, number), (_, _, parent, second) = (
        line.split() for line in told.splitlines()
    )
    assert (parent, number, second) == (before, "1", "2")
    assert child != before


@pytest.mark.parametrize("ahead", [0, 1, 100])
async def test_a_copy_of_a_machine_loses_nothing(client: Client, ahead: int) -> None:
    async def send(caller: Caller, name: str, count: int = 1) -> None:
        told = [outgoing(f'"{name}{n}"', {}) for n in range(count)]
        answers = await publish(client, KEYS, TERMS, told, caller.call())
        assert [answer.id for answer in answers if isinstance(answer, Receipt)] == [
            message.id for message in told
        ]

    caller, copied = Caller(), Caller()
    await send(caller, "before")
    vars(copied).update(vars(caller))
    for number in range(ahead + 1):
        await send(copied, f"copied{number}.")
    for number in range(3):
        await send(caller, f"{number}.", count=number + 1)
    assert await client.xlen(KEYS.stream) == 1 + ahead + 1 + 6


async def test_a_call_that_comes_late_adds_nothing(client: Client) -> None:
    caller = Caller()
    late, next_ = caller.call(), caller.call()
    args = [_arguments(TERMS, call, [outgoing("1", {})]) for call in (next_, late)]
    assert await scripts.run(client, "publish", KEYS.publishing, args[0])
    assert not await scripts.run(client, "publish", KEYS.publishing, args[1])
    assert await client.xlen(KEYS.stream) == 1


async def test_bulk_publishes_one_after_the_other_are_of_one_caller(
    client: Client, queue: Queue
) -> None:
    for number in range(5):
        await queue.publish_many([number, number])
    async with anyio.create_task_group() as publishing:
        for number in range(3):
            publishing.start_soon(queue.publish_many, [number])
    assert await client.hlen(KEYS.dedup) <= 3
    assert await client.xlen(KEYS.stream) == 13


async def test_a_caller_is_known_for_a_minute_after_its_last_call(
    client: Client, queue: Queue
) -> None:
    now_ms = (await queue.publish(1)).due_ms
    [caller] = await client.hkeys(KEYS.dedup)
    await client.hset(KEYS.dedup, caller, f"1 {now_ms - 60_000} m")
    await client.zadd(KEYS.recent, {caller: now_ms + 1})
    await queue.publish(2)
    assert await client.zscore(KEYS.recent, caller) >= now_ms + 120_000
    assert (await client.hget(KEYS.dedup, caller)).startswith("2 ")
    await queue.publish(3)
    assert (await client.hget(KEYS.dedup, caller)).startswith("3 ")
