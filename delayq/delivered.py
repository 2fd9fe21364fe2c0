"""What a consumer is delivered: a message, or an entry that is none for it."""

from collections.abc import Sequence
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


def delivered_as(entry: str, delivered: int, fields: Sequence[str], codec: Codec) -> Delivered:
    """Read an entry that was delivered, for the `delivered`-th time."""
    try:
        message = decode_entry(entry, fields, delivered, codec)
        return Delivery(entry, message, delivered)
    except NewerFormat as error:
        return Newer(entry, delivered, str(error))
    except MalformedEntry as error:
        return Malformed(entry, delivered, str(error))
