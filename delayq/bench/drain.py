"""Drain: how fast a queue is emptied by one consumer whose handler does nothing."""

from functools import partial

from delayq.bench.draining import drain, drain_raw, fill, nothing
from delayq.bench.meter import Cost
from delayq.bench.report import Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import Stage
from delayq.queue import Ordering

_RAW = "raw: XREADGROUP 500, XACK, XDEL"


async def measure(stage: Stage) -> Section:
    """Measure it for each ordering."""
    contenders = [
        Contender(_RAW, partial(drain_raw, stage)),
        Contender("shared", partial(_drain, stage, "none"), _RAW),
        Contender("strict", partial(_drain, stage, "strict"), _RAW),
        Contender("key", partial(_drain, stage, "key"), _RAW),
    ]
    costs = await rounds(stage, "drain", contenders, stage.settings.size)
    title = "Drain: one consumer empties a queue; its handler does nothing"
    return Section("drain", title, figures(contenders, costs))


async def _drain(stage: Stage, ordering: Ordering, count: int) -> Cost:
    async with stage.queue(ordering) as queue:
        await fill(queue, count)
        return await drain(stage, queue, count, nothing)
