"""The benchmark: one measurement, or all of them, on one stage."""

from collections.abc import Awaitable, Callable

import anyio

from delayq.bench import (
    burst,
    drain,
    failover,
    fanout,
    idle,
    lanes,
    lateness,
    publish,
    scale,
    waiting,
)
from delayq.bench.progress import progress
from delayq.bench.report import Report, Section
from delayq.bench.settings import BenchSettings
from delayq.bench.stage import Stage, stage
from delayq.errors import ungrouped
from delayq.supervisor import signalled

MEASUREMENTS: dict[str, Callable[[Stage], Awaitable[Section]]] = {
    "publish": publish.measure,
    "drain": drain.measure,
    "waiting": waiting.measure,
    "lateness": lateness.measure,
    "burst": burst.measure,
    "failover": failover.measure,
    "idle": idle.measure,
    "scale": scale.measure,
    "lanes": lanes.measure,
    "fanout": fanout.measure,
}


async def run(settings: BenchSettings) -> Report:
    """Measure, and delete what was put on the server, whatever happens.

    :raises KeyboardInterrupt: at SIGINT or SIGTERM, when all is deleted
    :raises ServerError: if the server will not do
    """
    interrupted = False

    async def obey_signals() -> None:
        nonlocal interrupted
        await signalled()
        interrupted = True
        beside.cancel_scope.cancel()

    with ungrouped():
        async with anyio.create_task_group() as beside:
            beside.start_soon(obey_signals)
            report = await _measured(settings)
            beside.cancel_scope.cancel()
    if interrupted:
        raise KeyboardInterrupt
    return report


async def _measured(settings: BenchSettings) -> Report:
    wanted = settings.measurement
    with progress() as tell:
        async with stage(settings, tell) as on:
            report = Report(on.on, on.warnings)
            for name, measure in MEASUREMENTS.items():
                if wanted in {name, "all"}:
                    report.sections.append(await measure(on))
    return report
