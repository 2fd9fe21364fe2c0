"""The places of a lane's messages: stream, pending list, schedule, dead letters.

Each message is kept with where it is; whatever moves it notes in the `Step` under way how it was
before, and what changed.
"""

import math
from collections import Counter, OrderedDict
from dataclasses import replace

from delayq.verify.message import Fields, from_packed
from delayq.verify.step import Change, Owned, Place, State, Step, What

ARRIVAL_CHARS = 12


class Places:
    """Where the messages of one lane are."""

    def __init__(self) -> None:
        self.stream: OrderedDict[str, Fields] = OrderedDict()
        self.unread: OrderedDict[str, None] = OrderedDict()
        self.pending: dict[str, Owned] = {}
        self.owned: Counter[str] = Counter()
        """How many are pending for each consumer."""
        self.schedule: dict[str, float] = {}
        self.bodies: dict[str, str] = {}
        self.dead: dict[str, Fields] = {}
        self._places: dict[str, list[tuple[str, str]]] = {}
        self._step = Step()

    def state(self, message_id: str) -> State:
        """Tell where a message is."""
        places = self._places.get(message_id, ())
        if len(places) != 1:
            return "doubled" if places else "absent"
        [(place, at)] = places
        if place != "stream":
            return place  # type: ignore[return-value]
        return "pending" if at in self.pending else "ready" if at in self.unread else "read"

    def _fields(self, entry: str) -> Fields:
        return self.stream.get(entry) or Fields(entry)

    def _scheduled(self, member: str) -> Fields:
        message_id = member[ARRIVAL_CHARS:]
        fields = from_packed(message_id, self.bodies.get(message_id))
        score = self.schedule[member]
        return replace(fields, due_ms=math.ceil(score), held=score % 1 != 0)

    def _touch(self, message_id: str) -> None:
        if message_id not in self._step.before:
            self._step.before[message_id] = self.state(message_id)

    def _added(self, change: Change) -> None:
        message_id = change.fields.id
        self._touch(message_id)
        places = self._places.setdefault(message_id, [])
        if not places and self._step.before[message_id] != "absent":
            self._step.nowhere.add(message_id)
        places.append((change.place, change.at))
        self._step.changes.append(change)

    def _remove(self, place: Place, at: str) -> None:
        match place:
            case "scheduled":
                fields = self._scheduled(at)
            case "dead":
                fields = self.dead[at]
            case "stream":
                fields = self.stream[at]
        self._touch(fields.id)
        if place == "scheduled":
            del self.schedule[at]
        elif place == "dead":
            del self.dead[at]
        else:
            del self.stream[at]
            self.unread.pop(at, None)
        places = self._places[fields.id]
        places.remove((place, at))
        if not places:
            del self._places[fields.id]
        self._step.changes.append(Change("removed", place, at, fields))

    def _own(self, entry: str, owned: Owned, change: Change) -> None:
        self._touch(change.fields.id)
        if change.before:
            self._disown(change.before)
        self.pending[entry] = change.owned = owned
        self.owned[owned.consumer] += 1
        self._step.changes.append(change)

    def _drop(self, what: What, entry: str) -> None:
        fields = self._fields(entry)
        self._touch(fields.id)
        before = self.pending.pop(entry)
        self._disown(before)
        self._step.changes.append(Change(what, "stream", entry, fields, before=before))

    def _disown(self, owned: Owned) -> None:
        self.owned[owned.consumer] -= 1
        if not self.owned[owned.consumer]:
            del self.owned[owned.consumer]
