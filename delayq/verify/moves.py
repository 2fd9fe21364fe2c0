"""Pass 1, each message: where it may go, when, and with what.

Proved, for each call of a script, from what it wrote:

- I1: a message is in exactly one place before and after, in at least one at every moment between,
  and goes only where this script may send it; its body and its key stay what they are, and its
  deliveries are counted by one at a time and forgotten by nobody.
- A message that is pending for one consumer is delivered to another only after it was reclaimed.
- I2: it is neither made ready nor delivered before it is due, by the server's clock.
- I6: what is acknowledged leaves Redis; the schedule has a body for each message, and no other.
- Dead letters are made for a reason that the queue's policy knows.

Assumed: a script's name, as the audit has it, says what it was called for. Messages that another
program touched are theirs: they are not judged from then on.
"""

from collections.abc import Iterator

from delayq.verify.history import FOREIGN, Audited, Declared
from delayq.verify.lane import Lane
from delayq.verify.step import Change, Finding, State, Step

Edges = set[tuple[State, State]]
_PROMOTED: Edges = {("scheduled", "ready"), ("scheduled", "dead")}
_SETTLED: Edges = {("pending", "absent")}
_KEPT: Edges = {("pending", "pending")}
EDGES: dict[str, Edges] = {
    "publish": {("absent", "scheduled"), ("absent", "ready"), *_PROMOTED},
    "publish_one": {("absent", "ready")},
    "tick": {("absent", "scheduled")},
    "promote": _PROMOTED,
    "promote_as": _PROMOTED,
    "reschedule": {("scheduled", "scheduled")},
    "fetch": {("ready", "pending"), *_KEPT, *_SETTLED},
    "redeliver": _KEPT,
    "give_back": _KEPT,
    "reclaim": _KEPT,
    "inherit": _KEPT,
    "resume": {("pending", "dead"), *_KEPT},
    "ack": _SETTLED,
    "retry": {("pending", "scheduled")},
    "park": {("pending", "scheduled")},
    "dead_letter": {("pending", "dead")},
    "redrive": {("dead", "scheduled")},
    "cancel": {("scheduled", "absent")},
    "purge_scheduled": {("scheduled", "absent")},
    "purge_ready": {("ready", "absent")},
    "purge_dead": {("dead", "absent")},
}
"""From where to where each script may move a message."""

COUNTED = {
    "fetch": {0, 1},  # 0: the same call again, after a lost reply; or it is held back
    "redeliver": {0, 1},
    "give_back": {-1},
    "reclaim": {0},
    "inherit": {0},
}
"""By how much each script may change a pending message's deliveries; others may not at all."""
REASONS = {"malformed", "max deliveries", "rejected", "never retried", "failed"}


