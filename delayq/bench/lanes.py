"""Lanes: what a strict queue handles with more of them, and with more processes."""

import signal
from functools import partial
from typing import Any

import anyio

from delayq.bench.draining import BATCH, drain, fill, nothing
from delayq.bench.meter import Cost, gauge
from delayq.bench.processes import Nursery, nursery
from delayq.bench.report import Figure, Section
from delayq.bench.rounds import Contender, figures, rounds
from delayq.bench.stage import CONSUMERS, Stage
from delayq.clock import mono_s
from delayq.handling import Context, Handler
from delayq.queue import Queue

LANES = (1, 2, 4, 8, 16)
PROCESSES = (1, 2, 4)
WAIT_S = 0.005
_FEWER = 20
"""One message waits as long as so many that do nothing take."""


async def measure(stage: Stage) -> Section:
    """Measure it in this process, and in several of its own."""
    size = stage.settings.size
    shown = [
        *await _by_lanes(stage, "does nothing", nothing, size),
        *await _by_lanes(stage, "waits 5 ms", _wait, max(10, size // _FEWER)),
    ]
    shown += await _by_processes(stage, size)
    title = "Lanes: a strict queue, by the number of its lanes; then of processes, for 16 lanes"
    notes = ["ratio: to one lane, or to one process"]
    return Section("lanes", title, shown, notes=notes)


async def _by_lanes(stage: Stage, what: str, handler: Handler, count: int) -> list[Figure]:
    names = {lanes: f"{what}, {lanes} lane{'s' if lanes > 1 else ''}" for lanes in LANES}
    contenders = [
        Contender(name, partial(_drain, stage, lanes, handler), names[1])
        for lanes, name in names.items()
    ]
    return figures(contenders, await rounds(stage, f"lanes, {what}", contenders, count))


async def _wait(_body: Any, _context: Context) -> None:
    await anyio.sleep(WAIT_S)


async def _drain(stage: Stage, lanes: int, handler: Handler, count: int) -> Cost:
    async with stage.queue("strict", lanes=lanes) as queue:
        await fill(queue, count)
        return await drain(stage, queue, count, handler)


async def _by_processes(stage: Stage, count: int) -> list[Figure]:
    async with nursery(stage) as processes:
        names = {n: f"{n} process{'es' if n > 1 else ''}" for n in PROCESSES}
        contenders = [
            Contender(name, partial(_drain_beside, stage, processes, n), names[1])
            for n, name in names.items()
        ]
        found = figures(contenders, await rounds(stage, "lanes, processes", contenders, count))
    # What the processes themselves spend is not seen here.
    return [
        Figure(f.name, {name: v for name, v in f.values.items() if name != "client_us"})
        for f in found
    ]


async def _drain_beside(stage: Stage, processes: Nursery, number: int, count: int) -> Cost:
    """Have processes share the lanes, hold them while the queue is filled, and let them go."""
    async with stage.queue("strict", lanes=LANES[-1]) as queue:
        children = [
            await processes.start("drain_part", queue, consumer=f"{CONSUMERS[0]}-{at}", batch=BATCH)
            for at in range(number)
        ]
        for child in children:
            await child.until(f"holds {LANES[-1] // number}")
        for child in children:
            child.send(signal.SIGSTOP)
        cost = await _release(stage, queue, children, count)
        for child in children:
            child.send(signal.SIGTERM)
        for child in children:
            await child.until("ended")
        return cost


async def _release(stage: Stage, queue: Queue, children: list[Any], count: int) -> Cost:
    acked, done = 0, anyio.Event()

    def hear(told: dict[str, Any]) -> None:
        nonlocal acked
        acked += told.get("acked", 0)
        if acked >= count:
            done.set()

    await fill(queue, count)
    before, began_s = await gauge(stage.client), mono_s()
    for child in children:
        child.then(hear)
        child.send(signal.SIGCONT)
    await done.wait()
    wall_s = mono_s() - began_s
    return Cost(count, wall_s, 0.0, (await gauge(stage.client)).cpu_s - before.cpu_s)
