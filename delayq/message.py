"""The message: a value, how it stands in Redis, and how it is read back.

In the stream it is an entry of flat fields, readable in redis-cli; an entry with only a `body`,
added by a producer in any language, is a valid message. In the schedule the same fields, less the
id and the due time that stand in the keys, are one JSON array; or, where that is all, the time when
it was published and the body.
"""

import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from string import ascii_letters, digits
from types import MappingProxyType
from typing import Any, NamedTuple

from delayq.body import Codec
from delayq.errors import InvalidMessage, MalformedEntry, NewerFormat

FORMAT = 1
"""The newest format of an entry that is understood. It stands in the field `v`, if it is not 1."""

MAX_FIELDS = 64
_ADDED = frozenset({"id", "due", "published", "deliveries", "place", "for"})
"""Fields that an entry has when it comes from the schedule."""
MAX_BODY_BYTES = 1_048_576
MAX_DELAY_MS = 100 * 366 * 86_400_000
"""A hundred years: beyond that a delay is a mistake."""
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_LETTERS = bytes((digits + ascii_letters).encode()[byte % 62] for byte in range(256))
_ID_CHARS = 12
_ID_BITS = 8 * _ID_CHARS
_RANDOM = random.Random()  # noqa: S311 - ids are no secret; its own, as a program may seed the other
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.seed)
_PLAIN = re.compile(r"(?P<published>[0-9a-zA-Z]{1,10}) (?P<body>.*)", re.DOTALL)


# Values made for each message are named tuples: frozen, and made in a third of a dataclass's time.
class Message(NamedTuple):
    """What a handler is given."""

    id: str
    """Chosen by the producer: a publish repeated with the same id is one message."""
    body: Any
    """Of the queue's type; by default any JSON value."""
    key: str | None = None
    """The ordering key."""
    headers: Mapping[str, str] = _NO_HEADERS
    published_ms: int = 0
    """When it was published, by the server's clock."""
    due_ms: int = 0
    """When it was last to be delivered, by the server's clock."""
    deliveries: int = 0
    """How often it was delivered, this time included."""


class Delivery(NamedTuple):
    """A message that is pending for one consumer, under a stream entry's id."""

    entry: str
    message: Message
    delivered: int
    """How often as this entry; `Message.deliveries` counts those of earlier ones, too."""


def new_id() -> str:
    """Make an id: 12 letters and digits, some 71 random bits.

    So of 10**15 messages one meets another of its id, if a million are scheduled. Longer ones take
    16 bytes more of Redis for each that is scheduled.
    """
    # As `randbytes` does it, which is half the time of an id more.
    return _RANDOM.getrandbits(_ID_BITS).to_bytes(_ID_CHARS, "little").translate(_LETTERS).decode()


def new_ids(count: int) -> list[str]:
    """Make ids, as `new_id` does."""
    letters = _RANDOM.randbytes(_ID_CHARS * count).translate(_LETTERS).decode()
    return [letters[at : at + _ID_CHARS] for at in range(0, len(letters), _ID_CHARS)]


JSON = Codec[Any]()


def decode_entry(
    entry: str, fields: Sequence[str], delivered: int, codec: Codec[Any] = JSON
) -> Message:
    """Read a stream entry that its group has delivered `delivered` times.

    :raises NewerFormat: if a newer delayq wrote it
    :raises MalformedEntry: if it has no `body`, or a field is not what it should be
    """
    if len(fields) > 2 * (MAX_FIELDS - len(_ADDED)) and not _have_room(fields):
        raise MalformedEntry(f"entry {entry}: {len(fields) // 2} fields, the limit is {MAX_FIELDS}")
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    get = values.get
    try:
        if (version := int(get("v") or FORMAT)) > FORMAT:
            raise NewerFormat(f"entry {entry}: format {version}, this process knows {FORMAT}")
        if (text := get("body")) is None:
            raise MalformedEntry("body: the field is missing")
        # Bytes that are no UTF-8 stand there as lone surrogates, and are refused here.
        body = codec.decode(within("body", text, MAX_BODY_BYTES))
        headers = get("headers")
        # What was due when it was published is due since its entry was added.
        due_ms = int(get("due") or entry.partition("-")[0])
        return Message(
            get("id") or entry,
            body,
            get("key"),
            _read_headers(headers) if headers else _NO_HEADERS,
            int(get("published") or due_ms),
            due_ms,
            int(get("deliveries") or 0) + delivered,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedEntry(f"entry {entry}: {error}") from error


def _have_room(fields: Sequence[str]) -> bool:
    """Tell whether an entry can be retried: whether it has room for what that adds."""
    others = sum(name not in _ADDED for name in fields[::2])
    return len(fields) <= 2 * MAX_FIELDS and others <= MAX_FIELDS - len(_ADDED)


def unpack(packed: str) -> list[str]:
    """Read the fields of a scheduled message.

    :param packed: the ms when it was published, in base 36, a space, and its body, where that is
        all; or a JSON array
    :raises MalformedEntry: if it is neither, or the array is not of strings, in pairs
    """
    if plain := _PLAIN.fullmatch(packed):
        return ["body", plain["body"], "published", str(int(plain["published"], 36))]
    try:
        fields = json.loads(packed)
        if not (isinstance(fields, list) and all(isinstance(f, str) for f in fields)):
            raise MalformedEntry("scheduled body: not an array of strings")
        "".join(fields).encode(errors="surrogateescape")  # an escape may stand for no character
    except (ValueError, RecursionError) as error:
        raise MalformedEntry(f"scheduled body: {error}") from error
    if not fields or len(fields) % 2:
        raise MalformedEntry("scheduled body: not pairs of field and value")
    return fields


def with_body(fields: Sequence[str], body: str) -> list[str]:
    """Return `fields` with another body in them.

    :param body: as JSON
    :raises InvalidMessage: if it is too large
    """
    encoded = within("body", body, MAX_BODY_BYTES)
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [part for name, old in pairs for part in (name, encoded if name == "body" else old)]


def within(name: str, text: str, max_bytes: int) -> str:
    """Return a part of a message, if it is not too large.

    :raises InvalidMessage: if it is, or is not UTF-8
    """
    if text.isascii() and len(text) <= max_bytes:
        return text
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"{name}: {error}") from error
    if size > max_bytes:
        raise InvalidMessage(f"{name}: {size} bytes, the limit is {max_bytes}")
    return text


def _read_headers(raw: str) -> dict[str, str]:
    headers = json.loads(raw)
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise ValueError("headers: not an object of strings")
    return headers
