"""A message as whoever looks at a queue sees it: the value, and where it is.

What another program wrote is shown as well, as far as it can be read: nothing here refuses it.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from delayq.errors import InvalidCursor, MalformedEntry
from delayq.message import JSON, unpack

State = Literal["scheduled", "ready", "pending", "dead"]

ARRIVAL_CHARS = 12
"""The fixed width of the arrival number that a member of the schedule begins with."""
_PLACES = {
    1: re.compile(r"[0-9]{1,20}-[0-9]{1,20}\Z"),
    2: re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|inf)\Z"),
}
"""What a cursor begins with: a stream id, or a score."""
_MAX_DEPTH = 200
"""How deeply a body may be nested, to be shown as more than its text."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message, and where it is. A time that is not known, or no number, is None."""

    state: State
    id: str
    body: Any = None
    """A plain JSON value; the text as it is where that is no JSON; None where there is none."""
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    due_ms: int | None = None
    """None, too, while it waits for another message of its key: it comes when that is settled."""
    published_ms: int | None = None
    deliveries: int = 0
    entry: str = ""
    """Its id in the stream, or in the dead stream; empty while it is scheduled."""
    consumer: str | None = None
    """For whom it is pending."""
    reason: str | None = None
    """Why it is dead, in a few words."""
    error: str | None = None
    """The last error before it died."""
    dead_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    records: list[Record]
    next: str | None = None
    """The cursor to go on with, opaque; None at the end."""


def scheduled_record(member: str, score: str, packed: str) -> Record:
    """Read a member of the schedule.

    :param packed: its fields, without the arrival number
    """
    message_id, due_ms = member[ARRIVAL_CHARS:], None if is_held(score) else number(score)
    try:
        values = paired(unpack(packed))
    except MalformedEntry:
        return Record("scheduled", message_id, packed or None, due_ms=due_ms)
    return _record("scheduled", values | {"id": message_id}, due_ms)


def is_held(score: str) -> bool:
    """Tell by its score whether a scheduled message waits for another message of its key.

    Then it is half a ms more than a whole number; see `let_go` in the scripts.
    """
    return "." in score and not float(score).is_integer()


def entry_record(
    state: State,
    entry: str,
    fields: Mapping[str, str],
    delivered: int = 0,
    consumer: str | None = None,
) -> Record:
    """Read an entry of the stream, or of the dead stream.

    :param delivered: how often its group has delivered it, if it is pending
    :param consumer: for whom it is pending
    """
    values = dict(fields)
    # A dead letter tells of the entry that it was.
    was = values.get("entry", "") if state == "dead" else entry
    values["id"] = values.get("id") or was or entry
    due_ms = number(values["due"]) if "due" in values else age_of(was)
    return _record(state, values, due_ms, entry=entry, delivered=delivered, consumer=consumer)


def _record(
    state: State,
    values: Mapping[str, str],
    due_ms: int | None,
    *,
    entry: str = "",
    delivered: int = 0,
    consumer: str | None = None,
) -> Record:
    dead = state == "dead"
    return Record(
        state,
        values["id"],
        _body(values["body"]) if "body" in values else values.get("raw"),
        values.get("key"),
        _headers(values.get("headers")),
        due_ms,
        number(values["published"]) if "published" in values else due_ms,
        (number(values.get("deliveries")) or 0) + delivered,
        entry,
        consumer,
        values.get("reason") if dead else None,
        values.get("error") if dead else None,
        age_of(entry) if dead else None,
    )


def paired(fields: Sequence[str]) -> dict[str, str]:
    """Return flat fields as a mapping; of equal names the last, as for a handler."""
    return dict(zip(fields[::2], fields[1::2], strict=False))


def number(text: str | None) -> int | None:
    """Read a whole number as people, or Redis, write it; None if it is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if math.isfinite(value) else None


def age_of(entry: str) -> int | None:
    """Return when a stream entry was added, in ms."""
    return number(entry.partition("-")[0])


def cursor(*parts: str) -> str:
    """Make an opaque cursor of the place that `parts` tell."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def place(after: str, state: State, size: int) -> list[str]:
    """Read a cursor: the `size` parts of a place in the list of `state`.

    :raises InvalidCursor: if it is none, or one of another list
    """
    parts: Any
    try:
        parts = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except (ValueError, RecursionError):
        parts = None
    fits = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
    if not fits or len(parts) != size + 1 or parts[0] != state or not _is_place(parts[1], size):
        raise InvalidCursor(f"after: {after[:80]!r} is no cursor of the {state} messages")
    return list(parts[1:])


def _is_place(text: str, size: int) -> bool:
    fits = _PLACES[size].match(text) is not None
    return fits and (size > 1 or all(int(part) < 2**64 for part in text.split("-")))


def _body(text: str) -> Any:
    try:
        body = JSON.decode(text)
    except MalformedEntry:
        return text
    return body if _depth(body) <= _MAX_DEPTH else text


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        parts = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [inner for part in parts for inner in part]
        depth += 1
    return depth


def _headers(text: str | None) -> dict[str, str]:
    try:
        headers = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {n: str(v) for n, v in headers.items()} if isinstance(headers, dict) else {}
