"""Publish: one after the other, by many at once, and in bulk."""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from delayq.bench.meter import Cost, Meter
from delayq.bench.raw import PUBLISHERS, Bodies, Raw
from delayq.bench.report import Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import Stage, bodies
from delayq.queue import Queue

LATER_S = 3_600.0
_EACH, _AT_ONCE = "raw: XADD", f"raw: XADD, {PUBLISHERS} at once"
_IN_BULK = "raw: XADD, 500 per EVALSHA"


async def measure(stage: Stage) -> Section:
    """Measure it; single calls with fewer messages, as they take longer."""
    singly = [
        Contender(_EACH, partial(_raw, stage, Raw.publish_each)),
        Contender("one by one", partial(_ours, stage, _each), _EACH),
    ]
    together = [
        Contender(_AT_ONCE, partial(_raw, stage, Raw.publish_at_once)),
        Contender(_IN_BULK, partial(_raw, stage, Raw.publish_in_bulk)),
        Contender("100 at once", partial(_ours, stage, _at_once), _IN_BULK),
        Contender("in bulk", partial(_ours, stage, _in_bulk), _IN_BULK),
        Contender("in bulk, scheduled", partial(_ours, stage, _scheduled), _IN_BULK),
    ]
    size = stage.settings.size
    costs = await rounds(stage, "publish one by one", singly, max(1, size // 10))
    costs = {**costs, **await rounds(stage, "publish many", together, size)}
    title = "Publish: bodies of 100 bytes"
    return Section("publish", title, figures([*singly, *together], costs))


async def _ours(
    stage: Stage, publish: Callable[[Queue, Bodies], Awaitable[object]], count: int
) -> Cost:
    made = bodies(count)
    async with stage.queue() as queue:
        await queue.register()
        meter = await Meter.ready(stage.client)
        await publish(queue, made)
        meter.stop()
        return await meter.cost(count)


async def _raw(stage: Stage, publish: Callable[[Raw, Bodies], Awaitable[None]], count: int) -> Cost:
    made = bodies(count)
    async with stage.raw() as raw:
        await publish(raw, made[:PUBLISHERS])  # its client is new: as ours, with connections
        meter = await Meter.ready(stage.client)
        await publish(raw, made)
        meter.stop()
        return await meter.cost(count)


async def _each(queue: Queue, made: Bodies) -> None:
    for body in made:
        await queue.publish(body)


async def _at_once(queue: Queue, made: Bodies) -> None:
    async with anyio.create_task_group() as publishers:
        for first in range(PUBLISHERS):
            publishers.start_soon(_each, queue, made[first::PUBLISHERS])


async def _in_bulk(queue: Queue, made: Bodies) -> None:
    await queue.publish_many(made)


async def _scheduled(queue: Queue, made: Bodies) -> None:
    await queue.publish_many(queue.message(body, delay=LATER_S) for body in made)
