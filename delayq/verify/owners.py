"""How long lanes had no owner, by cause: from the terms of leases, and faults. It judges nothing.

A lane has none from when its holder gave the lease back, died, or stalled so long that it lost it,
until the next term begins: the next holder has not handled anything yet then.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from delayq.keys import own_name_of
from delayq.verify.figures import ALL, cause_of
from delayq.verify.history import Fault, Lease, Where


class Owners:
    """The terms of an ordered queue's lanes, one after the other.

    :param faults: in the order of time
    :param server_ms: the server's time less CLOCK_MONOTONIC
    """

    def __init__(self, leases: Sequence[Lease], faults: Sequence[Fault], server_ms: float) -> None:
        self._leases = leases
        self._faults = faults
        self._at_ms = [fault.at_ns / 1e6 + server_ms for fault in faults]

    def without(self) -> dict[str, list[float]]:
        """Tell by cause how long lanes had no owner, ms."""
        found: dict[str, list[float]] = defaultdict(list)
        for before, after in self._successions():
            cause, since_ms = self._ended(before, after)
            found[cause].append(max(0.0, after.since_us / 1000 - since_ms))
        return found

    def _successions(self) -> Iterator[tuple[Lease, Lease]]:
        lanes: dict[Where, list[Lease]] = defaultdict(list)
        for lease in sorted(self._leases, key=lambda lease: lease.since_us):
            lanes[lease.where].append(lease)
        for terms in lanes.values():
            yield from pairwise(terms)

    def _ended(self, before: Lease, after: Lease) -> tuple[str, float]:
        """Tell why a term ended, and until when its holder was there, by the server's ms."""
        until_ms = (before.until_us or after.since_us) / 1000
        met = list(self._met(before, after))
        if before.ended == "released":
            return _given_up(met, until_ms), until_ms
        met = [(fault, at_ms) for fault, at_ms in met if cause_of(fault)]
        if not met:
            return "expired", until_ms
        fault, at_ms = next((each for each in met if each[0].kind == "kill"), met[-1])
        return cause_of(fault), at_ms

    def _met(self, before: Lease, after: Lease) -> Iterator[tuple[Fault, float]]:
        """Yield what befell the server and the holder of a term, until the next one began."""
        name = own_name_of(before.holder).removeprefix(f"{before.queue}.")
        since = bisect_left(self._at_ms, before.since_us / 1000)
        until = bisect_right(self._at_ms, after.since_us / 1000)
        process = ""
        for at in range(since, until):
            fault = self._faults[at]
            if fault.target.rpartition(".")[0] == name:
                # Whoever has that name afterwards is another process.
                process = process or fault.target
            if fault.target in (process, ""):
                yield fault, self._at_ms[at]


def _given_up(met: Sequence[tuple[Fault, float]], until_ms: float) -> str:
    """Tell why a lease was given back, or why nobody took it then."""
    for fault, at_ms in met:
        if at_ms > until_ms and (fault.note == ALL or not fault.target):
            return cause_of(fault)
    stopped = any(fault.kind == "stop" for fault, _ in met)
    return "stop" if stopped else "handover"
