"""What a run came to, for people and for programs."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from delayq.verify.figures import BOUNDS_MS, Figures, Histogram, quantile
from delayq.verify.history import Verdict, Violation
from delayq.verify.owners import Owners
from delayq.verify.settings import VerifySettings

BAR = 40
FREE_MS = 1_000
"""A lane that is free for longer is for any consumer, whatever its share."""
_ELSEWHERE = {"seed", "redis_url", "namespace", "json_verdict", "report", "log_level", "log_format"}
"""Settings that are not part of what is broken."""


@dataclass(frozen=True)
class Outcome:
    """Everything that is told of a run."""

    settings: VerifySettings
    seed: int
    took_s: float
    struck: dict[str, int]
    """How often each fault was done."""
    crashes: tuple[str, ...]
    """Roles and processes that ended by an error of their own."""
    verdict: Verdict
    figures: Figures
    interrupted: bool
    left: int
    """Messages that nobody handled, though nothing was broken any more."""

    @property
    def ok(self) -> bool:
        """Whether every invariant held, and everything was handled in the end."""
        return self.verdict.ok and not self.complaints

    @property
    def replay(self) -> str:
        """The command that breaks the same things again."""
        words = ["python", "-m", "delayq", "verify", "--seed", str(self.seed)]
        for name, field in VerifySettings.model_fields.items():
            value, flag = getattr(self.settings, name), f"--{name.replace('_', '-')}"
            if name in _ELSEWHERE or value == field.default:
                continue
            if value is True:
                words.append(flag)
            else:
                words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
        return shlex.join(words)

    @property
    def failovers(self) -> dict[str, dict[str, float]]:
        """By cause how many there were, and how long they took, ms."""
        return {
            cause: {"count": len(ms), "p50": quantile(ms, 0.5), "p99": quantile(ms, 0.99)}
            for cause, ms in sorted(self.figures.failovers.items())
        }

    @property
    def waits(self) -> dict[str, float]:
        """How often a server died, and how long the publish that waited longest did then, ms."""
        ms = self.figures.waits
        return {"deaths": len(ms), "p50": quantile(ms, 0.5), "max": quantile(ms, 1)} if ms else {}

    @cached_property
    def ownerless(self) -> dict[str, dict[str, float]]:
        """By cause how often a lane had no owner, and for how long, ms.

        `longer` counts those that were longer than a failover may take.
        """
        figures, most_ms = self.figures, self.settings.lease_ttl_ms + FREE_MS
        owners = Owners(self.verdict.leases, figures.faults, figures.server_ms)
        times = owners.without() if figures.ordered else {}
        return {
            cause: {
                "count": len(ms),
                "p50": quantile(ms, 0.5),
                "p99": quantile(ms, 0.99),
                "max": quantile(ms, 1),
                "longer": sum(each > most_ms for each in ms),
            }
            for cause, ms in sorted(times.items())
        }

    def failover_histograms(self) -> Iterator[tuple[str, Histogram]]:
        """Yield by cause how long failovers took."""
        for cause, times_ms in sorted(self.figures.failovers.items()):
            histogram = Histogram()
            for ms in times_ms:
                histogram.add(ms)
            yield cause, histogram

    @property
    def shown(self) -> list[Violation]:
        """For each invariant that did not hold, the violation that the fewest events show."""
        shortest: dict[str, Violation] = {}
        for violation in sorted(self.verdict.violations, key=lambda v: len(v.window)):
            shortest.setdefault(violation.invariant, violation)
        return list(shortest.values())

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be, besides violations of invariants."""
        crashed = [f"crashed: {line}" for line in self.crashes]
        return (
            [*crashed, f"{self.left} messages are left that nobody handles"]
            if self.left
            else crashed
        )

    def as_json(self) -> str:
        """Return it as one JSON object in one line."""
        return json.dumps({"ok": self.ok} | self._findings(), separators=(",", ":"))

    def as_text(self) -> str:
        """Return it as lines for people."""
        found = self._findings()
        lines = [
            f"ran       {found['seconds']} s, {found['per_second']} messages/s, seed {self.seed}",
            f"counts    {_pairs(_of_messages(self.verdict.counts))}",
            f"faults    {found['faults']}: {_pairs(self.struck)}",
            f"terms     {found['terms']} of leases",
            *(f"failover  {cause}: {_pairs(told)}" for cause, told in found["failover_ms"].items()),
            *(f"no owner  {cause}: {_pairs(told)}" for cause, told in self.ownerless.items()),
            *([f"publish   waited longest: {_pairs(self.waits)}"] if self.waits else ()),
            f"lateness  {_pairs(self.verdict.lateness_ms)} ms",
            *_drawn(self.figures.lateness),
            *(f"BUT       {line}" for line in self.complaints),
        ]
        for violation in self.shown:
            lines += ["", f"VIOLATED  {violation.invariant}: {violation.sentence}"]
            lines += [f"          {line}" for line in violation.window]
        if more := self.verdict.counts.get("violations", 0) - len(self.shown):
            lines += ["", f"and {more} more violations"]
        if not self.ok:
            lines += ["", f"again: {self.replay}"]
        return "\n".join([*lines, f"verdict: {'ok' if self.ok else 'NOT OK'}"])

    def _findings(self) -> dict[str, Any]:
        counts, seconds = self.verdict.counts, round(self.took_s, 1)
        return {
            "seed": self.seed,
            "ordering": self.settings.ordering,
            "seconds": seconds,
            "per_second": round(counts.get("handled", 0) / max(0.1, self.took_s)),
            "counts": dict(counts),
            "faults": sum(self.struck.values()),
            "faults_by_kind": dict(sorted(self.struck.items())),
            "terms": len(self.verdict.leases),
            "failover_ms": self.failovers,
            "ownerless_ms": self.ownerless,
            "publish_waited_ms": self.waits,
            "lateness_ms": dict(self.verdict.lateness_ms),
            "complaints": self.complaints,
            "interrupted": self.interrupted,
            "violations": [
                {"invariant": v.invariant, "sentence": v.sentence, "window": list(v.window)}
                for v in self.shown
            ],
            "replay": self.replay,
        }


def _of_messages(counts: Mapping[str, int]) -> dict[str, int]:
    """Leave out the events of the fault log: a fault has several, and is told by its kind."""
    return {name: count for name, count in counts.items() if name != "faults"}


def _pairs(told: Any) -> str:
    return "  ".join(f"{name} {value}" for name, value in told.items()) or "none"


def _drawn(histogram: Histogram) -> list[str]:
    most = max(histogram.counts)
    if not most:
        return []
    last = max(at for at, count in enumerate(histogram.counts) if count)
    labels = [*(f"< {bound} ms" for bound in BOUNDS_MS), f"≥ {BOUNDS_MS[-1]} ms"]
    rows = zip(labels[: last + 1], histogram.counts, strict=False)
    return [f"{label:>12} │{'█' * -(-n * BAR // most)} {n or ''}".rstrip() for label, n in rows]
