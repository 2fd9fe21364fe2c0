"""The checker: takes a history, and tells whether the invariants held.

    audit ──▶ Lane, a model ──▶ Moves · Order · Acks · Holding    pass 1, a call at a time
                  │  └───────▶ Leases · Fates, what became of each message
    logs ─────────┼──────────▶ Processes · Repeats                pass 2, an event at a time
    keys left ────┴──────────▶ Remains                            pass 3, a key at a time

Feed it in this order: every `Audited` of each lane, in the order of the lane's audit stream; then
what the logs hold, merged by time; then what was found in Redis. It may be fed the audit while the
run goes on, and the audit be trimmed behind it. Each module says what it proves, and what it
assumes. The work is linear in the history, but for heaps whose size is what is live.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from delayq.keys import LaneKeys
from delayq.verify.acks import Acks
from delayq.verify.fates import Fates
from delayq.verify.history import (
    Audited,
    Declared,
    Found,
    Lease,
    Recorded,
    Terms,
    Verdict,
    Violation,
    Where,
)
from delayq.verify.holding import Holding
from delayq.verify.lane import Lane
from delayq.verify.leases import Leases
from delayq.verify.moves import Moves
from delayq.verify.order import Order
from delayq.verify.processes import Processes
from delayq.verify.remains import Remains
from delayq.verify.repeats import Repeats
from delayq.verify.step import Finding

COUNTS = (
    *("published", "unsure", "publish_refused", "duplicates_refused", "accepted", "promoted"),
    *("delivered", "handled", "retried", "redriven", "acked", "dead", "cancelled", "foreign"),
    *("live", "lost", "lost_with_server", "phantom", "extra", "extra_allowed"),
    *("extra_with_server", "overlaps"),
    *("refused", "failed", "faults", "violations"),
)
MOST = 50
"""Violations told of at most; all are counted."""


class LaneChecker:
    """Pass 1 of one lane."""

    def __init__(self, prefix: str, declared: Declared) -> None:
        self.lane = Lane(prefix)
        self.fates = Fates()
        self.leases = Leases(prefix)
        self._rules = (
            Moves(self.lane, declared),
            Order(declared),
            Acks(self.lane, declared),
            Holding(self.lane),
            self.leases,
        )

    def take(self, call: Audited) -> Iterator[Finding]:
        """Take the next call."""
        step = self.lane.step(call)
        yield from self.fates.take(call, step)
        for said in step.odd:
            yield Finding("audit", f"{call.script}: {said}", tuple(step.before))
        for rule in self._rules:
            yield from rule.judge(call, step)


class Checker:
    """Judges one run."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._lanes: dict[str, LaneChecker] = {}
        self._fates: dict[Where, Fates] = {}
        self._processes = Processes(terms, self._fates)
        self._repeats = Repeats(terms, self._fates)
        self._models: dict[str, Lane] = {}
        self._remains = Remains(terms, self._models)
        self._looked = False
        self.violations: list[Violation] = []
        """Those found up to now; of many the first."""
        self._counts: Counter[str] = Counter()

    def audited(self, call: Audited) -> None:
        """Take the next call of a lane's audit."""
        lane = self._lane(call)
        self._note(lane.take(call), _told(call))

    def recorded(self, event: Recorded) -> None:
        """Take the next event of the logs, in the order of time, after the whole audit."""
        self._repeats.take(event)
        self._note(self._processes.take(event))

    def found(self, key: Found, *, drained: bool = True) -> None:
        """Take a key that is left in Redis, after everything else.

        :param drained: whether everything was handled in the end: then nothing may be left
        """
        self._looked = True
        self._remains.drained = drained
        self._note(self._remains.take(key))

    def verdict(self) -> Verdict:
        """Judge what was taken. To be called once, at the end."""
        leases = [lease for lane in self._lanes.values() for lease in lane.leases.all()]
        self._note(self._processes.judge())
        self._note(self._repeats.judge({(lease.where, lease.epoch): lease for lease in leases}))
        if self._looked:
            self._note(self._remains.judge())
        return Verdict(
            self._total(),
            tuple(leases),
            self._lateness_ms(),
            tuple(self.violations),
        )

    def _lane(self, call: Audited) -> LaneChecker:
        keys = LaneKeys(self._terms.namespace, call.queue, call.lane)
        prefix = keys.stream.removesuffix("stream")
        if prefix not in self._lanes:
            declared = self._terms.queues.get(call.queue) or Declared(call.queue, "none")
            self._lanes[prefix] = lane = LaneChecker(prefix, declared)
            self._models[prefix] = lane.lane
            self._fates[call.where] = lane.fates
        return self._lanes[prefix]

    def _note(self, findings: Iterable[Finding], *shows: str) -> None:
        for finding in findings:
            self._counts["violations"] += 1
            if len(self.violations) < MOST:
                window = self._window(finding, shows)
                self.violations.append(Violation(finding.invariant, finding.sentence, window))

    def _window(self, finding: Finding, shows: tuple[str, ...]) -> tuple[str, ...]:
        moves = [
            line
            for message_id in finding.ids
            for fates in self._fates.values()
            if message_id in fates.by_id
            for line in fates.by_id[message_id].trail(message_id)
        ]
        terms = [_told_lease(e) for c in self._lanes.values() for e in c.leases.ended[-2:]]
        return (*(terms if finding.invariant == "I5" else ()), *moves, *finding.events, *shows)

    def _total(self) -> dict[str, int]:
        counts = self._counts + self._processes.counts + self._repeats.counts
        for lane in self._lanes.values():
            counts += lane.fates.counts
            counts["live"] += len(lane.lane.stream) + len(lane.lane.schedule)
        return {name: counts[name] for name in COUNTS}

    def _lateness_ms(self) -> dict[str, float]:
        late = sorted(us / 1000 for lane in self._lanes.values() for us in lane.fates.late_us)
        if not late:
            return {}
        places = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {name: late[round(place * (len(late) - 1))] for name, place in places.items()}


def _told(call: Audited) -> str:
    under = "" if call.epoch is None else f" under epoch {call.epoch}"
    said = f", answered {call.refusal}" if call.refusal else ""
    return f"{call.at} {call.script}{under}: {len(call.writes)} writes{said}"


def _told_lease(lease: Lease) -> str:
    return f"{lease.key}: {lease.holder} from {lease.since_us} to {lease.until_us}, {lease.ended}"
