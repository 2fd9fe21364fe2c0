"""What a consumer is delivered, in batches: messages, and entries that are none for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from delayq.body import Codec
from delayq.errors import MalformedEntry, NewerFormat
from delayq.message import Delivery, decode_entry


class Malformed(NamedTuple):
    """An entry that was delivered and is no message."""

    entry: str
    delivered: int
    reason: str


class Newer(NamedTuple):
    """An entry that was delivered, and that a newer delayq wrote."""

    entry: str
    delivered: int
    reason: str


Delivered = Delivery | Malformed | Newer
"""What there is to do something about."""


@dataclass(frozen=True)
class Batch:
    """What one fetch delivered, in the order of the stream."""

    entries: Sequence[str] = ()
    read: Callable[[], list[Delivered]] = list
    """Decodes them, later: that may take as long as handling them."""
    last_id: str = ""
    """Where nothing was delivered: the id after which the next entry comes; '' to fetch again."""
    held_back: bool = False
    """Whether there is a last delivery to be made when nothing is in hand."""

    @cached_property
    def deliveries(self) -> list[Delivered]:
        """What there is to do something about, decoded when it is first asked for."""
        return self.read()


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What one part of reclaiming did."""

    next_start: str | None
    """Where to go on; None when the pending list is at its end."""
    owners: list[str]
    """For each message claimed: whom it was pending for."""
    deleted: tuple[str, ...]


class ParkAnswer(IntEnum):
    """What park.lua did with a message whose key waits for another one."""

    KEY_WAITS_NO_MORE = -1
    PARKED_BLOCKER_ASTRAY = 0
    """It is on the schedule, but what it waits for is not."""
    PARKED = 1
    GONE = 2
    """As after a first try."""
    MAY_PASS = 3
    """It is the one that the others wait for now."""


def delivered_as(entry: str, delivered: int, fields: Sequence[str], codec: Codec) -> Delivered:
    """Read an entry that was delivered, for the `delivered`-th time."""
    try:
        message = decode_entry(entry, fields, delivered, codec)
        return Delivery(entry, message, delivered)
    except NewerFormat as error:
        return Newer(entry, delivered, str(error))
    except MalformedEntry as error:
        return Malformed(entry, delivered, str(error))
