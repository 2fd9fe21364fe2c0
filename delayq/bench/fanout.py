"""Fan-out: what a group notices of another one, that fails each message, or is away."""

from typing import Any

import anyio

from delayq.bench.lateness import under
from delayq.bench.report import Figure, Section
from delayq.bench.stage import CONSUMERS, Stage
from delayq.consumer import Consumer
from delayq.events import Event, TookOver
from delayq.handling import Context
from delayq.poller import Poller
from delayq.queue import Queue
from delayq.retry import Retry
from delayq.scripts import command
from delayq.supervisor import Supervisor

PER_S, EVERY_S = 300, 0.1
_OTHERS = ("none", "that handles them", "that fails each", "that is away")
_RETRY = Retry(max_deliveries=5, base_ms=100, cap_ms=1_000)


async def measure(stage: Stage) -> Section:
    """Measure one group by itself, and beside each kind of another."""
    own, others = list[Figure](), list[Figure]()
    for at, kind in enumerate(_OTHERS):
        stage.tell("fan-out", at, len(_OTHERS))
        async with stage.queue() as queue:
            group = queue.group("other", retry=_RETRY)
            try:
                figure, other = await _beside(stage, queue, group, kind)
            finally:
                await stage.clear(group, CONSUMERS[1])
        own.append(figure)
        others += other
    return Section(
        "fanout",
        f"Fan-out: a group beside another, {PER_S} messages due per second, "
        f"{stage.settings.load_seconds:g} s each",
        [*own, *others],
        notes=[
            "ready: what the group has not read when it has handled all, as retries of the other",
            "kept: entries of the stream, for any group",
            f"one that fails each gives a message up after {_RETRY.max_deliveries} deliveries",
        ],
    )


async def _beside(
    stage: Stage, queue: Queue, group: Queue, kind: str
) -> tuple[Figure, list[Figure]]:
    async with Supervisor() as supervisor:
        if kind != "none":
            await _start(stage, group, kind, supervisor)
        record, cost, _ = await under(stage, queue, PER_S, EVERY_S)
        client, stream = stage.client, queue.keys.stream
        values = record.values(cost) | {
            "ready": (await queue.stats()).ready,
            "kept": await command(client, "XLEN", stream),
            "kept_kb": await command(client, "MEMORY USAGE", stream, "SAMPLES", 0) / 1000,
        }
        if kind == "none":
            return Figure("alone", values), []
        theirs = await group.stats()
        counts = {"ready": theirs.ready, "retries": theirs.scheduled, "dead": theirs.dead}
        return Figure(f"beside one {kind}", values), [Figure(f"the one {kind}", counts)]


async def _start(stage: Stage, group: Queue, kind: str, supervisor: Supervisor) -> None:
    """Start another group, of `kind`."""
    there = anyio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, TookOver):
            there.set()

    async def handle(_body: Any, _context: Context) -> None:
        if kind == "that fails each":
            raise RuntimeError("it always fails")

    def consumer() -> Consumer:
        return Consumer(stage.server, group, handle, name=CONSUMERS[1], observe=observe)

    supervisor.spawn("consumer", consumer)
    with anyio.fail_after(10):
        await there.wait()
    if kind == "that is away":
        await supervisor.stop("consumer")
    else:
        supervisor.spawn("poller", lambda: Poller(stage.server, group))
