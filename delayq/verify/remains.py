"""Pass 3: what is left in Redis, against what the audit says must be.

Proved: the stream, its pending list, the schedule, its bodies and the dead letters hold exactly
what the replayed audit says, so nothing changed them that is not in it, and each live message is in
exactly one place (I1). What is left besides ends by itself, or is the lane's last epoch or tick
(I6). After a run that was drained only dead letters are left, and the empty stream with its group.

Assumed: everything had ended when the keys were read.
"""

from collections.abc import Iterator, Mapping

from delayq.keys import registry
from delayq.verify.history import Found, Terms
from delayq.verify.lane import Lane
from delayq.verify.step import Finding

_FADE = {"recent", "dedup", "bell", "vacancy", "standby", "members", "survey"}
_STAY = {"epoch", "ticked"}
_WAIT = {"parked", "halted"}
_HOLD = {"stream", "schedule", "bodies", "dead", "arrival"}


class Remains:
    """Judges the keys that are left, one at a time."""

    def __init__(self, terms: Terms, lanes: Mapping[str, Lane]) -> None:
        self.drained = True
        """Whether everything was handled in the end: then nothing may be left."""
        self._terms = terms
        self._lanes = lanes
        """By the prefix of their keys."""
        self._seen: set[str] = set()

    def take(self, found: Found) -> Iterator[Finding]:
        """Take the next key."""
        self._seen.add(found.key)
        if found.key == registry(self._terms.namespace):
            return
        prefix, tag, part = found.key.partition("}:")
        lane = self._lanes.get(prefix + tag)
        if lane is None:
            yield Finding("I6", f"{found.key}: a key of no lane that the audit knows")
        elif part in _HOLD:
            yield from _compared(found.key, _content(part, found), _wanted(lane, part))
            if part == "stream":
                owned = {e: (o.consumer, o.deliveries) for e, o in lane.pending.items()}
                yield from _compared(f"{found.key}, pending", dict(found.pending), owned)
            if self.drained and part not in {"stream", "dead"}:
                yield Finding("I6", f"{found.key} is left, though all was drained")
        elif part in _FADE or part.startswith("lease"):
            if not found.expires:
                yield Finding("I6", f"{found.key} is left, and does not end by itself")
        elif part in _WAIT and (self.drained or part not in lane.others):
            yield Finding("I6", f"{found.key} is left")
        elif part not in _STAY | _WAIT:
            yield Finding("I6", f"{found.key}: a key that nobody knows")

    def judge(self) -> Iterator[Finding]:
        """Judge what was not found."""
        for prefix, lane in self._lanes.items():
            for part in sorted(_HOLD):
                key = f"{prefix}{part}"
                if key not in self._seen and _wanted(lane, part):
                    yield Finding("I1", f"{key} is not there, and should hold messages")
            if self.drained and (lane.stream or lane.schedule):
                left = len(lane.stream) + len(lane.schedule)
                yield Finding("I6", f"{prefix}: {left} messages are left, though all was drained")


def _content(part: str, found: Found) -> object:
    if part in {"stream", "dead"}:
        return {entry for entry, _ in found.content}
    if part == "schedule":
        return {member: float(score) for member, score in found.content.items()}
    return set(found.content) if part == "bodies" else found.content


def _wanted(lane: Lane, part: str) -> object:
    match part:
        case "stream":
            return set(lane.stream)
        case "dead":
            return set(lane.dead)
        case "schedule":
            return lane.schedule
        case "bodies":
            return set(lane.bodies)
    return str(lane.arrival) if lane.arrival else None


def _compared(where: str, found: object, wanted: object) -> Iterator[Finding]:
    if found != wanted:
        said = f"{where}: {_short(found)} is there, {_short(wanted)} should be"
        yield Finding("I1", said)


def _short(content: object) -> str:
    if isinstance(content, set | dict):
        listed = ", ".join(map(str, sorted(content)[:5]))
        return f"{len(content)} ({listed}{', …' if len(content) > 5 else ''})"
    return str(content)
