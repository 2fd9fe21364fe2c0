"""What one call of a script did to a lane, as values."""

from dataclasses import dataclass, field
from typing import Literal

from delayq.verify.message import Fields

Place = Literal["scheduled", "stream", "dead"]
What = Literal["added", "removed", "moved", "delivered", "claimed", "settled", "dropped"]
State = Literal["absent", "scheduled", "ready", "pending", "read", "dead", "doubled"]
"""Where a message is. Read: in the stream, and neither pending nor to be read again."""


@dataclass(slots=True)
class Owned:
    """An entry of the pending list."""

    consumer: str
    deliveries: int


@dataclass(slots=True)
class Change:
    """One thing that a command did to a message."""

    what: What
    """Moved: in the schedule, to another due time. Claimed: as delivered, without its fields.
    Settled: by XACK. Dropped from the pending list otherwise."""
    place: Place
    at: str
    """The entry, or the member of the schedule."""
    fields: Fields
    words: tuple[str, ...] = ()
    """Of a dead letter, its fields."""
    owned: Owned | None = None
    """Delivered, claimed: as it is now."""
    before: Owned | None = None
    """Delivered, claimed, settled, dropped: as it was."""

    @property
    def fresh(self) -> bool:
        """Whether it was read from the stream, and not pending before."""
        return self.what == "delivered" and self.before is None


@dataclass(slots=True)
class LeaseChange:
    """One thing that a command did to a lease."""

    what: Literal["set", "extended", "ended"]
    key: str
    values: dict[str, str] = field(default_factory=dict)
    added: int = 0
    """Set: how many of the values were not there before."""
    ttl_ms: int = 0


@dataclass(slots=True)
class Step:
    """What one call of a script did."""

    before: dict[str, State] = field(default_factory=dict)
    """Each message that was touched, as it was."""
    after: dict[str, State] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    leases: list[LeaseChange] = field(default_factory=list)
    nowhere: set[str] = field(default_factory=set)
    """Messages that were in no place for a moment, and then in one again."""
    odd: list[str] = field(default_factory=list)
    """Answers that the model cannot explain."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found wrong."""

    invariant: str
    sentence: str
    ids: tuple[str, ...] = ()
    """The messages that show it."""
    events: tuple[str, ...] = ()
    """What processes recorded of it, a line each."""
