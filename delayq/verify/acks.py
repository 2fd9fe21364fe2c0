"""Pass 1, I4: the order of acknowledgements, across any number of failovers.

Proved, for each acknowledgement, whoever made it:

- Where the order is strict, nothing that stands before it is left in the stream.
- Where the order is by key, or a failure parks its key, nothing of the same key is left that came
  to the stream first, be it in the stream, or on the schedule, where it waits.
- In both, a new holder goes on to new messages only when all that was pending is its own.

Dead letters are no acknowledgements: a message may die after one behind it was handled, never after
one behind it was acknowledged, as it was in the stream then.

Assumed: messages that another program touched have no place in any order from then on.
"""

import heapq
from collections.abc import Iterator

from delayq.verify.history import FOREIGN, Audited, Declared
from delayq.verify.lane import Lane
from delayq.verify.message import Place, place_of
from delayq.verify.step import Change, Finding, Step


class Acks:
    """Judges in what order a lane's messages are acknowledged."""

    def __init__(self, lane: Lane, declared: Declared) -> None:
        self._lane = lane
        self._strict = declared.ordering == "strict"
        self._ordered = declared.ordering != "none"
        self._by_key = declared.ordering == "key" or declared.on_failure == "park"
        self._places: dict[str, tuple[str, Place]] = {}
        """Each message that has a place in its key's order: the key, and the place."""
        self._lines: dict[str, list[tuple[Place, str]]] = {}
        """For each key the same as a heap, in which some may be there no more."""
        self._foreign: set[str] = set()
        self._strangers: set[str] = set()
        """Consumers that are none of ours."""

    def judge(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge one call."""
        if not self._ordered:
            return
        if call.script == FOREIGN:
            self._foreign |= step.before.keys()
            self._strangers |= {c.owned.consumer for c in step.changes if c.owned}
        self._line_up(step)
        acked = [c for c in step.changes if self._is_acked(c, step)]
        places = {c.at: self._places.get(c.fields.id) for c in acked}
        self._leave(step)
        for change in acked:
            if self._strict:
                yield from self._first_of_all(change)
            if place := places[change.at]:
                yield from self._first_of_its_key(change, *place)
        yield from self._went_on(call, step)
        self._foreign -= {i for i in step.before if step.after[i] == "absent"}

    def _is_acked(self, change: Change, step: Step) -> bool:
        message_id = change.fields.id
        gone = step.after[message_id] == "absent"
        return change.what == "settled" and gone and message_id not in self._foreign

    def _first_of_all(self, change: Change) -> Iterator[Finding]:
        left = ((e, f.id) for e, f in self._lane.stream.items() if f.id not in self._foreign)
        entry, before = next(left, ("", ""))
        if entry and place_of(entry) < place_of(change.at):
            said = f"{change.fields.id} was acknowledged before {before}"
            yield Finding("I4", said, (before, change.fields.id))

    def _first_of_its_key(self, change: Change, key: str, place: Place) -> Iterator[Finding]:
        line = self._lines.get(key, [])  # gone, where a call acknowledges several of one key
        while line and self._places.get(line[0][1]) != (key, line[0][0]):
            heapq.heappop(line)
        if not line:
            self._lines.pop(key, None)
        elif line[0][0] < place:
            said = f"{change.fields.id} was acknowledged before {line[0][1]} of its key {key!r}"
            yield Finding("I4", said, (line[0][1], change.fields.id))

    def _went_on(self, call: Audited, step: Step) -> Iterator[Finding]:
        fresh = [c.fields.id for c in step.changes if c.fresh]
        others = self._lane.owned.keys() - {call.consumer} - self._strangers
        if fresh and others and call.script != FOREIGN:
            said = f"{call.consumer} went on to {fresh[0]} while messages are pending for"
            yield Finding("I4", f"{said} {', '.join(sorted(others))}", (fresh[0],))

    # -- lines --

    def _line_up(self, step: Step) -> None:
        if not self._by_key:
            return
        for change in step.changes:
            fields = change.fields
            waits = change.place == "stream" or fields.place
            if change.what == "added" and waits and fields.key is not None:
                place = place_of(fields.place or change.at)
                self._places[fields.id] = (fields.key, place)
                heapq.heappush(self._lines.setdefault(fields.key, []), (place, fields.id))

    def _leave(self, step: Step) -> None:
        waits = {c.fields.id for c in step.changes if c.what == "added" and c.fields.place}
        for message_id, after in step.after.items():
            gone = after in {"absent", "dead"} or (after == "scheduled" and message_id not in waits)
            if gone or message_id in self._foreign:
                self._places.pop(message_id, None)
