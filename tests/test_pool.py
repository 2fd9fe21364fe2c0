"""The pool and the pace: how much is handled at once, and how far ahead is fetched."""

import anyio
import pytest

from delayq.pace import AHEAD_S, Pace
from delayq.pool import Pool


def nothing() -> None:
    """Hear that the pool is at rest."""


async def test_one_task_works_off_what_never_waits() -> None:
    tasks_seen, done = set[int](), list[int]()

    async def act(thing: int) -> None:
        tasks_seen.add(anyio.get_current_task().id)
        done.append(thing)

    async with anyio.create_task_group() as tasks:
        pool = Pool(act, 100, tasks.cancel_scope.cancel)
        pool.open(tasks)
        pool.add(range(1_000))
    assert done == list(range(1_000))
    assert len(tasks_seen) == 1


@pytest.mark.parametrize("most", [1, 2, 37])
async def test_what_waits_has_others_go_on_up_to_the_limit(most: int) -> None:
    at_once, begun, go_on = 0, 0, anyio.Event()

    async def act(_thing: int) -> None:
        nonlocal at_once, begun
        at_once += 1
        begun += 1
        await go_on.wait()
        at_once -= 1

    async with anyio.create_task_group() as tasks:
        pool = Pool(act, most, nothing)
        pool.open(tasks)
        pool.add(range(100))
        await anyio.wait_all_tasks_blocked()
        assert at_once == begun == most
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert (begun, at_once, pool.awake) == (100, 0, 0)
        tasks.cancel_scope.cancel()


async def test_what_is_not_begun_when_the_pool_closes_stays_in_the_line() -> None:
    go_on, rested = anyio.Event(), anyio.Event()

    async def act(_thing: int) -> None:
        await go_on.wait()

    async with anyio.create_task_group() as tasks:
        pool = Pool(act, 2, rested.set)
        pool.open(tasks)
        pool.add(range(5))
        await anyio.wait_all_tasks_blocked()
        pool.close()
        go_on.set()
        await rested.wait()
        assert list(pool.line) == [2, 3, 4]
        tasks.cancel_scope.cancel()


class Paced:
    """A pace, and the time it goes by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_once: int, batch: int) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("delayq.pace.mono_s", lambda: self.now_s)
        self.pace = Pace(at_once, batch)

    def turns(self, count: int, every_s: float, settled: int) -> int:
        """Return what the last of some turns has room for, with nothing in hand."""
        room = 0
        for _ in range(count):
            self.now_s += every_s
            for _ in range(settled):
                self.pace.settled()
            room = self.pace.room(0)
        return room


def test_nothing_is_fetched_ahead_of_a_slow_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = Paced(monkeypatch, at_once=4, batch=500)
    assert paced.turns(1, every_s=0, settled=0) == 4
    assert paced.turns(20, every_s=1.0, settled=4) == 4
    assert paced.pace.room(3) == 1
    assert paced.pace.room(4) == 0


def test_what_a_fast_handler_does_in_ten_ms_is_fetched_by_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paced = Paced(monkeypatch, at_once=1, batch=500)
    half = paced.turns(100, every_s=AHEAD_S / 10, settled=40)  # 400 in that time
    assert 150 <= half <= 210
    assert paced.pace.room(half) > 0, "the other half is fetched while one is handled"
    assert paced.pace.room(2 * half) == 0
    assert paced.turns(100, every_s=AHEAD_S / 10, settled=4_000) == 500, "a batch at most"
