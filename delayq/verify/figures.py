"""What a run measured: failovers by cause, lateness, which fault was when. It judges nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from delayq.verify.history import SLOW, Fault, Handling, Published, Publishing, Recorded, Where

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper bounds of the classes of a histogram; the last class has none."""
_CAUSES = {
    "kill": "kill",
    "stop": "stop",
    "freeze": "freeze",
    "stall": "block",
    "cut": "network",
    "server kill": "server",
    "server stall": "server",
}
ALL = "all"
"""The note of a fault that is done to every consumer at once: nobody is there to take over."""


@dataclass
class Histogram:
    """How often what took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    def add(self, ms: float) -> None:
        """Count a value."""
        self.counts[sum(ms >= bound for bound in BOUNDS_MS)] += 1

    @property
    def total(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass
class Figures:
    """Reads the logs of a run, in the order of time.

    :param server_ms: the server's time less CLOCK_MONOTONIC
    :param ordered: whether one consumer follows another; those that compete do not
    :param lease_ttl_ms: who still handles three of these after a fault has survived it
    """

    server_ms: float
    ordered: bool
    lease_ttl_ms: int
    began_ns: int = 0
    ended_ns: int = 0
    lateness: Histogram = field(default_factory=Histogram)
    """From its due time to the first handling of a message, ms."""
    failovers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By cause: from the fault to the first message that the next holder handled, ms."""
    waits: list[float] = field(default_factory=list)
    """After each death of a server: how long the publish that waited longest was not accepted, ms,
    however often it was tried."""
    faults: list[Fault] = field(default_factory=list)
    _asked_ns: dict[tuple[str, str], int] = field(default_factory=dict)
    """By process and id, of what is not accepted yet."""
    _lanes: dict[Where, "_Held"] = field(default_factory=lambda: defaultdict(_Held))

    def recorded(self, event: Recorded) -> None:
        """Take the next event."""
        self.began_ns = self.began_ns or event.at_ns
        self.ended_ns = event.at_ns
        match event:
            case Fault() if event.kind not in SLOW:
                self.faults.append(event)
                self._blame(event)
                if event.kind == "server kill":
                    self.waits.append(0.0)
            case Handling():
                self._handling(event)
            case Publishing():
                self._asked_ns.setdefault((event.process, event.id), event.at_ns)
            case Published():
                self._accepted(event)

    def at_s(self, server_us: int) -> float:
        """Turn the server's time into seconds since the run began."""
        return (server_us / 1000 - self.server_ms) / 1000 - self.began_ns / 1e9

    def _accepted(self, event: Published) -> None:
        asked_ns = self._asked_ns.pop((event.process, event.id), None)
        if self.waits and asked_ns is not None:
            self.waits[-1] = max(self.waits[-1], (event.at_ns - asked_ns) / 1e6)

    def _blame(self, fault: Fault) -> None:
        cause = cause_of(fault)
        for lane in self._lanes.values():
            if cause and fault.target in (lane.holder, ""):
                lane.blamed = cause, fault.at_ns

    def _handling(self, event: Handling) -> None:
        if event.deliveries == 1 and event.due_ms:
            self.lateness.add(event.at_ns / 1e6 + self.server_ms - event.due_ms)
        lane = self._lanes[event.where]
        if event.epoch > lane.epoch:
            if self.ordered and lane.blamed and lane.holder != event.process:
                cause, since_ns = lane.blamed
                self.failovers[cause].append((event.at_ns - since_ns) / 1e6)
            self._lanes[event.where] = _Held(event.process, event.epoch)
        elif event.epoch == lane.epoch and lane.survived(event.at_ns, self.lease_ttl_ms):
            lane.blamed = None


@dataclass
class _Held:
    """By whom a lane was held when something of it was last handled."""

    holder: str = ""
    epoch: int = 0
    blamed: tuple[str, int] | None = None
    """What may end that, and when it was."""

    def survived(self, at_ns: int, lease_ttl_ms: int) -> bool:
        """Tell whether what is blamed was so long ago that the holder has survived it."""
        return self.blamed is not None and at_ns - self.blamed[1] > 3e6 * lease_ttl_ms


def cause_of(fault: Fault) -> str:
    """Tell as what a fault ends a term of the process that it befalls, or of all; '' if not."""
    cause = _CAUSES.get(fault.kind, "")
    return f"{cause} of all" if fault.note == ALL else cause


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` of `values` do not exceed, by the nearest rank."""
    rank = max(0, -(-len(values) * part // 1) - 1)
    return round(sorted(values)[int(rank)], 1)
