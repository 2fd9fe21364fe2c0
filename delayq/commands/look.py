"""The commands that look: stats, list, show."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis

from delayq import registry
from delayq.browse import Stats
from delayq.commands.settings import (
    DeadListSettings,
    GroupSettings,
    ListSettings,
    OperatorSettings,
    QueueSettings,
    ShowSettings,
    StatsSettings,
)
from delayq.commands.table import Answer, cell, moment, printable, span, table
from delayq.errors import InvalidName, ScriptFailed, UsageError
from delayq.groups import slowest
from delayq.keys import GROUP, LaneKeys
from delayq.queue import Queue
from delayq.record import Page, Record, State


@asynccontextmanager
async def opened(settings: OperatorSettings) -> AsyncIterator[Redis]:
    """Open a client to the server that the settings name."""
    async with settings.server.client("delayq-operator") as client:
        yield client


async def queue_of(client: Redis, settings: OperatorSettings, name: str) -> Queue:
    """Return a queue as somebody knows it who does not know its `on_due`.

    It has the number of lanes that the registry tells; one, if it is not there.
    """
    number = await registry.lanes(client, settings.namespace, name) or 1
    return Queue(lambda: client, LaneKeys(settings.namespace, name), past_due=False, lanes=number)


async def queue_there(client: Redis, settings: OperatorSettings, name: str) -> Queue:
    """Return a queue that is there; `queue_of` one that may be new.

    :raises UsageError: if it is not registered, and there is nothing of it: it may be mistyped
    """
    queue = await queue_of(client, settings, name)
    known = await registry.queues(client, settings.namespace)
    if name not in known and not await queue.is_there():
        there = ", ".join(known) or "none yet"
        where = f"in the namespace {settings.namespace}"
        raise UsageError(printable(f"QUEUE: no queue {name} {where}; there are: {there}"))
    return queue


@asynccontextmanager
async def opened_queue(settings: QueueSettings) -> AsyncIterator[Queue]:
    """Open a client to the server that the settings name, and give their queue over it.

    :raises UsageError: if there is no such queue, or it has no such group
    """
    async with opened(settings) as client:
        queue = await queue_there(client, settings, settings.queue)
        group = settings.group if isinstance(settings, GroupSettings) else GROUP
        if group != GROUP and group not in (there := await queue.groups()):
            raise no_group("--group", queue, group, there)
        yield queue.seen_by(group)


def no_group(argument: str, queue: Queue, group: str, there: Iterable[str]) -> UsageError:
    """Return what says that a queue has no such group: it may be mistyped."""
    known = ", ".join(there) or "none yet"
    return UsageError(f"{argument}: {queue.name} has no group {group}; there are: {known}")


async def names_of(client: Redis, settings: OperatorSettings, name: str | None) -> list[str]:
    """Return the queue named, or else all that are registered in the namespace.

    :raises UsageError: if the one named is not there
    """
    if name is not None:
        return [(await queue_there(client, settings, name)).name]
    return list(await registry.queues(client, settings.namespace))


async def run_stats(settings: StatsSettings) -> Answer:
    """Count what is where. Of all queues, one that cannot be counted hides no other."""
    async with opened(settings) as client:
        if settings.queue is not None:
            queue = await queue_there(client, settings, settings.queue)
            counted = await queue.every_stats()
            return Answer(_one(counted), _counts(settings.queue, counted))
        found: dict[str, EveryStats | str] = {}
        for name in await names_of(client, settings, None):
            try:
                queue = await queue_of(client, settings, name)
                found[name] = await queue.every_stats()
            except (InvalidName, ScriptFailed) as error:
                found[name] = str(error)
    if not found:
        return Answer(f"no queues in the namespace {settings.namespace}", [])
    value = [_counts(name, s) for name, s in found.items()]
    wrong = [printable(f"{name}: {s}") for name, s in found.items() if isinstance(s, str)]
    return Answer("\n".join([_all(found), *wrong]), value, ok=not wrong)


EveryStats = Mapping[str, Stats]
"""By the name of the group; the queue's own is always among them."""


