"""The commands for who is active in an ordered queue: who, handover, resume."""

from dataclasses import asdict

from delayq.active import Active
from delayq.commands.look import opened_queue
from delayq.commands.settings import (
    HandoverSettings,
    LaneSettings,
    ResumeSettings,
    WhoSettings,
)
from delayq.commands.table import Answer, moment, printable, span, table
from delayq.errors import UsageError
from delayq.queue import Queue

_NOBODY_HOLDS = "consumers; they hold no lane, as is right where they compete:"
"""Where there is an order, it tells that they all lost theirs."""


async def run_who(settings: WhoSettings) -> Answer:
    """Tell who is active in each lane, and who stands by; or which consumers compete."""
    async with opened_queue(settings) as queue:
        lanes, consumers = await queue.who(), (await queue.stats()).consumers
    value = {"lanes": [active and asdict(active) for active in lanes], "consumers": consumers}
    if any(lanes):
        rows = [(at, *_row(active)) for at, active in enumerate(lanes)]
        return Answer(table(("lane", "active", "epoch", "since", "stand by"), rows), value)
    if consumers:
        told = [f"{name}: {count} pending" for name, count in consumers.items()]
        return Answer("\n".join([_NOBODY_HOLDS, *told]), value)
    return Answer("nobody is active", value, ok=False)


def _row(active: Active | None) -> tuple[object, ...]:
    if active is None:
        return (None,) * 4
    since = f"{moment(active.since_ms)}, {span(active.now_ms - active.since_ms)} ago"
    return (active.name, active.epoch, since, ", ".join(active.standby))


async def run_handover(settings: HandoverSettings) -> Answer:
    """Ask the active consumers to pass on, and tell who took over."""
    async with opened_queue(settings) as queue:
        asked = _asked(queue, settings)
        everybody = await queue.who()
        after = await queue.handover(settings.wait_ms / 1000, lane=settings.lane)
    passed = [(at, everybody[at], to) for at, to in zip(asked, after, strict=True)]
    lanes = [(at, before, to) for at, before, to in passed if before is not None]
    value = [{"lane": at, "from": b.name, "to": to and to.name} for at, b, to in lanes]
    if not lanes:
        return Answer("nobody is active", value, ok=False)
    lines = [_where(queue, at) + _passed(before, to) for at, before, to in lanes]
    ok = all(to is not None and to.name != before.name for _, before, to in lanes)
    return Answer("\n".join(lines), value, ok)


def _passed(before: Active, after: Active | None) -> str:
    if after is None:
        return f"{before.name} has not passed on yet"
    if after.name == before.name:
        return f"{before.name} goes on: nobody stood by"
    return f"{before.name} passed on to {after.name}, epoch {after.epoch}"


async def run_resume(settings: ResumeSettings) -> Answer:
    """Have halted lanes go on."""
    async with opened_queue(settings) as queue:
        _asked(queue, settings)
        ids = await queue.resume(skip=settings.skip, lane=settings.lane)
    if not ids:
        return Answer("it is not halted", {"resumed": []}, ok=False)
    how = "past" if settings.skip else "with"
    lines = [f"goes on {how} {printable(message_id)}" for message_id in ids]
    return Answer("\n".join(lines), {"resumed": ids})


def _asked(queue: Queue, settings: LaneSettings) -> range:
    """Return the lanes that are asked.

    :raises UsageError: if there is no such lane
    """
    if settings.lane is None:
        return range(queue.lanes)
    if settings.lane >= queue.lanes:
        raise UsageError(f"--lane: {queue.name} has 0 to {queue.lanes - 1} (got {settings.lane})")
    return range(settings.lane, settings.lane + 1)


def _where(queue: Queue, lane: int) -> str:
    return f"lane {lane}: " if queue.lanes > 1 else ""
