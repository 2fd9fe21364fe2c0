"""The message: a value, how it is written to Redis, and how it is read back.

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
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

from delayq.body import Codec, to_json
from delayq.durability import Durability
from delayq.errors import InvalidMessage, MalformedEntry, NewerFormat

FORMAT = 1
"""The newest format of an entry that is understood. It stands in the field `v`, if it is not 1."""

MAX_FIELDS = 64
_ADDED = frozenset({"id", "due", "published", "deliveries", "place", "for"})
"""Fields that an entry has when it comes from the schedule."""
MAX_ID_BYTES = 128
MAX_KEY_BYTES = 256
MAX_BODY_BYTES = 1_048_576
MAX_HEADERS_BYTES = 16_384
MAX_DELAY_MS = 100 * 366 * 86_400_000
"""A hundred years: beyond that a delay is a mistake."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_LETTERS = bytes(b"0123456789abcdefghijklmnopqrstuv"[byte % 32] for byte in range(256))
_ID_CHARS = 16
_RANDOM = random.Random()  # noqa: S311 - ids are no secret; its own, as a program may seed the other
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.seed)
_NOW = "+0"
_PLAIN = re.compile(r"(?P<published>[0-9]+) (?P<body>.*)", re.DOTALL)


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


class Receipt(NamedTuple):
    """What `publish` answers: the message is in Redis."""

    id: str
    """That of the first message, if this one is a duplicate."""
    due_ms: int
    duplicate: bool
    """True if a message of that id or `dedup_id` was there already, and nothing was added.

    It may be this very one: where an answer was lost, and the call made again, the first try wrote
    it (told so if you gave it an id or a `dedup_id`, or the queue has a `max_backlog`).
    """
    durability: Durability = "memory"
    """What was confirmed."""


class Options(TypedDict, total=False):
    """What may be told of a message when it is published."""

    delay: timedelta | float | None
    """A timedelta, or seconds, from the server's now."""
    deliver_at: datetime | None
    """A datetime with a timezone; what has passed is due now."""
    key: str | None
    """The ordering key."""
    id: str | None
    """Makes a repeat safe beyond one call: it is known while the message is scheduled, and for 60 s
    after its due time."""
    dedup_id: str | None
    """Of several messages with the same one within the queue's `dedup_window_s`, the first is the
    only one; their receipts have its id."""
    headers: Mapping[str, str] | None
    """What handlers are told besides the body."""


_OPTIONS = frozenset(Options.__annotations__)


class Outgoing(NamedTuple):
    """A message on its way to publish.lua, every part checked."""

    id: str
    told: str
    """What others may publish again: "" nothing, "i" its id, "d" and a dedup id: both."""
    when: str
    """As `when` encodes it."""
    size: int
    """How many `fields`, names and values; 1: the body alone; 0: they are packed."""
    fields: Sequence[str]
    """What has to wait and is more than a body is packed already: a JSON array, but for its end,
    which the script adds."""
    key: str | None = None

    @property
    def route(self) -> str:
        """What decides its lane: its key, or else its `dedup_id`, or else its id."""
        return self.key if self.key is not None else self.told[1:] or self.id

    @property
    def delayed(self) -> bool:
        """Whether it is to wait, as far as its publisher knows."""
        return self.when != _NOW

    @property
    def length(self) -> int:
        """About how many bytes it takes."""
        return sum(map(len, self.fields))

    def due_ms(self, now_ms: int) -> int:
        """Tell when it is due, if it is accepted at `now_ms`."""
        if self.when == _NOW:
            return now_ms
        due_ms = int(self.when)
        return now_ms + due_ms if self.when[0] == "+" else max(now_ms, due_ms)


class Delivery(NamedTuple):
    """A message that is pending for one consumer, under a stream entry's id."""

    entry: str
    message: Message
    delivered: int
    """How often as this entry; `Message.deliveries` counts those of earlier ones, too."""


def new_id() -> str:
    """Make an id: 80 random bits as 16 letters and digits."""
    return _RANDOM.randbytes(_ID_CHARS).translate(_LETTERS).decode()


def new_ids(count: int) -> list[str]:
    """Make ids, as `new_id` does."""
    letters = _RANDOM.randbytes(_ID_CHARS * count).translate(_LETTERS).decode()
    return [letters[at : at + _ID_CHARS] for at in range(0, len(letters), _ID_CHARS)]


