"""Looking at a queue: how many messages are where, and which. Nothing here changes anything."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from redis.asyncio import Redis

from delayq import scripts
from delayq.clock import as_argument
from delayq.errors import GroupMissing, InvalidCursor
from delayq.keys import LaneKeys
from delayq.record import (
    ARRIVAL_CHARS,
    Page,
    Record,
    State,
    cursor,
    entry_record,
    number,
    paired,
    place,
    scheduled_record,
)

PAGE_LIMIT = 500
"""Messages read by one command at most."""
_SHOWN_DUE = 8
_COUNTED = 1_000
"""Ready messages of a group that `stats` counts one by one at most."""
Records = list[Record]
"""Named here, as inside the class `list` is a method."""


@dataclass(frozen=True, slots=True)
class Halted:
    """The message that a lane stopped at, and why."""

    id: str
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Stats:
    """How many messages are where, and who is active: one snapshot of each lane."""

    scheduled: int = 0
    ready: int = 0
    """Of one of several groups it may be told too low, when more than 1,000, or 500 KB, are kept
    for it, and for others as many that it has read. It counts what came back for others, and was
    not passed yet."""
    pending: int = 0
    dead: int = 0
    next_due_ms: tuple[int, ...] = ()
    """Of the first few that are scheduled, but for those that wait for another of their key."""
    holder: str | None = None
    """Who holds the lease of an ordered queue of one lane."""
    now_ms: int = 0
    """The server's time at this snapshot."""
    oldest_ms: int | None = None
    """How long the oldest message that is ready or pending has been so; None if there is none."""
    epoch: int | None = None
    since_ms: int | None = None
    """When the holder took its lease."""
    consumers: Mapping[str, int] = field(default_factory=dict)
    """Names in the group, and how many messages are pending for each."""
    parked: int = 0
    """Keys that wait for a message that failed."""
    halted: Halted | None = None
    """Of several lanes, the first that is."""
    lanes: tuple["Stats", ...] = ()
    """Those of each lane, where there are several: this is their sum."""

    @property
    def lag(self) -> int:
        """Messages that no consumer has read yet: those that are ready."""
        return self.ready


async def stats(client: Redis, keys: LaneKeys, now_ms: int | None = None) -> Stats:
    """Count what is where, in one round trip.

    :param now_ms: instead of the server's time
    :raises ServerError: if the server did not answer, or refused; or a key is of the wrong type
    """
    k = keys
    answer = await scripts.run(
        client,
        "stats",
        [k.stream, k.schedule, k.dead, k.lease(), k.parked, k.halted],
        [as_argument(now_ms), k.group, _SHOWN_DUE, _COUNTED],
    )
    now, counts, oldest, lease, halted, due, consumers = answer
    scheduled, ready, pending, dead, parked = counts
    about = paired(halted)
    return Stats(
        scheduled=scheduled,
        ready=ready,
        pending=pending,
        dead=dead,
        next_due_ms=tuple(at for text in due if (at := number(text)) is not None),
        holder=lease[0],
        now_ms=now,
        oldest_ms=None if oldest < 0 else oldest,
        epoch=number(lease[1]),
        since_ms=number(lease[2]),
        consumers=dict(zip(consumers[::2], consumers[1::2], strict=True)),
        parked=parked,
        halted=Halted(about.get("id", ""), about.get("reason", ""), about.get("error", ""))
        if about
        else None,
    )


def together(lanes: Sequence[Stats]) -> Stats:
    """Sum up what was counted in each lane; of one lane it is that."""
    if len(lanes) == 1:
        return lanes[0]
    consumers: Counter[str] = Counter()
    for lane in lanes:
        consumers.update(lane.consumers)
    due = sorted(at for lane in lanes for at in lane.next_due_ms)
    return Stats(
        scheduled=sum(lane.scheduled for lane in lanes),
        ready=sum(lane.ready for lane in lanes),
        pending=sum(lane.pending for lane in lanes),
        dead=sum(lane.dead for lane in lanes),
        next_due_ms=tuple(due[:_SHOWN_DUE]),
        now_ms=max(lane.now_ms for lane in lanes),
        oldest_ms=max((ms for lane in lanes if (ms := lane.oldest_ms) is not None), default=None),
        consumers=dict(consumers),
        parked=sum(lane.parked for lane in lanes),
        halted=next((lane.halted for lane in lanes if lane.halted), None),
        lanes=tuple(lanes),
    )


async def listed(
    client: Redis, lanes: Sequence[LaneKeys], state: State, limit: int = 100, after: str = ""
) -> Page:
    """List messages of a state, a page at a time: lane by lane, each in its order.

    :param after: the `next` of the page before; it names the lane
    :raises InvalidCursor: if `after` is no cursor of this list
    :raises ValueError: as `Browser.list` does
    :raises ServerError: if the server did not answer, or refused
    """
    named, dot, place_in_lane = after.partition(".")
    if after and not (dot and named.isdecimal() and len(named) < 5 and int(named) < len(lanes)):
        raise InvalidCursor(f"after: {after[:80]!r} is no cursor of the {state} messages")
    records: Records = []
    for at in range(int(named or 0), len(lanes)):
        left = limit - len(records)
        page = await Browser(client, lanes[at]).list(state, left, place_in_lane)
        records += page.records
        if page.next is not None:
            return Page(records, f"{at}.{page.next}")
        place_in_lane = ""
    return Page(records)


