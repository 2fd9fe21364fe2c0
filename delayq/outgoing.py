"""What a producer gives, checked and encoded on its way to publish.lua, and what it is answered."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypedDict

from delayq.body import to_json
from delayq.durability import Durability
from delayq.errors import InvalidMessage
from delayq.message import MAX_BODY_BYTES, MAX_DELAY_MS, new_id, within

MAX_ID_BYTES = 128
MAX_KEY_BYTES = 256
MAX_HEADERS_BYTES = 16_384
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
NOW = "+0"
"""As `when` encodes what is due now."""


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
    """Makes a repeat safe beyond one call: it is known for 60 s, and while the message is
    scheduled; and for 60 s after its due time, if that was less than 60 s away."""
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
    fields: str | Sequence[str]
    """One text, if it is the body alone, or packed: what has to wait and is more than a body is a
    JSON array already, but for its end, which the script adds."""
    key: str | None = None

    @property
    def route(self) -> str:
        """What decides its lane: its key, or else its `dedup_id`, or else its id."""
        return self.key if self.key is not None else self.told[1:] or self.id

    @property
    def delayed(self) -> bool:
        """Whether it is to wait, as far as its publisher knows."""
        return self.when != NOW


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
    return _after(seconds)


@lru_cache(maxsize=64)  # most messages have the delay of others
def _after(seconds: float) -> str:
    if not 0 <= seconds * 1000 <= MAX_DELAY_MS:
        raise InvalidMessage(f"delay: 0 s to {MAX_DELAY_MS // 1000} s (got {seconds})")
    return f"+{-(-round(seconds * 1_000_000) // 1000)}"  # rounded down, it would be early


def due_ms(when: str, now_ms: int) -> int:
    """Tell when a message is due, of what `when` made, if it is accepted at `now_ms`."""
    given_ms = int(when)
    return now_ms + given_ms if when[0] == "+" else max(now_ms, given_ms)


def plain(body: str, message_id: str) -> Outgoing:
    """Make a message of a body that was checked, due now, of which nothing is told."""
    return Outgoing(message_id, "", NOW, 1, body)


def outgoing(body: str, options: Options) -> Outgoing:
    """Make a message of a body, as JSON, and what is told of it.

    :raises InvalidMessage: if a part breaks a limit, or there is no such option
    """
    if not options:
        return plain(checked_body(body), new_id())
    if not _OPTIONS.issuperset(options):
        unknown, known = min(options.keys() - _OPTIONS), ", ".join(Options.__annotations__)
        raise InvalidMessage(f"{unknown}: no such option; there are {known}")
    message_id, dedup_id = options.get("id"), options.get("dedup_id")
    told = "" if message_id is None else "i"
    if dedup_id is not None:
        told = "d" + checked_id(dedup_id, "dedup_id")
    own_id = new_id() if message_id is None else checked_id(message_id)
    due = when(options.get("delay"), options.get("deliver_at"))
    key, headers = options.get("key"), options.get("headers")
    if key is None and not headers:
        return Outgoing(own_id, told, due, 1, checked_body(body))
    fields = encode_fields(body, key, headers)
    if due == NOW:
        return Outgoing(own_id, told, due, len(fields), fields, key)
    return Outgoing(own_id, told, due, 0, to_json(fields)[:-1], key)


def encode_fields(
    body: str, key: str | None = None, headers: Mapping[str, str] | None = None
) -> list[str]:
    """Encode what a producer gives as flat stream fields.

    :param body: as JSON
    :raises InvalidMessage: if a part is too large, or a header is no string
    """
    fields = ["body", checked_body(body)]
    if key is not None:
        if not isinstance(key, str):
            raise InvalidMessage("key: it is a string")
        fields += ["key", within("key", key, MAX_KEY_BYTES)]
    if headers:
        written = to_json(_checked_headers(headers))
        fields += ["headers", within("headers", written, MAX_HEADERS_BYTES)]
    return fields


def checked_body(body: str) -> str:
    """Return a body, as JSON, if it is not too large.

    :raises InvalidMessage: if it is
    """
    return within("body", body, MAX_BODY_BYTES)


def checked_id(message_id: str, name: str = "id") -> str:
    """Return `message_id` if it can be one.

    :raises InvalidMessage: if it is no string, empty, too long, or not UTF-8
    """
    if not isinstance(message_id, str) or not message_id:
        raise InvalidMessage(f"{name}: it is a string, and not empty")
    return within(name, message_id, MAX_ID_BYTES)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidMessage("headers: it is a mapping of strings")
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidMessage(f"headers: {name!r}: names and values are strings")
    return dict(headers)
