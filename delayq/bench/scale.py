"""Scale: what a long schedule costs, and all of it due at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from delayq.bench.meter import Cost, Meter, gauge
from delayq.bench.processes import nursery
from delayq.bench.report import Figure, Section
from delayq.bench.rounds import Contender, rates, rounds
from delayq.bench.scales import slowest, weighing
from delayq.bench.stage import Stage, bodies, moment, parts
from delayq.poller import Poller
from delayq.queue import Queue

FEW = 1_000
_CALLS = ("publish", "cancel", "promote")
_COUNT = 500
"""Messages of a turn."""
_HOUR_MS = 3_600_000
_PART = 10_000
"""Messages held here at once."""
_CHANGES = 8
"""After one change for so many messages the server has moved what is in its tables."""
_LONGEST_S = 1_800.0
_RAW = "raw: moved, 500 a call"


async def measure(stage: Stage) -> Section:
    """Measure calls beside few and beside many that are scheduled; then have all these due."""
    many = stage.settings.scale
    far_ms = round(stage.now_ms()) + 24 * _HOUR_MS
    async with stage.queue("strict") as small, stage.queue("strict") as large:
        await _schedule(stage, small, FEW, far_ms)
        before = await gauge(stage.client)
        with weighing(stage.client) as scheduling_ms:
            bulk = await _schedule(stage, large, many, far_ms)
        memory_bytes = (await gauge(stage.client)).memory_bytes - before.memory_bytes
        few, beside = _Beside(stage, small), _Beside(stage, large)
        calls = (await _growth(stage, few, beside, {"promote, right after": "promote"}))[-1:]
        for part in parts(many // _CHANGES, _PART):
            await beside.promote(len(part))
        calls += await _growth(stage, few, beside, {call: call for call in _CALLS})
        drained, draining_ms = await _drain(stage, large, far_ms)
    figures = [
        Figure("schedule in bulk", {**rates([bulk]), **slowest(scheduling_ms)}),
        *calls,
        Figure("memory", {"bytes_each": memory_bytes / many}),
        Figure("all due at once", drained),
    ]
    notes = [
        f"growth: CPU of the server per message beside {many:,}, to that beside {FEW:,}",
        "slowest script: CPU that one call of a script took of the server at most, which a busy "
        "machine may double; weighed, they go one by one",
        "right after: the server's tables double at 229,376 messages, 458,752 and so on, and each "
        "change moves a little of what is in them, and costs up to twice as much; so the others "
        f"are measured after {many // _CHANGES:,} changes more",
    ]
    pictures = {
        "scripts while all is scheduled": scheduling_ms,
        "scripts while all is drained": draining_ms,
    }
    return Section("scale", f"Scale: {many:,} messages scheduled", figures, pictures, notes)


async def _schedule(stage: Stage, queue: Queue, count: int, due_ms: int) -> Cost:
    due = moment(due_ms)
    meter = await Meter.ready(stage.client)
    for part in parts(count, _PART):
        stage.tell(f"scale, scheduling {count:,}", part.start, count)
        made = bodies(len(part), part.start)
        await queue.publish_many(queue.message(body, deliver_at=due) for body in made)
    meter.stop()
    return await meter.cost(count)


@dataclass(frozen=True)
class _Beside:
    """Calls on a queue beside what is scheduled in it, which they leave as it was."""

    stage: Stage
    queue: Queue

    async def publish(self, count: int) -> Cost:
        due = self._soon
        meter = await Meter.ready(self.stage.client)
        ids = [(await self.queue.publish(b, deliver_at=due)).id for b in bodies(count)]
        meter.stop()
        cost = await meter.cost(count)
        await self._cancel(ids)
        return cost

    async def cancel(self, count: int) -> Cost:
        ids = await self._publish(count)
        meter = await Meter.ready(self.stage.client)
        await self._cancel(ids)
        meter.stop()
        return await meter.cost(count)

    async def promote(self, count: int) -> Cost:
        await self._publish(count)
        poller = Poller(self.stage.server, self.queue)
        now_ms = round(self.stage.now_ms()) + 2 * _HOUR_MS
        meter = await Meter.ready(self.stage.client)
        more = True
        while more:
            more = await poller.turn(now_ms) == 0
        meter.stop()
        cost = await meter.cost(count)
        await self.queue.purge("ready")
        return cost

    @property
    def _soon(self) -> Any:
        return moment(self.stage.now_ms() + _HOUR_MS)

    async def _publish(self, count: int) -> list[str]:
        due = self._soon
        messages = [self.queue.message(body, deliver_at=due) for body in bodies(count)]
        return [receipt.id for receipt in await self.queue.publish_many(messages)]

    async def _cancel(self, ids: list[str]) -> None:
        for message_id in ids:
            await self.queue.cancel(message_id)


async def _growth(
    stage: Stage, few: _Beside, many: _Beside, calls: Mapping[str, str]
) -> list[Figure]:
    """Measure each call beside both; its figure, by the name that it is given, is beside many."""
    contenders = [Contender(_RAW, partial(_move_raw, stage))]
    for name, call in calls.items():
        beside_few = f"{name} beside few"
        contenders.append(Contender(beside_few, getattr(few, call), _RAW))
        contenders.append(Contender(name, getattr(many, call), beside_few))
    costs = await rounds(stage, "scale, single calls", contenders, _COUNT)
    shown = [Figure(_RAW, rates(costs[_RAW]))] if _RAW in costs else []
    for name in calls:
        pairs = zip(costs[name], costs[f"{name} beside few"], strict=True)
        growth = median(large.server_s / small.server_s for large, small in pairs)
        shown.append(Figure(name, {**rates(costs[name]), "growth": growth}))
    return shown


async def _move_raw(stage: Stage, count: int) -> Cost:
    async with stage.raw() as raw:
        await raw.move(0)  # nothing yet: the script is loaded
        await raw.schedule(bodies(count), 1)
        meter = await Meter.ready(stage.client)
        await raw.move(1)
        meter.stop()
        return await meter.cost(count)


async def _drain(
    stage: Stage, queue: Queue, due_ms: int
) -> tuple[dict[str, float | None], list[float]]:
    """Have a process of its own promote and handle all, by a clock that stands where it is due.

    :return: what it cost, and the CPU of the server for each script, ms
    """
    count, client = stage.settings.scale, stage.client
    what = f"scale, draining {count:,}"
    stage.tell(what, 0, count)
    before = await gauge(client)
    async with nursery(stage) as processes:
        child = await processes.start("drain_all", queue, count=count, now_ms=due_ms + 1)
        child.then(lambda told: stage.tell(what, told.get("acked", count), count))
        told = (await child.until("drained", within_s=_LONGEST_S))["drained"]
        await child.until("ended")
    server_s = (await gauge(client)).cpu_s - before.cpu_s
    cost = Cost(count, told.pop("wall_s"), told.pop("client_s"), server_s)
    script_ms = [ms for ms, count in told.pop("scripts") for _ in range(count)]
    return {**rates([cost]), **told, **slowest(script_ms)}, script_ms