def when(delay: timedelta | float | None, deliver_at: datetime | None) -> str:
    """Encode a due time for publish.lua: `+<ms>` from the server's now, or absolute `<ms>`.

    :param delay: a timedelta, or seconds
    :raises InvalidMessage: if both are given, or either is out of range or without a timezone
    """
    if deliver_at is not None:
        if delay is not None:
            raise InvalidMessage("delay, deliver_at: give one of them, not both")
        if not isinstance(deliver_at, datetime) or deliver_at.tzinfo is None:
            raise InvalidMessage("deliver_at: a datetime with a timezone is needed")
        return str(max(0, -((_EPOCH - deliver_at) // _MS)))
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else (delay or 0)
    if not isinstance(seconds, int | float):
        raise InvalidMessage(f"delay: seconds or a timedelta (got {seconds!r})")
    if not 0 <= seconds * 1000 <= MAX_DELAY_MS:
        raise InvalidMessage(f"delay: 0 s to {MAX_DELAY_MS // 1000} s (got {seconds})")
    return f"+{-(-round(seconds * 1_000_000) // 1000)}"  # rounded down, it would be early


def outgoing(body: str, options: Options, own_id: str | None = None) -> Outgoing:
    """Make a message of a body, as JSON, and what is told of it.

    :param own_id: for one that is given none
    :raises InvalidMessage: if a part breaks a limit, or there is no such option
    """
    if not options:
        return Outgoing(own_id or new_id(), "", _NOW, 1, (_within("body", body, MAX_BODY_BYTES),))
    if not _OPTIONS.issuperset(options):
        unknown, known = min(options.keys() - _OPTIONS), ", ".join(Options.__annotations__)
        raise InvalidMessage(f"{unknown}: no such option; there are {known}")
    message_id, dedup_id = options.get("id"), options.get("dedup_id")
    told = "" if message_id is None else "i"
    if dedup_id is not None:
        told = "d" + checked_id(dedup_id, "dedup_id")
    due = when(options.get("delay"), options.get("deliver_at"))
    parts = encode_fields(body, options.get("key"), options.get("headers"))
    size = len(parts)
    if size == 2:
        size, parts = 1, parts[1:]
    elif due != _NOW:
        size, parts = 0, [to_json(parts)[:-1]]
    own_id = (own_id or new_id()) if message_id is None else checked_id(message_id)
    return Outgoing(own_id, told, due, size, parts, options.get("key"))


def encode_fields(
    body: str, key: str | None = None, headers: Mapping[str, str] | None = None
) -> list[str]:
    """Encode what a producer gives as flat stream fields.

    :param body: as JSON
    :raises InvalidMessage: if a part is too large, or a header is no string
    """
    fields = ["body", _within("body", body, MAX_BODY_BYTES)]
    if key is not None:
        if not isinstance(key, str):
            raise InvalidMessage("key: it is a string")
        fields += ["key", _within("key", key, MAX_KEY_BYTES)]
    if headers:
        written = to_json(_checked_headers(headers))
        fields += ["headers", _within("headers", written, MAX_HEADERS_BYTES)]
    return fields


def checked_id(message_id: str, name: str = "id") -> str:
    """Return `message_id` if it can be one.

    :raises InvalidMessage: if it is no string, empty, too long, or not UTF-8
    """
    if not isinstance(message_id, str) or not message_id:
        raise InvalidMessage(f"{name}: it is a string, and not empty")
    return _within(name, message_id, MAX_ID_BYTES)


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
        body = codec.decode(_within("body", text, MAX_BODY_BYTES))
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

    :param packed: when it was published, a space, and its body, where that is all; or a JSON array
    :raises MalformedEntry: if it is neither, or the array is not of strings, in pairs
    """
    if plain := _PLAIN.fullmatch(packed):
        return ["body", plain["body"], "published", plain["published"]]
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
    encoded = _within("body", body, MAX_BODY_BYTES)
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [part for name, old in pairs for part in (name, encoded if name == "body" else old)]


def _within(name: str, text: str, max_bytes: int) -> str:
    if text.isascii() and len(text) <= max_bytes:
        return text
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"{name}: {error}") from error
    if size > max_bytes:
        raise InvalidMessage(f"{name}: {size} bytes, the limit is {max_bytes}")
    return text


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidMessage("headers: it is a mapping of strings")
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidMessage(f"headers: {name!r}: names and values are strings")
    return dict(headers)


def _read_headers(raw: str) -> dict[str, str]:
    headers = json.loads(raw)
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise ValueError("headers: not an object of strings")
    return headers
