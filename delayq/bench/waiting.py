"""Waiting: handlers that wait, as for a network, many at once."""

from functools import partial
from typing import Any

import anyio

from delayq.bench.draining import CONCURRENCY, drain, drain_raw, fill
from delayq.bench.meter import Cost
from delayq.bench.report import Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import Stage

WAIT_S = 0.005
_RAW = "raw: asyncio.Queue, XREADGROUP 500"


async def measure(stage: Stage) -> Section:
    """Measure it beside a raw loop whose tasks wait as long: what asyncio makes of it."""
    contenders = [
        Contender(_RAW, partial(drain_raw, stage, handler=_wait)),
        Contender("waits 5 ms", partial(_drain, stage), _RAW),
    ]
    costs = await rounds(stage, "waiting", contenders, stage.settings.size)
    return Section(
        "waiting",
        f"Waiting: {CONCURRENCY:,} handlers at once, each waits {WAIT_S * 1000:g} ms",
        figures(contenders, costs),
        notes=[f"{CONCURRENCY / WAIT_S:,.0f}/s if waiting alone took time"],
    )


async def _wait(_body: Any, _context: Any = None) -> None:
    await anyio.sleep(WAIT_S)


async def _drain(stage: Stage, count: int) -> Cost:
    async with stage.queue() as queue:
        await fill(queue, count)
        return await drain(stage, queue, count, _wait, CONCURRENCY)
