"""What was handled, by whom, under which epoch; and the verdict that follows from it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from delayq.distribution import quantile


@dataclass(frozen=True, slots=True)
class Handling:
    """One start of a handler."""

    number: int
    """The number that the producer gave the message."""
    id: str
    entry: tuple[int, int]
    """The message's id in the stream, which tells its place."""
    consumer: str
    epoch: int
    at_s: float
    """Monotonic seconds."""
    late_ms: float
    """After its due time, by the server's clock."""
    early: bool
    """It was made ready before its due time, by the server's clock."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """How one consumer followed another."""

    cause: str
    source: str
    target: str
    epoch: int
    reclaimed: int
    ms: float
    """From the end of the old one to the first message that the new one handled."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a demo found."""

    ok: bool
    findings: dict[str, Any]
    alone: bool = False

    def as_json(self) -> str:
        """Return it as one JSON object in one line."""
        head = {"demo": self.findings["demo"], "ok": self.ok}
        return json.dumps(head | self.findings, separators=(",", ":"))

    def as_text(self) -> str:
        """Return it as lines for people."""
        rows = {k: v for k, v in self.findings.items() if k not in ("demo", "takeovers")}
        # A role alone tells what it saw; what it saw none of may have happened elsewhere.
        said = "  ".join(
            f"{name} {_short(value)}" for name, value in rows.items() if value or not self.alone
        )
        return f"verdict: {'ok' if self.ok else 'NOT OK'}  {said}"


@dataclass
class Report:
    """Everything that a demo recorded."""

    handlings: list[Handling] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    published: int = 0
    ends: int = 0
    """Takeovers that were to be shown."""
    alone: bool = False
    """This process played one role: what others published or handled is not known here."""
    interrupted: bool = False
    """A signal ended the demo."""
    remaining: int = 0
    """Messages still in Redis when a signal ended the demo; at its own end there are none left."""

    @property
    def handled(self) -> int:
        """Messages handled at least once."""
        return len({handling.id for handling in self.handlings})

    @property
    def lost(self) -> int:
        """Messages that were published and not handled, and not left when a signal came."""
        return 0 if self.alone else max(0, self.published - self.handled - self.remaining)

    @property
    def duplicates(self) -> int:
        """How often a message was handled again."""
        return len(self.handlings) - self.handled

    @property
    def early(self) -> int:
        """Messages made ready before their due time."""
        return sum(handling.early for handling in self.handlings)

    @property
    def out_of_order(self) -> int:
        """Messages that an earlier one followed: over all consumers, and within each one's term.

        A message that is handled again, after a death, does not count against the first rule.
        """
        first_starts = list(dict.fromkeys(handling.entry for handling in self.handlings))
        epochs = {handling.epoch for handling in self.handlings}
        terms = [[h.entry for h in self.handlings if h.epoch == epoch] for epoch in epochs]
        return max(_descents(first_starts), sum(_descents(term) for term in terms))

    def delay_verdict(self, delayed: set[str], corrected: int) -> Verdict:
        """Judge the delay demo, in which the messages `delayed` were corrupted."""
        late = self.lateness_ms(delayed)
        clean = self.alone or not (self.lost or self.duplicates)
        complete = self.alone or self.interrupted or len(delayed) == corrected
        return self._verdict(
            clean and complete and not self.early,
            {
                "demo": "delay",
                "published": self.published,
                "corrupted": len(delayed),
                "corrected": corrected,
                "handled": self.handled,
                "lost": self.lost,
                "duplicates": self.duplicates,
                "early": self.early,
                "lateness_ms": {
                    "p50": quantile(late, 0.5),
                    "p99": quantile(late, 0.99),
                    "max": quantile(late, 1),
                },
            },
        )

    def lateness_ms(self, delayed: set[str]) -> list[float]:
        """Return how late each delayed message was handled."""
        return [handling.late_ms for handling in self.handlings if handling.id in delayed]

    def failover_verdict(self, refused: int, *, acknowledged: bool) -> Verdict:
        """Judge the failover demo.

        Acknowledged, a message may be handled again only once for each kill or stall. If nothing is
        acknowledged, each consumer has to begin with the first message.
        """
        causes = Counter(takeover.cause for takeover in self.takeovers)
        if acknowledged:
            as_expected = self.duplicates <= causes["kill"] + causes["stall"]
        else:
            firsts = {h.epoch: h.entry for h in reversed(self.handlings)}
            as_expected = len(set(firsts.values())) <= 1
        complete = self.interrupted or len(self.takeovers) == self.ends
        takeovers = [asdict(takeover) for takeover in self.takeovers]
        return self._verdict(
            (self.alone or (as_expected and complete)) and not (self.lost or self.out_of_order),
            {
                "demo": "failover",
                "published": self.published,
                "handled": self.handled,
                "lost": self.lost,
                "duplicates": self.duplicates,
                "out_of_order": self.out_of_order,
                "refused": refused,
                "takeovers": [
                    {"from": t.pop("source"), "to": t.pop("target")} | t for t in takeovers
                ],
            },
        )

    def _verdict(self, ok: bool, findings: dict[str, Any]) -> Verdict:  # noqa: FBT001
        if self.interrupted and not self.alone:
            findings |= {"interrupted": True, "left": self.remaining}
        return Verdict(ok, findings, self.alone)


def _descents(places: Sequence[tuple[int, int]]) -> int:
    return sum(later < earlier for earlier, later in pairwise(places))


def _short(value: object) -> str:
    if isinstance(value, dict):
        known = (f"{name} {part}" for name, part in value.items() if part is not None)
        return "/".join(known) or "unknown"
    return str(value)
