"""Pass 2, I3: what was handled again, and what was handled at the same time.

Proved, for each time that a message was handled after the first:

- Its handler raised the time before (the retry policy), or an operator had it delivered anew;
- or the term under which it was handled before did not end by a release: it expired, or was taken
  over; and a fault tells why; and there are no more of these for that term than a consumer has in
  flight. So a graceful stop makes none.
- Its deliveries are more than before.

And for handlers: in an ordered queue none runs under an epoch while another runs, or ran, under a
newer one; where consumers compete, the same of one message; unless a fault stalled the process of
the older. The same holds for a `check()` that passed.

Where a server may forget what it accepted, what was handled before it died, and again after, is
counted apart.

Assumed: whoever kills, stops or freezes a process writes that to the fault log *before*; a process
that notices that it was stalled writes that itself, with `ms`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from delayq.verify.fates import Fates
from delayq.verify.history import (
    SLOW,
    Checked,
    Fault,
    Handled,
    Handling,
    Lease,
    Recorded,
    Terms,
    Where,
)
from delayq.verify.processes import told
from delayq.verify.step import Finding

BEFORE_NS = 1_000_000_000
"""How long before the first handling of a term a fault may be that ends it."""
_STALLS = {"freeze", "thaw", "stall", "slow", "server stall"}
_NOTICED = {"stall", *SLOW}
_ENDS = _STALLS | {"server slow", "kill", "cut", "lost", "server kill", "server start", "foreign"}


@dataclass(slots=True)
class Run:
    """One call of a handler."""

    began: Handling
    how: str = ""
    """Of `Handled`; '' while it runs, or if its process was killed in it."""


class Repeats:
    """Judges what was handled again, an event at a time."""

    def __init__(self, terms: Terms, fates: Mapping[Where, Fates]) -> None:
        self.counts: Counter[str] = Counter()
        self._terms = terms
        self._fates = fates
        self._forgetful = not terms.durable
        self._stalls = _STALLS | {"server kill"} if self._forgetful else _STALLS
        self._last: dict[tuple[Where, str], Run] = {}
        self._running: dict[Where, dict[tuple[str, str], Run]] = {}
        self._again: list[tuple[Run, Handling]] = []
        self._beside: list[tuple[Handling, Recorded]] = []
        self._newest: dict[Where, Handling] = {}
        """For each lane of an ordered queue the first handling of its newest epoch."""
        self._terms_began: dict[tuple[Where, int], int] = {}
        self._faults: dict[str, list[Fault]] = {}
        self._killed: set[str] = set()
        """Processes whose kill was logged; the signal may come a little later."""

    def take(self, event: Recorded) -> None:
        """Take the next event, in the order of time."""
        match event:
            case Handling():
                self._begins(event)
            case Handled():
                if run := self._running.get(event.where, {}).pop((event.process, event.id), None):
                    run.how = event.how
            case Checked(passed=True):
                newest = self._newest.get(event.where)
                if newest and newest.epoch > event.epoch:
                    self._beside.append((newest, event))
            case Fault():
                target = "" if event.kind.startswith("server") else event.target
                self._faults.setdefault(target, []).append(event)
                if event.kind == "kill":
                    self._kill(event.target)

    def _begins(self, event: Handling) -> None:
        self._terms_began.setdefault((event.where, event.epoch), event.at_ns)
        if before := self._last.get((event.where, event.id)):
            self._again.append((before, event))
        running = self._running.setdefault(event.where, {})
        if self._ordered(event.queue):
            newest = self._newest.setdefault(event.where, event)
            if newest.epoch > event.epoch:
                self._beside.append((newest, event))
            elif newest.epoch < event.epoch:
                self._newest[event.where] = event
        for other in (run.began for run in running.values()):
            same = other.entry == event.entry or self._ordered(event.queue)
            if same and other.epoch != event.epoch:
                self._beside.append((event, other))
        run = self._last[event.where, event.id] = Run(event)
        if event.process not in self._killed:
            running[event.process, event.id] = run

    def _ordered(self, queue: str) -> bool:
        return queue in self._terms.queues and self._terms.queues[queue].ordering != "none"

    def _kill(self, process: str) -> None:
        """End what runs there; what it begins before the signal comes ends with it, and soon."""
        self._killed.add(process)
        for running in self._running.values():
            for key in [key for key in running if key[0] == process]:
                del running[key]

    # -- at the end --

    def judge(self, leases: Mapping[tuple[Where, int], Lease]) -> Iterator[Finding]:
        """Judge what was found.

        :param leases: by lane and epoch
        """
        extra: Counter[tuple[Where, int]] = Counter()
        for before, event in self._again:
            fate = (
                self._fates[event.where].by_id.get(event.id) if event.where in self._fates else None
            )
            if fate and (fate.foreign or fate.restarted):
                continue
            if self._forgetful and self._forgotten(before, event):
                self.counts["extra_with_server"] += 1
                continue
            # In the order of deliveries: who was stalled may handle what it had after its heir did.
            older, newer = sorted((before.began, event), key=lambda handling: handling.deliveries)
            lease = leases.get((event.where, older.epoch))
            yield from self._explained(older, newer, lease, raised=before.how == "raised")
            if before.how != "raised":
                extra[event.where, older.epoch] += 1
        self.counts["extra"] = extra.total()
        for ((queue, _), epoch), count in extra.items():
            most = self._terms.queues[queue].in_flight if queue in self._terms.queues else 1
            self.counts["extra_allowed"] += most
            if count > most:
                said = (
                    f"{count} messages of epoch {epoch} were handled again, {most} were in flight"
                )
                yield Finding("I3", said)
        yield from self._overlaps()

    def _explained(
        self, older: Handling, newer: Handling, lease: Lease | None, *, raised: bool
    ) -> Iterator[Finding]:
        shows = ((newer.id,), (told(older), *self._told_faults(older, newer), told(newer)))
        if newer.deliveries == older.deliveries:
            said = f"{newer.id} was handled twice as delivery {newer.deliveries}"
            yield Finding("I3", said, *shows)
        if raised:
            return
        said = f"{newer.id} was handled again, and"
        if older.epoch == newer.epoch:
            yield Finding("I3", f"{said} its consumer held the lease all the time", *shows)
        elif lease is None or not lease.ended or lease.ended == "released":
            how = "gave its lease back" if lease and lease.ended else "did not lose its lease"
            yield Finding("I3", f"{said} {older.consumer} {how}", *shows)
        elif not self._faulty(older, newer, _ENDS):
            yield Finding(
                "I3", f"{said} no fault tells why {older.consumer} lost its lease", *shows
            )

    def _forgotten(self, before: Run, event: Handling) -> bool:
        """Tell whether a server died in between, and may have forgotten that it was settled."""
        since_ns = before.began.at_ns
        faults = self._faults.get("", ())
        return any(f.kind == "server kill" and since_ns <= f.at_ns <= event.at_ns for f in faults)

    def _delivered_anew(self, one: Handling, other: Recorded) -> bool:
        """Tell whether another program destroyed the group, so that what was in hand came again."""
        if not isinstance(other, Handling) or self._ordered(one.queue):
            return False
        fates = self._fates.get(one.where)
        fate = fates.by_id.get(one.id) if fates else None
        return fate is not None and fate.restarted

    def _overlaps(self) -> Iterator[Finding]:
        for newer, older in self._beside:
            self.counts["overlaps"] += 1
            if self._delivered_anew(newer, older):
                continue
            if not self._faulty(older, newer if newer.at_ns > older.at_ns else older, self._stalls):
                epoch = older.epoch if isinstance(older, Handling | Checked) else 0
                did = "passed a check" if isinstance(older, Checked) else "handled a message"
                said = f"{older.process} {did} under epoch {epoch} beside {newer.process}"
                lines = sorted((older, newer), key=lambda event: event.at_ns)
                why = f"{said} under {newer.epoch}, and no stall tells why"
                yield Finding("I3", why, (), tuple(map(told, lines)))

    def _faulty(self, older: Recorded, until: Recorded, kinds: set[str]) -> bool:
        """Tell whether a fault of these kinds befell a process, or the server, in its term."""
        return any(fault.kind in kinds for fault in self._between(older, until))

    def _between(self, older: Recorded, until: Recorded) -> Iterator[Fault]:
        since_ns = older.at_ns
        if isinstance(older, Handling | Checked):
            since_ns = self._terms_began.get((older.where, older.epoch), since_ns) - BEFORE_NS
        for fault in (*self._faults.get(older.process, ()), *self._faults.get("", ())):
            # What is noticed is told when it is over; what is done, before.
            lasts_ns = fault.ms * 1_000_000
            began_ns = fault.at_ns - lasts_ns * (fault.kind in _NOTICED)
            ended_ns = fault.at_ns + lasts_ns * (fault.kind not in SLOW)
            if since_ns <= ended_ns and began_ns <= until.at_ns:
                yield fault

    def _told_faults(self, older: Recorded, until: Recorded) -> tuple[str, ...]:
        return tuple(told(fault) for fault in self._between(older, until))
