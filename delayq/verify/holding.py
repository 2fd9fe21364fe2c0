"""Pass 1, each parked key: who waits for others of it is held, and let go when it is their turn.

Proved, for each call of a script:

- Only `park` has a message held, and the first of those that wait is never held: so each key goes
  on when the one before is settled, and does not wait for the due time that is a safety net.
- A scheduled message gets another due time from `reschedule`, or because it was held, and then is
  due now: so none that waits for its own retry is made due early.

Assumed: messages that another program touched are theirs: they are not judged from then on.
"""

import heapq
from collections.abc import Iterator

from delayq.verify.history import FOREIGN, Audited
from delayq.verify.lane import Lane
from delayq.verify.places import ARRIVAL_CHARS
from delayq.verify.step import Change, Finding, Step

_LENGTH_CHARS, _PLACE_CHARS = 8, 32
_LET_GO = {"ack", "dead_letter", "resume", "cancel", "purge_scheduled", "purge_ready", "park"}
_LET_GO_MS = 32
"""How long ago those that are let go may be made due: they keep their order by it."""


class Holding:
    """Judges who is held, and who is let go."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._waiting: dict[str, set[str]] = {}
        """For each parked key its rows of `waiting`, by what they begin with."""
        self._lines: dict[str, list[str]] = {}
        """The same as heaps, in which some may be there no more."""
        self._held: dict[str, bool] = {}
        """Members of the schedule: whether they were held, when last seen."""
        self._foreign: set[str] = set()

    def judge(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge one call."""
        if call.script == FOREIGN:
            self._foreign |= step.before.keys()
        for change in step.changes:
            if change.place == "scheduled":
                yield from self._scheduled(call, change)
        for key in self._changed(call):
            yield from self._first(call, key)

    def _scheduled(self, call: Audited, change: Change) -> Iterator[Finding]:
        fields, message_id = change.fields, change.fields.id
        was_held = self._held.pop(change.at, False)
        if change.what == "removed":
            return
        self._held[change.at] = fields.held
        if call.script in {FOREIGN, "reschedule"} or message_id in self._foreign:
            return
        if fields.held and (change.what == "moved" or call.script != "park"):
            yield Finding("I8", f"{call.script} has {message_id} held", (message_id,))
        elif change.what == "moved":
            ago_ms = call.now_us // 1000 - (fields.due_ms or 0)
            if call.script not in _LET_GO or not was_held or not 0 <= ago_ms < _LET_GO_MS:
                said = f"{call.script} changed the due time of {message_id}"
                yield Finding("I2", said, (message_id,))

    def _first(self, call: Audited, key: str) -> Iterator[Finding]:
        rows, line = self._waiting[key], self._lines[key]
        while line and line[0] not in rows:
            heapq.heappop(line)
        if not line:
            del self._waiting[key], self._lines[key]
            return
        message_id = line[0][len(key) + _PLACE_CHARS + 1 :]
        packed = self._lane.bodies.get(message_id, "")
        held = self._held.get(packed[:ARRIVAL_CHARS] + message_id, False)
        if held and message_id not in self._foreign:
            said = f"{message_id} is held after {call.script}, and is the first of its key"
            yield Finding("I8", said, (message_id,))

    def _changed(self, call: Audited) -> set[str]:
        """Take what the call wrote of who waits; return the keys of which that was."""
        changed: set[str] = set()
        for write in call.writes:
            match write.words:
                case ["ZADD", name, *scored] if self._is_waiting(name):
                    changed |= {self._add(row) for row in scored[1::2]}
                case ["ZREM", name, *rows] if self._is_waiting(name):
                    changed |= {self._remove(row) for row in rows}
        return changed & self._waiting.keys()

    def _is_waiting(self, name: str) -> bool:
        return name == f"{self._lane.prefix}waiting"

    def _add(self, row: str) -> str:
        key = _key(row)
        rows = self._waiting.setdefault(key, set())
        if row not in rows:
            rows.add(row)
            heapq.heappush(self._lines.setdefault(key, []), row)
        return key

    def _remove(self, row: str) -> str:
        key = _key(row)
        self._waiting.get(key, set()).discard(row)
        return key


def _key(row: str) -> str:
    """Return what a row begins with: how long its key is, in bytes, and the key."""
    length = int(row[:_LENGTH_CHARS], 16)
    return row[:_LENGTH_CHARS] + row[_LENGTH_CHARS:].encode()[:length].decode()