class Moves:
    """Judges the moves of a lane's messages."""

    def __init__(self, lane: Lane, declared: Declared) -> None:
        self._lane = lane
        self._declared = declared
        self._foreign: set[str] = set()
        self._strangers: set[str] = set()
        """Consumers that are none of ours."""
        self._orphans = 0

    def judge(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge one call."""
        if call.script == FOREIGN:
            self._foreign |= step.before.keys()
            self._strangers |= {c.owned.consumer for c in step.changes if c.owned}
            self._orphans = self._count_orphans()
            return
        now_ms = call.now_us // 1000
        settled = {change.fields.id for change in step.changes if change.what == "settled"}
        for message_id in step.before.keys() - self._foreign:
            yield from self._edge(call, step, message_id, settled)
        for change in step.changes:
            if change.fields.id not in self._foreign:
                yield from self._early(change, now_ms)
                yield from self._owned(call, change)
        yield from self._counted(call, step)
        yield from self._kept(call, step)
        yield from self._orphaned()
        self._foreign -= {i for i in step.before if step.after[i] == "absent"}

    def _edge(
        self, call: Audited, step: Step, message_id: str, settled: set[str]
    ) -> Iterator[Finding]:
        before, after = step.before[message_id], step.after[message_id]
        if after == "doubled" and before != "doubled":
            yield Finding("I1", f"{message_id} is in two places after {call.script}", (message_id,))
        elif after == "read" and before != "read":
            said = f"{message_id} is in the stream after {call.script}, and is not delivered again"
            yield Finding("I6" if message_id in settled else "I1", said, (message_id,))
        elif before != after and (before, after) not in EDGES.get(call.script, ()):
            said = f"{call.script} may not move {message_id} from {before} to {after}"
            yield Finding("I1", said, (message_id,))
        elif (before, after) == ("pending", "absent") and message_id not in settled:
            said = f"{message_id} left Redis by {call.script}, and was not acknowledged"
            yield Finding("I1", said, (message_id,))
        if message_id in step.nowhere:
            said = f"{call.script} took {message_id} out before it was elsewhere: half done, lost"
            yield Finding("I1", said, (message_id,))

    def _early(self, change: Change, now_ms: int) -> Iterator[Finding]:
        due_ms, message_id = change.fields.due_ms, change.fields.id
        arrives = change.place == "stream" and change.what in {"added", "delivered"}
        if arrives and due_ms is not None and due_ms > now_ms:
            did = "made ready" if change.what == "added" else "delivered"
            yield Finding("I2", f"{message_id} was {did} {due_ms - now_ms} ms early", (message_id,))

    def _counted(self, call: Audited, step: Step) -> Iterator[Finding]:
        first = {c.at: c for c in reversed(step.changes) if c.owned}
        last = {c.at: c.owned for c in step.changes if c.owned}
        for entry, now in last.items():
            before, message_id = first[entry].before, first[entry].fields.id
            by = now.deliveries - (before.deliveries if before else 0)
            reset = call.script == "resume" and now.deliveries == 0
            if message_id in self._foreign or reset or by in COUNTED.get(call.script, {0}):
                continue
            said = f"{call.script} took the deliveries of {message_id}"
            counts = f"from {before.deliveries if before else 0} to {now.deliveries}"
            yield Finding("I1", f"{said} {counts}", (message_id,))

    def _owned(self, call: Audited, change: Change) -> Iterator[Finding]:
        now, before = change.owned, change.before
        if now is None or before is None or before.consumer in self._strangers:
            return
        if change.what == "delivered" and now.consumer != before.consumer:
            said = f"{change.fields.id} was delivered to {now.consumer} by {call.script}"
            mine = f"while it was pending for {before.consumer}, and not reclaimed"
            yield Finding("I1", f"{said} {mine}", (change.fields.id,))

    def _kept(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge what a message that moved takes along."""
        was = {c.fields.id: c for c in step.changes if c.what == "removed"}
        counts = {c.fields.id: c.before.deliveries for c in step.changes if c.before}
        for to in step.changes:
            message_id = to.fields.id
            if to.what != "added" or message_id in self._foreign or message_id not in was:
                continue
            old, new = was[message_id].fields, to.fields
            due = to.place == "stream" and new.due_ms != old.due_ms
            body = new.body != old.body and call.script != "promote_as"
            if due or new.key != old.key or (body and not self._is_raw(to)):
                what = "due time" if due else "key" if new.key != old.key else "body"
                yield Finding(
                    "I1", f"{call.script} changed the {what} of {message_id}", (message_id,)
                )
            count = counts.get(message_id, 0)
            if to.place == "dead":
                yield from self._policy(call, to, old.deliveries + count)
            elif call.script != "redrive" and not self._adds_up(old.deliveries, count, to):
                said = f"{call.script} wrote {new.deliveries} deliveries of {message_id}"
                had = f"which had {old.deliveries + count}"
                yield Finding("I1", f"{said}, {had}", (message_id,))

    @staticmethod
    def _is_raw(to: Change) -> bool:
        return to.place == "dead" and to.fields.body is None

    @staticmethod
    def _adds_up(base: int, count: int, to: Change) -> bool:
        return to.fields.deliveries in {base, base + count}

    def _policy(self, call: Audited, letter: Change, had: int) -> Iterator[Finding]:
        words = dict(zip(letter.words[::2], letter.words[1::2], strict=False))
        reason, most = words.get("reason"), self._declared.max_deliveries
        told, message_id = letter.fields.deliveries, letter.fields.id
        said = f"{message_id} died of {reason!r}"
        if told != had:
            said = f"the dead letter of {message_id} tells of {told} deliveries, it had {had}"
        elif call.script == "resume" or (
            reason in REASONS
            and (reason != "malformed" or letter.fields.body is None)
            and (reason != "max deliveries" or (most is not None and had >= most))
            and (reason != "failed" or self._declared.on_failure == "dead_letter")
        ):
            return
        else:
            said += f" after {had} deliveries, where {most} are the most"
        yield Finding("I1", said, (message_id,))

    def _orphaned(self) -> Iterator[Finding]:
        orphans = self._count_orphans()
        if orphans != self._orphans:
            said = f"{len(self._lane.bodies)} bodies for {len(self._lane.schedule)} scheduled"
            yield Finding("I6", f"a body without a message, or the reverse: {said}", ())
        elif not self._lane.schedule and self._lane.arrival:
            yield Finding("I6", "the arrival number is left, and nothing is scheduled", ())
        self._orphans = orphans

    def _count_orphans(self) -> int:
        return len(self._lane.bodies) - len(self._lane.schedule)
