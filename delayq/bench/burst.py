"""Burst: many messages due at one instant, and when the last of them is handled."""

from functools import partial
from statistics import median
from typing import Any

import anyio

from delayq.bench.draining import BATCH, nothing
from delayq.bench.meter import Cost, Meter
from delayq.bench.report import Figure, Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import CONSUMERS, Stage, bodies, moment
from delayq.consumer import Consumer
from delayq.errors import UsageError
from delayq.handling import Context
from delayq.poller import Poller
from delayq.queue import Ordering
from delayq.supervisor import Supervisor

_ROUNDS = 3
_LEAD_S = 0.5
_SLOWEST_PER_S = 5_000
"""Messages that are published per second, at least."""
_RAW = "raw: moved and drained"


async def measure(stage: Stage) -> Section:
    """Measure it; `last_ms` is the last message's lateness."""
    contenders = [
        Contender(_RAW, partial(_raw, stage)),
        Contender("shared", partial(_ours, stage, "none"), _RAW),
        Contender("strict", partial(_ours, stage, "strict"), _RAW),
    ]
    count = stage.settings.burst
    costs = await rounds(stage, "burst", contenders, count, _ROUNDS)
    last = {name: median(cost.wall_s for cost in costs[name]) * 1000 for name in costs}
    return Section(
        "burst",
        f"Burst: {count:,} due at one instant, until the last is handled",
        [Figure(f.name, {"last_ms": last[f.name], **f.values}) for f in figures(contenders, costs)],
    )


async def _ours(stage: Stage, ordering: Ordering, count: int) -> Cost:
    handled, done = 0, anyio.Event()

    async def handle(_body: Any, _context: Context) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            meter.stop()
            done.set()

    def consumer() -> Consumer:
        return Consumer(
            stage.server, queue, handle, name=CONSUMERS[0], batch=BATCH, concurrency=BATCH
        )

    async with stage.queue(ordering) as queue, Supervisor() as supervisor:
        supervisor.spawn("consumer", consumer)
        supervisor.spawn("poller", lambda: Poller(stage.server, queue))
        due_ms = _soon_ms(stage, count)
        due = moment(due_ms)
        await queue.publish_many(queue.message(body, deliver_at=due) for body in bodies(count))
        meter = await _at(stage, due_ms)
        await done.wait()
        return await meter.cost(count)


async def _raw(stage: Stage, count: int) -> Cost:
    async with stage.raw() as raw:
        due_ms = _soon_ms(stage, count)
        await raw.schedule(bodies(count), due_ms)
        await raw.move(due_ms - 1)  # nothing yet: the script is loaded
        meter = await _at(stage, due_ms)
        await raw.drain(await raw.move(due_ms), nothing)
        meter.stop()
        return await meter.cost(count)


def _soon_ms(stage: Stage, count: int) -> int:
    """Return a time by which so many are published."""
    return round(stage.now_ms() + (_LEAD_S + count / _SLOWEST_PER_S) * 1000)


async def _at(stage: Stage, due_ms: float) -> Meter:
    """Wait until just the due time, and return a meter that was started then.

    :raises UsageError: if it has passed
    """
    meter = await Meter.ready(stage.client)
    if (left_s := (due_ms - stage.now_ms()) / 1000) < 0:
        raise UsageError("--burst: not all could be published before they were due: give fewer")
    await anyio.sleep(left_s)
    meter.start()
    return meter
