"""Pass 1, I4: the order of the stream is (due, arrival).

Proved: what is promoted is the first of the schedule, and a publish due now does not go past what
is due already. Where due messages are corrected first (`on_due`), a publish may go past them, and
what one call promotes is in order in itself.

Where the queue has several lanes, a message that has a key comes to the lane of its key: so the
lane's order is the key's.

Assumed: nothing but that the audit is complete.
"""

import heapq
from collections.abc import Iterator

from delayq.keys import lane_of
from delayq.verify.history import FOREIGN, Audited, Declared
from delayq.verify.step import Change, Finding, Step

Turn = tuple[float, str]
"""Due ms, or of what is held its score, and member: the member begins with the arrival number."""


class Order:
    """Judges in what order a lane's messages come to the stream."""

    def __init__(self, declared: Declared) -> None:
        self._on_due = declared.on_due
        self._lanes = declared.lanes
        self._due: dict[str, float] = {}
        """Members of the schedule that are not promoted."""
        self._next: list[Turn] = []
        """The same as a heap, in which some may be there no more."""

    def judge(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge one call."""
        moving = {c.fields.id: c.at for c in step.changes if _is_unscheduled(c.what, c.place)}
        last: Turn = (0, "")
        for change in step.changes:
            added, message_id = change.what == "added", change.fields.id
            yield from self._in_its_lane(call, change)
            if change.place == "scheduled" and change.what != "removed":
                score = (change.fields.due_ms or 0) - change.fields.held / 2
                self._due[change.at] = score
                heapq.heappush(self._next, (score, change.at))
            elif change.place == "scheduled":
                self._due.pop(change.at, None)
            elif added and message_id in moving:
                member = moving[message_id]
                turn = (self._due.get(member, 0), member)
                if change.place == "stream":
                    yield from self._in_turn(call, turn, last)
                    last = turn
                self._due.pop(member, None)
            elif added and change.place == "stream":
                yield from self._not_past(call, message_id)

    def _in_its_lane(self, call: Audited, change: Change) -> Iterator[Finding]:
        key, message_id = change.fields.key, change.fields.id
        if key is None or change.what != "added" or call.script == FOREIGN:
            return
        lane = lane_of(key, self._lanes)
        if lane != call.lane:
            said = (
                f"{message_id} came to lane {call.lane}, and lane {lane} is that of its key {key!r}"
            )
            yield Finding("I4", said, (message_id,))

    def _in_turn(self, call: Audited, turn: Turn, last: Turn) -> Iterator[Finding]:
        first = self._first()
        if call.script == "promote_as" or first is None:
            first = turn
        if turn < last or first < turn:
            early, late = turn[1][12:], (last if turn < last else first)[1][12:]
            yield Finding(
                "I4", f"{early} and {late} came to the stream in the wrong order", (early, late)
            )

    def _not_past(self, call: Audited, message_id: str) -> Iterator[Finding]:
        first = self._first()
        allowed = self._on_due or call.script == FOREIGN
        if first and first[0] <= call.now_us // 1000 and not allowed:
            before = first[1][12:]
            said = f"{message_id}, published due now, went past {before}, which was due"
            yield Finding("I4", said, (message_id, before))

    def _first(self) -> Turn | None:
        while self._next and self._due.get(self._next[0][1]) != self._next[0][0]:
            heapq.heappop(self._next)
        return self._next[0] if self._next else None


def _is_unscheduled(what: str, place: str) -> bool:
    return what == "removed" and place == "scheduled"
