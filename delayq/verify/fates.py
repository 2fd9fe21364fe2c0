"""What became of each message, as the audit has it: the link between pass 1 and pass 2.

Here is the one thing whose size grows with the run, and not with what is live: a record of a few
hundred bytes for each message that was ever accepted, as processes may tell of it much later.

Proved on the way, I7: an id is accepted once, while it is known: while its message is scheduled,
and for `KNOWN_MS` after it was first due.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from delayq.verify.history import FOREIGN, Audited
from delayq.verify.message import place_of
from delayq.verify.step import Change, Finding, State, Step

KNOWN_MS = 60_000
TRAIL = 8
"""How many of a message's last moves are told of it."""

End = Literal["live", "acked", "dead", "cancelled", "lost", "foreign"]
_REMOVE = {"cancel", "purge_scheduled", "purge_ready", "purge_dead"}
_COUNTED: dict[tuple[State, State], str] = {
    ("scheduled", "ready"): "promoted",
    ("pending", "scheduled"): "retried",
    ("pending", "dead"): "dead",
    ("scheduled", "dead"): "dead",
    ("dead", "scheduled"): "redriven",
}


@dataclass(slots=True)
class Fate:
    """What became of one message."""

    end: End = "live"
    accepted_us: int = 0
    due_ms: int = 0
    """Of the first time that it was accepted."""
    key: str | None = None
    acked_by: int | None = None
    """The epoch."""
    reason: str = ""
    """Why it is dead."""
    foreign: bool = False
    """Another program touched it."""
    restarted: bool = False
    """It is delivered anew, its deliveries forgotten: an operator said so, or another program
    destroyed the group."""
    moves: list[tuple[str, str, int | None, State, State]] = field(default_factory=list)
    succeeded: set[int] = field(default_factory=set)
    """Epochs under which a handler returned. For pass 2."""
    raised: bool = False
    """Whether a handler raised. For pass 2."""

    def trail(self, message_id: str) -> Iterator[str]:
        """Tell its last moves."""
        for at, script, epoch, before, after in self.moves:
            under = "" if epoch is None else f" under epoch {epoch}"
            yield f"{at} {script}{under}: {message_id} {before} → {after}"


class Fates:
    """What became of the messages of one lane."""

    def __init__(self) -> None:
        self.by_id: dict[str, Fate] = {}
        self.delivered: set[tuple[str, int, int]] = set()
        """Entry, epoch and deliveries of each delivery."""
        self.counts: Counter[str] = Counter()
        self.late_us: array[int] = array("q")
        """Of first deliveries."""

    def take(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Take one call."""
        self.counts["refused" if not call.writes else "failed"] += call.refusal is not None
        for change in step.changes:
            if change.what == "delivered" and change.owned and call.epoch is not None:
                self._deliver(call, change)
        for message_id, before in step.before.items():
            after = step.after[message_id]
            fate = self.by_id.setdefault(message_id, Fate())
            if before != after:
                self.counts[_COUNTED.get((before, after), "")] += 1
                fate.moves = [
                    *fate.moves[1 - TRAIL :],
                    (call.at, call.script, call.epoch, before, after),
                ]
            if before == "absent" != after:
                yield from self._accept(call, step, message_id, fate)
            elif after == "absent" != before:
                self._end(call, fate, before)
            else:
                fate.end = "dead" if after == "dead" else "live"
            if call.script == FOREIGN and (before, after) != ("pending", "ready"):
                fate.foreign = True
            elif call.script in {FOREIGN, "redrive", "resume"}:
                fate.restarted = True
        self._bury(step)

    def _deliver(self, call: Audited, change: Change) -> None:
        assert change.owned and call.epoch is not None  # noqa: S101 - asked by the caller
        deliveries = change.fields.deliveries + change.owned.deliveries
        self.delivered.add((change.at, call.epoch, deliveries))
        self.counts["delivered"] += 1
        if change.fresh and deliveries == 1:
            due_ms = change.fields.due_ms
            due_ms = place_of(change.at)[0] if due_ms is None else due_ms
            self.late_us.append(call.now_us - due_ms * 1000)

    def _accept(self, call: Audited, step: Step, message_id: str, fate: Fate) -> Iterator[Finding]:
        known = fate.accepted_us and fate.end != "cancelled" and not fate.foreign
        if known and call.script != FOREIGN and call.now_us < (fate.due_ms + KNOWN_MS) * 1000:
            yield Finding("I7", f"{message_id} was accepted twice", (message_id,))
        self.counts["accepted"] += call.script != FOREIGN
        fields = next(
            c.fields for c in step.changes if c.what == "added" and c.fields.id == message_id
        )
        fate.end, fate.accepted_us, fate.key = "live", call.now_us, fields.key
        fate.due_ms = call.now_us // 1000 if fields.due_ms is None else fields.due_ms

    def _end(self, call: Audited, fate: Fate, before: State) -> None:
        if call.script == FOREIGN:
            fate.end = "foreign"
        elif call.script in _REMOVE:
            fate.end = "cancelled"
        elif before == "pending" or fate.restarted:
            fate.end, fate.acked_by = "acked", call.epoch
        else:
            fate.end = "lost"
        self.counts[fate.end] += 1

    def _bury(self, step: Step) -> None:
        for change in step.changes:
            if change.what == "added" and change.place == "dead":
                words = dict(zip(change.words[::2], change.words[1::2], strict=False))
                self.by_id[change.fields.id].reason = words.get("reason", "")
