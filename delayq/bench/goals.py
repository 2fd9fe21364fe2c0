"""The goals: what a figure is to reach, whatever the machine."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """What one value of a figure is to be: at least, or at most, a limit."""

    measurement: str
    figure: str
    value: str
    sense: Literal["≥", "≤"]
    limit: float

    def met(self, found: float) -> bool:
        """Tell whether a value reaches the goal."""
        return found >= self.limit if self.sense == "≥" else found <= self.limit

    @property
    def text(self) -> str:
        """The goal in words."""
        return f"{self.value} {self.sense} {self.limit:g}"


GOALS = (
    Goal("publish", "one by one", "ratio", "≥", 0.85),
    Goal("publish", "100 at once", "ratio", "≥", 0.5),
    Goal("publish", "in bulk", "ratio", "≥", 0.8),
    Goal("publish", "in bulk, scheduled", "ratio", "≥", 0.5),
    Goal("drain", "shared", "ratio", "≥", 0.8),
    Goal("drain", "strict", "ratio", "≥", 0.7),
    Goal("drain", "key", "ratio", "≥", 0.7),
    Goal("waiting", "waits 5 ms", "ratio", "≥", 0.8),
    Goal("lateness", "light", "p50_ms", "≤", 1.5),
    Goal("lateness", "light", "p99_ms", "≤", 4),
    Goal("lateness", "light", "max_ms", "≤", 15),
    Goal("lateness", "light", "early", "≤", 0),
    Goal("lateness", "1,000 due per second", "p99_ms", "≤", 15),
    Goal("lateness", "1,000 due per second", "early", "≤", 0),
    Goal("burst", "shared", "last_ms", "≤", 250),
    Goal("burst", "strict", "last_ms", "≤", 250),
    Goal("failover", "stop", "p50_ms", "≤", 20),
    Goal("failover", "kill -9", "p50_ms", "≤", 150),
    Goal("failover", "kill -9", "p99_ms", "≤", 300),
    Goal("failover", "stall, past the lease", "max_ms", "≤", 100),
    Goal("failover", "kill -9, shared: all again", "max_ms", "≤", 1_000),
    Goal("idle", "1 queue", "calls_per_s", "≤", 3),
    Goal("idle", "1 queue", "client_cpu_percent", "≤", 0.5),
    Goal("scale", "schedule in bulk", "over_5_ms", "≤", 0),
    Goal("scale", "memory", "bytes_each", "≤", 300),
    Goal("scale", "publish", "growth", "≤", 1.5),
    Goal("scale", "cancel", "growth", "≤", 1.5),
    Goal("scale", "promote", "growth", "≤", 1.5),
    Goal("scale", "all due at once", "out_of_order", "≤", 0),
    Goal("scale", "all due at once", "over_5_ms", "≤", 0),
    Goal("fanout", "beside one that fails each", "p99_ms", "≤", 15),
)
