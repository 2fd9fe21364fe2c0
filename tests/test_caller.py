"""Callers: one is known by its last call, for a minute at least, and by that call alone."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

from delayq import Queue
from delayq.caller import Caller
from tests.conftest import KEYS, Client

_FORKED = """
import os
from delayq.caller import Caller

caller = Caller()
before = caller.call()
if os.fork():
    os.wait()
print(*before, *caller.call())
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


async def test_a_caller_is_known_for_a_minute_after_its_last_call(
    client: Client, queue: Queue
) -> None:
    now_ms = (await queue.publish(1)).due_ms
    [caller] = await client.hkeys(KEYS.dedup)
    await client.hset(KEYS.dedup, caller, f"1 {now_ms - 60_000}")
    await client.zadd(KEYS.recent, {caller: now_ms + 1})
    await queue.publish(2)
    assert await client.zscore(KEYS.recent, caller) >= now_ms + 120_000
    assert (await client.hget(KEYS.dedup, caller)).startswith("2 ")
    await queue.publish(3)
    assert (await client.hget(KEYS.dedup, caller)).startswith("3 ")
