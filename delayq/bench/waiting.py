"""Waiting: handlers that wait, as for a network, many at once."""

from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from delayq.bench.draining import drain, drain_raw, fill, nothing
from delayq.bench.meter import Cost
from delayq.bench.report import Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import Stage
from delayq.handling import Context, Handler

WAIT_S = 0.005
CONCURRENCY = 1_000
_RAW = "raw: XREADGROUP 500, XACK, XDEL"
_NOTHING = "waits for nothing"


async def measure(stage: Stage) -> Section:
    """Measure it beside handlers that do nothing; the ratio is to these, or to the ideal."""
    contenders = [
        Contender(_RAW, partial(drain_raw, stage)),
        Contender(_NOTHING, partial(_drain, stage, nothing), _RAW),
        Contender("waits 5 ms", partial(_drain, stage, _wait), _NOTHING),
    ]
    costs = await rounds(stage, "waiting", contenders, stage.settings.size)
    ideal_per_s = CONCURRENCY / WAIT_S
    bounded = [replace(c, wall_s=max(c.wall_s, c.count / ideal_per_s)) for c in costs[_NOTHING]]
    found = figures(contenders, {**costs, _NOTHING: bounded})
    return Section(
        "waiting",
        f"Waiting: {CONCURRENCY:,} handlers at once, each waits {WAIT_S * 1000:g} ms",
        found,
        notes=[f"ratio of the last: to the one above, or to the ideal of {ideal_per_s:,.0f}/s"],
    )


async def _wait(_body: Any, _context: Context) -> None:
    await anyio.sleep(WAIT_S)


async def _drain(stage: Stage, handler: Handler, count: int) -> Cost:
    async with stage.queue() as queue:
        await fill(queue, count)
        return await drain(stage, queue, count, handler, CONCURRENCY)
