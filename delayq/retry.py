"""What becomes of a message whose handler failed: decided here, without doing anything."""

import os
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from delayq.errors import InvalidMessage, named, text_of
from delayq.message import MAX_DELAY_MS

REJECTED = "rejected"
_OURS = f"{Path(__file__).parent}{os.sep}"


class RetryLater(Exception):
    """Raise it in a handler to have the message delivered again after `delay_ms`.

    It counts as a delivery: at `Retry.max_deliveries` the message becomes a dead letter.

    :raises InvalidMessage: if `delay_ms` is no whole number, below 0, or beyond a century
    """

    def __init__(self, delay_ms: int) -> None:
        if not (isinstance(delay_ms, int) and 0 <= delay_ms <= MAX_DELAY_MS):
            raise InvalidMessage(f"delay_ms: whole ms, 0 to {MAX_DELAY_MS} (got {delay_ms!r})")
        super().__init__(f"again in {delay_ms} ms")
        self.delay_ms = delay_ms


class Reject(Exception):
    """Raise it in a handler to make the message a dead letter at once."""


OnFailure = Literal["block", "park", "dead_letter", "halt"]
"""What a failure means in an ordered queue, where a retry elsewhere would change the order.

"block": it is retried in place, and those behind it wait; a dead letter when its deliveries are
used up. "park": it waits on the schedule, and the messages of its key behind it; other keys go on.
"dead_letter": at once, and the next goes on. "halt": retried in place, and when its deliveries are
used up the lane stops until it is resumed.
"""


@dataclass(frozen=True, slots=True)
class Again:
    """The outcome: deliver it again after `delay_ms`, in place or by the schedule."""

    delay_ms: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The outcome: out of the queue, into the dead stream, for `reason`."""

    reason: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Park:
    """The outcome: back to the schedule for `delay_ms`, and its key waits for it."""

    delay_ms: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Halt:
    """The outcome: the lane stops at this message, until somebody resumes it."""

    reason: str
    error: str = ""


Outcome = Again | Park | DeadLetter | Halt | None
"""What is to become of a message; None is: acknowledge it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with full jitter, and an end to it.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    :raises ValueError: if a number is out of range
    """

    max_deliveries: int | None = 5
    """Deliveries before a message is dead; crashes count; None is no end."""
    base_ms: int = 100
    """Upper bound of the first delay; it doubles with each delivery."""
    cap_ms: int = 60_000
    """Upper bound of any delay."""
    never: tuple[type[Exception], ...] = ()
    """Exceptions that no retry would mend: a dead letter at once."""

    def __post_init__(self) -> None:
        if self.max_deliveries is not None and self.max_deliveries < 1:
            raise ValueError(f"max_deliveries: at least 1, or None (got {self.max_deliveries})")
        if not 0 < self.base_ms <= self.cap_ms:
            raise ValueError(f"base_ms: above 0, at most cap_ms (got {self.base_ms})")
        if not (isinstance(self.never, tuple) and all(map(_is_exception, self.never))):
            raise ValueError(f"never: a tuple of exceptions (got {self.never!r})")

    def decide(
        self, deliveries: int, error: Exception, jitter: Callable[[], float] = random.random
    ) -> Again | DeadLetter:
        """Decide on a message that failed with `error` at its `deliveries`-th delivery."""
        said = _said(error)
        if isinstance(error, Reject):
            return DeadLetter(REJECTED, text_of(error))
        if isinstance(error, self.never):
            return DeadLetter("never retried", said)
        if self.max_deliveries is not None and deliveries >= self.max_deliveries:
            return DeadLetter("max deliveries", said)
        if isinstance(error, RetryLater):
            return Again(error.delay_ms)
        bound_ms = min(self.cap_ms, self.base_ms * 2 ** min(deliveries - 1, 32))
        return Again(round(bound_ms * jitter()), said)

    def exhausted(self, deliveries: int) -> bool:
        """Tell whether a message was delivered, and not settled, too often to be tried again."""
        return self.max_deliveries is not None and deliveries > self.max_deliveries


def in_order(
    on_failure: OnFailure, outcome: Again | DeadLetter
) -> Again | Park | DeadLetter | Halt:
    """Tell what an outcome is in an ordered queue, where a failure means `on_failure`.

    A `RetryLater` is no failure, and a `Reject` is a dead letter everywhere.
    """
    match outcome, on_failure:
        case Again(delay_ms, error), "park":
            return Park(delay_ms, error)
        case Again(_, error), "dead_letter" if error:
            return DeadLetter("failed", error)
        case DeadLetter(reason, error), "halt" if reason != REJECTED:
            return Halt(reason, error)
        case _:
            return outcome


def _said(error: Exception) -> str:
    """Say what was raised, and where in the handler, or in what it called."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    at = f" (at {theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
    return f"{named(error)}{at}"


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
