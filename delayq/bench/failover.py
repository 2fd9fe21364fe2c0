"""Failover: real processes are ended, and how soon the next one handles a message."""

import signal
from itertools import cycle
from random import uniform

import anyio

from delayq.bench.processes import nursery
from delayq.bench.report import Figure, Section
from delayq.bench.stage import CONSUMERS, Stage, bodies
from delayq.clock import mono_s
from delayq.distribution import quantile

LEASE_S = 10.0
STALL_LEASE_S = 1.0
"""Shorter, as each stall is waited out: what matters is how long past the lease."""
SHARED_PART = 5
"""Of so many ends one is of a consumer that competes: each brings a whole batch again."""
_CAUSES = {
    "stop": (signal.SIGTERM, LEASE_S),
    "kill -9": (signal.SIGKILL, LEASE_S),
    "stall": (signal.SIGSTOP, STALL_LEASE_S),
}
_HANDLE_S = 0.001
_BATCH = 100
_LOOKS_S = 0.3
_SURVEYS_S = 1.0
"""Ends come at a random time within these: whoever stands by, or competes, looks around from time
to time, and must not always have just begun to wait."""


async def measure(stage: Stage) -> Section:
    """Measure it for each cause."""
    first = {
        cause: await _ordered(stage, cause, number, lease_s)
        for cause, (number, lease_s) in _CAUSES.items()
    }
    again = await _shared(stage)
    past = [took_ms - STALL_LEASE_S * 1000 for took_ms in first["stall"]]
    spreads = {
        **first,
        "stall, past the lease": past,
        "kill -9, shared: all again": again,
    }
    titles = {f"failover by {cause}: to the first message": took for cause, took in first.items()}
    return Section(
        "failover",
        f"Failover: a process is ended, another goes on; lease {LEASE_S:g} s, "
        f"of stalls {STALL_LEASE_S:g} s",
        [Figure(name, _spread(took_ms)) for name, took_ms in spreads.items()],
        titles | {f"kill -9, shared: to the last of {_BATCH} that were pending": again},
    )


def _spread(took_ms: list[float]) -> dict[str, float | None]:
    parts = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {"ends": len(took_ms)} | {name: quantile(took_ms, at) for name, at in parts.items()}


async def _ordered(stage: Stage, cause: str, number: signal.Signals, lease_s: float) -> list[float]:
    """End the active consumer of a strict queue again and again, amid its messages."""
    ends, took_ms, names = stage.settings.ends, list[float](), cycle(CONSUMERS)
    order = {"lease_ttl_s": lease_s, "handle_s": _HANDLE_S, "batch": _BATCH, "each": False}
    async with stage.queue("strict") as queue, nursery(stage) as processes:
        await queue.publish_many(bodies(_BATCH))
        active = await processes.start("consume", queue, consumer=next(names), **order)
        await active.until("handled")
        for at in range(ends):
            stage.tell(f"failover by {cause}", at, ends)
            standby = await processes.start("consume", queue, consumer=next(names), **order)
            await standby.until("stood_by")
            await anyio.sleep(uniform(0, _LOOKS_S))  # noqa: S311 - no secret
            await queue.publish_many(bodies(_BATCH))
            ended_s = mono_s()
            active.send(number)
            handled = await standby.until("handled")
            took_ms.append((handled["at_s"] - ended_s) * 1000)
            if cause == "stall":
                active.send(signal.SIGKILL)
            active = standby
    return took_ms


async def _shared(stage: Stage) -> list[float]:
    """Kill one of two consumers that compete, with a batch in hand: until all of it is begun."""
    ends, took_ms = -(-stage.settings.ends // SHARED_PART), list[float]()
    order = {"lease_ttl_s": LEASE_S, "batch": _BATCH, "each": True}
    async with stage.queue() as queue, nursery(stage) as processes:
        for at in range(ends):
            stage.tell("failover by kill -9, shared", at, ends)
            holder = await processes.start(
                "consume", queue, consumer=CONSUMERS[0], handle_s=3600, **order
            )
            await queue.publish_many(bodies(_BATCH))
            await holder.until("handled", _BATCH)
            other = await processes.start(
                "consume", queue, consumer=CONSUMERS[1], handle_s=0, **order
            )
            await other.until("took_over")
            await anyio.sleep(uniform(0, _SURVEYS_S))  # noqa: S311 - no secret
            ended_s = mono_s()
            holder.send(signal.SIGKILL)
            handled = await other.until("handled", _BATCH)
            took_ms.append((handled["at_s"] - ended_s) * 1000)
            other.send(signal.SIGTERM)
            await other.until("ended")
    return took_ms
