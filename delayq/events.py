"""What happened, as values: one per transition, or per batch of them.

The loops report them to an `Observer`; logs, the demos' report and the tests read them. They hold
ids and counts, never bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. `role` is the name of the producer, poller or consumer it happened to.

    `lane` tells in which lane, where the queue has several.
    """

    role: str
    lane: int | None = field(default=None, kw_only=True)


Observer = Callable[[Event], None]
"""Called with each event, in the event loop, so it must not block. What it raises is logged."""


def unobserved(_event: Event) -> None:
    """Observe nothing."""


def in_lane(observe: Observer, lane: int, lanes: int) -> Observer:
    """Return an observer that tells `observe` the lane of each event, if there are several."""
    return (lambda event: observe(replace(event, lane=lane))) if lanes > 1 else observe


@dataclass(frozen=True, slots=True)
class Published(Event):
    """A message was accepted, to be delivered at `due_ms`."""

    id: str
    due_ms: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Promoted(Event):
    """Messages that were due went from the schedule to the stream."""

    count: int


@dataclass(frozen=True, slots=True)
class Ticked(Event):
    """Ticks of a recurring queue went on the schedule: that which comes next, and missed ones."""

    count: int


@dataclass(frozen=True, slots=True)
class Corrected(Event):
    """Messages that were due got a new body from `on_due`, and went to the stream with it."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CorrectionFailed(Event):
    """`on_due` failed on a message, which went to the stream as it was."""

    id: str
    error: str


@dataclass(frozen=True, slots=True)
class StoodBy(Event):
    """A consumer found `holder` active, and does not engage."""

    holder: str
    epoch: int


@dataclass(frozen=True, slots=True)
class NameTaken(Event):
    """Another process has this name, as `holder`: so this one waits, where they should compete."""

    holder: str


@dataclass(frozen=True, slots=True)
class TookOver(Event):
    """A consumer became active: it holds the lease, and the pending list is its own.

    `why` is "free", "released", "expired" or "connection gone"; `reclaimed` says how many pending
    messages came from whom; `deleted` names the consumers that were empty and are gone from the
    group.
    """

    epoch: int
    why: str
    reclaimed: dict[str, int]
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acked(Event):
    """Messages were handled, acknowledged, and have left Redis."""

    epoch: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """A handler failed; the message is delivered again after `delay_ms`, in place or scheduled."""

    epoch: int
    id: str
    deliveries: int
    delay_ms: int
    error: str


@dataclass(frozen=True, slots=True)
class Parked(Event):
    """A message waits on the schedule behind one of its key that failed, `blocker`."""

    epoch: int
    id: str
    blocker: str


@dataclass(frozen=True, slots=True)
class Halted(Event):
    """The lane stopped at a message, or was found so, until somebody resumes it."""

    epoch: int
    id: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """A lane that was halted goes on."""

    epoch: int


@dataclass(frozen=True, slots=True)
class HandoverAsked(Event):
    """Somebody asked the active consumer to pass on."""

    epoch: int


@dataclass(frozen=True, slots=True)
class LoopBlocked(Event):
    """A handler blocks the event loop, so that nothing else of this process runs.

    `handler` names it and `at` tells where it was seen; a thread renewed the lease meanwhile.
    """

    epoch: int
    handler: str
    at: str
    blocked_ms: int


@dataclass(frozen=True, slots=True)
class NewerFound(Event):
    """A message was met that a newer delayq wrote: it is left to a newer process."""

    epoch: int
    error: str


@dataclass(frozen=True, slots=True)
class DeadLettered(Event):
    """A message went to the dead stream."""

    epoch: int
    id: str
    deliveries: int
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Inherited(Event):
    """A competing consumer took `count` pending messages of one that died, `source`."""

    source: str
    count: int


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """The server refused a call under an epoch that is not current; nothing changed."""

    epoch: int
    operation: str


@dataclass(frozen=True, slots=True)
class LeaseEnded(Event):
    """A consumer noticed that its lease is lost; the handler in hand was cancelled."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A consumer gave its lease back, with nothing in hand."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Unreachable(Event):
    """The server does not answer; the call is repeated until it does."""

    error: str


@dataclass(frozen=True, slots=True)
class HandlersHang(Event):
    """All threads of a handler are over their time limit: others take the lane until one ends."""

    error: str


@dataclass(frozen=True, slots=True)
class LaneFailed(Event):
    """A script failed in one lane of several, as on a key of the wrong type: that lane rests."""

    error: str


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """The server answers again, after `outage_ms`."""

    outage_ms: int


@dataclass(frozen=True, slots=True)
class Spawned(Event):
    """The supervisor started a role."""


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """A role has ended: `how` is "stopped", "killed", "crashed" or "finished"."""

    how: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Stalled(Event):
    """The supervisor froze a role for `seconds`."""

    seconds: float
