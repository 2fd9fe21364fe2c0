"""The course that each peer runs: the same messages, the same handler, the same bounds."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from tests.peers.peer import Peer, Stage, Unavailable, kill
from tests.peers.pipe import Handled, Pipe

EVERY = 100
"""While thousands a second are drained, one message in so many is told of."""
START_S = 20.0
"""How long a consumer process may take until it handles its first message."""
GRACE_S = 10.0
"""How long after the last due time messages are waited for."""
EARLY_MS = -1.0
"""More than this before its due time is early: less is rounding."""
PUBLISH, DRAIN, LATENESS, BURST, KILL = "publish", "drain", "lateness", "burst", "kill"
PARTS = (PUBLISH, DRAIN, LATENESS, BURST, KILL)

Figures = dict[str, float | None]
"""What was measured, by name; None: the peer does not do it, or did not within its bounds."""


@dataclass(frozen=True)
class Bounds:
    """How much of everything: a run is bounded in counts and in time."""

    messages: int = 50_000
    """Published and drained, at most."""
    seconds: float = 3.0
    """For publishing one by one, and again for bulk; draining may take three times as long."""
    late: int = 200
    span_s: float = 5.0
    """Over which the `late` messages are due."""
    lead_s: float = 2.0
    """From scheduling to the first due time, beside what scheduling itself may take."""
    burst: int = 5_000
    burst_s: float = 20.0
    """How long after its due time a burst is waited for."""
    in_flight: int = 1_000
    """Published before a consumer is killed."""
    redeliver_s: float = 40.0


class Course:
    """One peer's run."""

    def __init__(self, peer: Peer, stage: Stage, bounds: Bounds) -> None:
        self._peer, self._stage, self._bounds = peer, stage, bounds
        self._server = redis.Redis.from_url(stage.url)
        self._rate = 1000.0
        """Messages published one by one in a second, as far as is known."""

    def run(self, parts: Sequence[str] = PARTS) -> Iterator[Figures]:
        """Run the parts asked for, and yield the figures of each.

        :raises Unavailable: if the peer's adapter fails
        """
        self._server.flushall()
        if PUBLISH in parts or DRAIN in parts:
            yield self._publish()
        if DRAIN in parts:
            yield self._drain()
        if self._peer.name == "raw":
            return
        self._server.flushall()
        if LATENESS in parts or BURST in parts:
            with self._stage.consuming() as (_, pipe):
                self._warm(pipe)
                if LATENESS in parts:
                    yield self._late(pipe)
                if BURST in parts:
                    yield self._burst(pipe)
        self._server.flushall()
        if KILL in parts:
            yield self._kill()

    def _publish(self) -> Figures:
        """Publish half one by one, the rest in bulk; all of it is left to be drained."""
        one = self._ask("publish", 0, max(1, self._bounds.messages // 2))
        self._rate = one["published"] / one["seconds"]
        left = max(1, self._bounds.messages - int(one["published"]))
        bulk = self._ask("bulk", int(one["published"]), left)
        self._published = int(one["published"] + bulk["published"])
        in_bulk = bulk["published"] / bulk["seconds"] if bulk["published"] else None
        return {"publish_per_s": self._rate, "bulk_per_s": in_bulk}

    def _drain(self) -> Figures:
        every = min(EVERY, max(1, self._published // 10))
        enough = self._published // every * every
        with self._stage.consuming(every) as (_, pipe):
            self._first(pipe)
            pipe.until_count(enough, 3 * self._bounds.seconds)
            handled = pipe.handled
        return {"drain_per_s": rate(handled), "drained": handled[-1].nth}

    def _late(self, pipe: Pipe) -> Figures:
        bounds, before = self._bounds, len(pipe.handled)
        at_ms = self._schedule(bounds.late, bounds.span_s)
        left_s = at_ms / 1000 + bounds.span_s - time.time() + GRACE_S
        pipe.until(lambda: len(pipe.handled) >= before + bounds.late, left_s)
        return lateness(pipe.handled[before:], bounds.late)

    def _burst(self, pipe: Pipe) -> Figures:
        bounds, before = self._bounds, len(pipe.handled)
        at_ms = self._schedule(bounds.burst, 0.0)
        left_s = at_ms / 1000 - time.time()
        pipe.until(lambda: len(pipe.handled) >= before + bounds.burst, left_s + bounds.burst_s)
        handled = pipe.handled[before:]
        whole = len(handled) >= bounds.burst
        return {
            "burst_ms": max(h.at_ms for h in handled) - at_ms if whole else None,
            "burst_handled": len(handled),
        }

    def _kill(self) -> Figures:
        """Kill a consumer that has messages in hand while another one runs."""
        bounds = self._bounds
        self._stage.ask("publish", 0, bounds.in_flight, 60, within_s=60)
        with self._stage.consuming(holds=True) as (first, held):
            self._first(held)
            held.until_quiet(1.0, within_s=10)
            with self._stage.consuming() as (_, other):
                # None comes if the first one has all of them; then the other has had time to start.
                other.until(lambda: bool(other.handled), within_s=10)
                other.until_quiet(2.0, within_s=bounds.redeliver_s)
                kill(first)
                return self._redelivered(other)

    def _redelivered(self, other: Pipe) -> Figures:
        bounds, killed_ms = self._bounds, time.time() * 1000
        missing = set(range(bounds.in_flight)) - {h.n for h in other.handled}
        seen = len(other.handled)

        def again() -> set[int]:
            return missing & {h.n for h in other.handled[seen:]}

        # Some look for what a dead one had only when a new message comes: so one does at times.
        for extra in range(round(bounds.redeliver_s / 5)):
            if other.until(lambda: again() == missing, within_s=min(5.0, bounds.redeliver_s)):
                break
            self._stage.ask("publish", bounds.in_flight + extra, 1, 10, within_s=START_S)
        last_ms = max((h.at_ms for h in other.handled[seen:] if h.n in missing), default=killed_ms)
        whole = again() == missing
        numbers = [h.n for h in other.handled]
        return {
            "in_hand": len(missing),
            "redelivered": len(again()),
            "redelivered_s": (last_ms - killed_ms) / 1000 if whole else None,
            "handled_twice": len(numbers) - len(set(numbers)),
        }

    def _warm(self, pipe: Pipe) -> None:
        """Wait until the consumer process handles messages."""
        self._stage.ask("publish", 0, 1, 10, within_s=START_S)
        self._first(pipe)

    def _first(self, pipe: Pipe) -> None:
        if not pipe.until(lambda: bool(pipe.handled), START_S):
            raise Unavailable(f"nothing handled within {START_S} s: {self._stage.last_words()}")

    def _schedule(self, count: int, span_s: float) -> int:
        """Schedule messages, all of them before the first is due: return when that is.

        :raises Unavailable: if it takes more than twice as long as publishing them would have
        """
        lead_s = self._bounds.lead_s + 2 * count / self._rate
        asked = self._stage.ask("schedule", 1, count, lead_s, span_s, within_s=2 * lead_s)
        if asked["seconds"] > lead_s:
            raise Unavailable(f"scheduling {count} messages took more than {lead_s:.1f} s")
        return int(asked["at_ms"])

    def _ask(self, command: str, first: int, count: int) -> dict[str, Any]:
        seconds = self._bounds.seconds
        return self._stage.ask(command, first, count, seconds, within_s=seconds)


def rate(handled: Sequence[Handled]) -> float | None:
    """Messages a second, from the first that is told of to the last."""
    first, last = handled[0], handled[-1]
    if last.nth == first.nth:
        return None
    return (last.nth - first.nth) / max((last.at_ms - first.at_ms) / 1000, 1e-6)


def lateness(handled: Sequence[Handled], of: int) -> Figures:
    """How late messages came. One that did not come at all is no figure, but is counted."""
    late_ms = sorted(h.at_ms - h.due_ms for h in handled)
    if len(late_ms) < 2:
        return {"late_p50_ms": None, "late_p99_ms": None, "early": None, "late_missing": of}
    percentiles = statistics.quantiles(late_ms, n=100, method="inclusive")
    return {
        "late_p50_ms": percentiles[49],
        "late_p99_ms": percentiles[98],
        "early": sum(late < EARLY_MS for late in late_ms),
        "late_missing": of - len(late_ms),
    }