def _counts(name: str, counted: EveryStats | str) -> dict[str, Any]:
    if isinstance(counted, str):
        return {"queue": name, "error": counted}
    groups = {group: {"lag": s.lag} | asdict(s) for group, s in counted.items()}
    more = {"groups": groups, "slowest": slowest(counted)} if len(groups) > 1 else {}
    return {"queue": name} | groups[GROUP] | more


def _all(found: Mapping[str, EveryStats | str]) -> str:
    rows = [
        (name if group == GROUP else f"{name}/{group}", *_row_of(s))
        for name, counted in found.items()
        if not isinstance(counted, str)
        for group, s in counted.items()
    ]
    return table(("queue", *_COLUMNS), rows)


_COLUMNS = ("scheduled", "ready", "pending", "dead", "oldest", "holder")


def _row_of(s: Stats) -> Sequence[object]:
    return (s.scheduled, s.ready, s.pending, s.dead, span(s.oldest_ms), _holder(s))


def _holder(s: Stats) -> str | None:
    held = sum(lane.holder is not None for lane in s.lanes)
    return f"{held} of {len(s.lanes)} lanes" if held else s.holder


def _one(counted: EveryStats) -> str:
    s = counted[GROUP]
    rows: list[tuple[str, object]] = [
        *(("scheduled", s.scheduled), ("ready", s.ready), ("pending", s.pending), ("dead", s.dead)),
        ("oldest", span(s.oldest_ms)),
        ("next due", moment(s.next_due_ms[0]) if s.next_due_ms else None),
        ("holder", _holder(s)),
        ("since", moment(s.since_ms)),
        ("keys parked", s.parked),
        ("halted at", f"{s.halted.id}: {s.halted.reason}" if s.halted else None),
        *((f"pending for {name}", count) for name, count in s.consumers.items()),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{cell(value)}" for name, value in rows]
    if s.lanes:
        lanes = [(at, *_row_of(lane)) for at, lane in enumerate(s.lanes)]
        lines += ["", table(("lane", *_COLUMNS), lanes)]
    if len(counted) > 1:
        groups = [(group, *_row_of(each)) for group, each in counted.items()]
        lines += ["", table(("group", *_COLUMNS), groups), f"slowest: {slowest(counted) or '-'}"]
    return "\n".join(lines)


async def run_list(settings: ListSettings) -> Answer:
    """List the messages of a state."""
    return await _listed(settings, settings.state)


async def run_dead_list(settings: DeadListSettings) -> Answer:
    """List dead letters."""
    return await _listed(settings, "dead")


async def _listed(settings: ListSettings | DeadListSettings, state: State) -> Answer:
    async with opened_queue(settings) as queue:
        page = await queue.list(state, settings.limit, settings.after)
    value = {"records": [asdict(record) for record in page.records], "next": page.next}
    return Answer(_pictured(state, page), value)


def _pictured(state: State, page: Page) -> str:
    if not page.records:
        return f"nothing is {state}"
    special = {"pending": ("consumer",), "dead": ("reason", "error")}.get(state, ())
    columns = ["id", "due", "deliveries", "key", *special, "body"]
    text = table(columns, [_row(record, special) for record in page.records])
    return text if page.next is None else f"{text}\nmore: --after {page.next}"


def _row(record: Record, special: Sequence[str]) -> Sequence[object]:
    more = [getattr(record, name) for name in special]
    return [record.id, moment(record.due_ms), record.deliveries, record.key, *more, record.body]


async def run_show(settings: ShowSettings) -> Answer:
    """Show one message."""
    async with opened_queue(settings) as queue:
        record = await queue.get(settings.message_id, key=settings.key)
    if record is None:
        said = f"{printable(settings.message_id)}: no such message in {settings.queue}"
        return Answer(said, None, ok=False)
    shown = {
        name: moment(value) if name.endswith("_ms") else value
        for name, value in asdict(record).items()
        if value not in (None, "", {}) or name == "body"
    }
    body = shown.pop("body")
    lines = [f"{name.removesuffix('_ms'):<11}{cell(value)}" for name, value in shown.items()]
    written = body if isinstance(body, str) else Answer("", body).as_json
    return Answer("\n".join([*lines, f"{'body':<11}{printable(written)}"]), asdict(record))
