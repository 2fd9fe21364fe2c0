"""Lateness: how long after its due time a handler begins."""

from dataclasses import dataclass, field
from typing import Any

import anyio

from delayq.bench.meter import Cost, Meter
from delayq.bench.processes import nursery
from delayq.bench.report import Figure, Section
from delayq.bench.stage import CONSUMERS, Stage
from delayq.consumer import Consumer
from delayq.distribution import quantile
from delayq.handling import Context
from delayq.poller import Poller
from delayq.queue import Queue
from delayq.supervisor import Supervisor

LEAD_S = 1.0
"""How long before its due time a message is published."""
LOADS = {"light": (20, 0.05), "1,000 due per second": (1_000, 0.1)}
"""Messages due per second; and how often a process of its own publishes them, s."""
_CONCURRENCY = 100


async def measure(stage: Stage) -> Section:
    """Measure it under each load."""
    figures, timers = list[Figure](), list[Figure]()
    spreads: dict[str, list[float]] = {}
    for at, (name, (per_s, every_s)) in enumerate(LOADS.items()):
        stage.tell(f"lateness, {name}", at, len(LOADS))
        async with stage.queue() as queue:
            found, cost, timer = await under(stage, queue, per_s, every_s)
        figures.append(Figure(name, found.values(cost)))
        timers.append(Figure(f"timer alone, {name}", timer))
        spreads[f"lateness, {name}"] = found.late_ms
    return Section(
        "lateness",
        f"Lateness: from the due time to the handler, {stage.settings.load_seconds:g} s a load",
        [*figures, *timers],
        spreads,
        ["timer alone: how late a sleep ends in a process without delayq: this machine's part"],
    )


@dataclass
class Record:
    """Handles messages, and keeps how late each was."""

    stage: Stage
    count: int
    late_ms: list[float] = field(default_factory=list)
    early: int = 0
    """Ready before they were due, by the server's clock alone."""
    done: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, _body: Any, context: Context) -> None:
        """Note how late a message is."""
        due_ms = context.message.due_ms
        self.late_ms.append(self.stage.now_ms() - due_ms)
        self.early += int(context.entry.partition("-")[0]) < due_ms
        if len(self.late_ms) >= self.count:
            self.done.set()

    def values(self, cost: Cost) -> dict[str, float | None]:
        """Return what was noted, and what it cost."""
        parts = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
        return {
            "messages": len(self.late_ms),
            **{name: quantile(self.late_ms, part) for name, part in parts.items()},
            "early": self.early,
            "client_us": cost.client_us,
            "server_us": cost.server_us,
        }


async def under(
    stage: Stage, queue: Queue, per_s: int, every_s: float
) -> tuple[Record, Cost, dict[str, float | None]]:
    """Have a process of its own publish at a steady rate, and handle what is due.

    :param per_s: messages due per second
    :param every_s: how often some are published
    :return: what was handled, what it cost, and how late a timer alone was
    """
    batch = round(per_s * every_s)
    count = max(batch, round(per_s * stage.settings.load_seconds) // batch * batch)
    record = Record(stage, count)

    def consumer() -> Consumer:
        return Consumer(
            stage.server, queue, record.handle, name=CONSUMERS[0], concurrency=_CONCURRENCY
        )

    async with nursery(stage) as processes, Supervisor() as supervisor:
        supervisor.spawn("consumer", consumer)
        supervisor.spawn("poller", lambda: Poller(stage.server, queue))
        meter = await Meter.ready(stage.client)
        load = await processes.start(
            "load",
            queue,
            count=count,
            batch=batch,
            every_s=every_s,
            lead_s=LEAD_S,
            clock_offset_ms=stage.clock_offset_ms,
        )
        told = await load.until("timer", within_s=2 * stage.settings.load_seconds + 60)
        with anyio.fail_after(60):
            await record.done.wait()
        meter.stop()
        cost = await meter.cost(count)
    return record, cost, told["timer"]