class Browser:
    """Finds and lists the messages of one lane."""

    def __init__(self, client: Redis, keys: LaneKeys) -> None:
        self._client = client
        self._keys = keys

    async def get(self, message_id: str) -> Record | None:
        """Find a message: at once if it is scheduled.

        Else this reads the stream and then the dead stream from their beginnings, in pages of 500:
        as long as they are. A message that moves meanwhile is found where it moved to.

        :return: None if no message of that id is there
        :raises ServerError: if the server did not answer, or refused
        """
        places: tuple[tuple[State, str], ...] = (
            ("ready", self._keys.stream),
            ("dead", self._keys.dead),
        )
        if found := await self._scheduled(message_id):
            return found
        for state, stream in places:
            async for record in self._entries(state, stream):
                if record.id == message_id:
                    found = record if state == "dead" else await self._unsettled(record)
                    if found is not None:
                        return found
        # A retry moves a message against the direction of this search.
        return await self._scheduled(message_id)

    async def list(self, state: State, limit: int = 100, after: str = "") -> Page:
        """List messages in their order, a page at a time.

        A page is shorter than `limit` only at the end. What comes or goes between two pages
        changes nothing about the others.

        :param limit: 1 to 500
        :param after: the `next` of the page before
        :raises InvalidCursor: if `after` is no cursor of this list
        :raises ValueError: if `state` is none that there is, or `limit` is out of range
        :raises ServerError: if the server did not answer, or refused
        """
        if state not in get_args(State):
            raise ValueError(f"state: one of {', '.join(get_args(State))} (got {state!r})")
        if not 1 <= limit <= PAGE_LIMIT:
            raise ValueError(f"limit: 1 to {PAGE_LIMIT} (got {limit})")
        if state == "scheduled":
            return await self._list_scheduled(limit, after)
        [last] = place(after, state, 1) if after else [""]
        if state == "pending":
            records = await self._list_pending(limit, last)
        elif state == "dead":
            records = await self._range("dead", self._keys.dead, last, limit)
        else:
            last = max(last, await self._delivered(), key=_order)
            records = await self._range("ready", self._keys.stream, last, limit)
        return Page(records, cursor(state, records[-1].entry) if len(records) == limit else None)

    async def _list_scheduled(self, limit: int, after: str) -> Page:
        score, member = place(after, "scheduled", 2) if after else ("", "")
        keys = [self._keys.schedule, self._keys.bodies]
        rows = await scripts.run(self._client, "list_scheduled", keys, [limit, score, member])
        records = [scheduled_record(*rows[at : at + 3]) for at in range(0, len(rows), 3)]
        last = cursor("scheduled", rows[-2], rows[-3]) if len(records) == limit else None
        return Page(records, last)

    async def _list_pending(self, limit: int, last: str) -> Records:
        args = [self._keys.group, f"({last}" if last else "-", limit]
        rows = await scripts.run(self._client, "list_pending", [self._keys.stream], args)
        return [
            entry_record("pending", entry, paired(fields), delivered, consumer)
            for entry, consumer, delivered, fields in rows
        ]

    async def _range(self, state: State, stream: str, last: str, limit: int) -> Records:
        start = f"({last}" if last else "-"
        rows = await scripts.command(self._client, "XRANGE", stream, start, "+", "COUNT", limit)
        return [entry_record(state, entry, fields) for entry, fields in rows]

    async def _entries(self, state: State, stream: str) -> AsyncIterator[Record]:
        last = ""
        while records := await self._range(state, stream, last, PAGE_LIMIT):
            for record in records:
                yield record
            last = records[-1].entry

    async def _delivered(self) -> str:
        """Return the id of the last entry that the group has read; '' if there is no group."""
        try:
            groups = await scripts.command(self._client, "XINFO GROUPS", self._keys.stream)
        except GroupMissing:
            return ""
        own = [group for group in groups if group["name"] == self._keys.group]
        return str(own[0]["last-delivered-id"]) if own else ""

    async def _scheduled(self, message_id: str) -> Record | None:
        stored = await scripts.command(self._client, "HGET", self._keys.bodies, message_id)
        if stored is None:
            return None
        member = stored[:ARRIVAL_CHARS] + message_id
        score = await scripts.command(self._client, "ZSCORE", self._keys.schedule, member)
        if score is None:
            return None
        return scheduled_record(member, str(score), stored[ARRIVAL_CHARS:])

    async def _unsettled(self, record: Record) -> Record | None:
        """Return an entry of the stream as what it is: pending or ready; None if it is done with.

        Then it is kept for other groups.
        """
        args = [self._keys.group, record.entry, 1]
        rows = await scripts.run(self._client, "list_pending", [self._keys.stream], args)
        if not rows or rows[0][0] != record.entry:
            done = _order(record.entry) <= _order(await self._delivered())
            return None if done else record
        entry, consumer, delivered, fields = rows[0]
        return entry_record("pending", entry, paired(fields), delivered, consumer)


def _order(entry: str) -> tuple[int, int]:
    """Tell where an entry stands in its stream."""
    time, _, sequence = entry.partition("-")
    return int(time or 0), int(sequence or 0)
