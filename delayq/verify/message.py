"""What the checker keeps of a message: the fields that decide what may become of it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLAIN = re.compile(r"[0-9a-zA-Z]{1,10} (.*)", re.DOTALL)
"""When it was published, and its body, where that is all."""

Place = tuple[int, int]
"""An entry's id as numbers, which sort as the stream does."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A message as it is written at some place."""

    id: str
    due_ms: int | None = None
    """None: it was ready at once, and says nothing of when it was due."""
    key: str | None = None
    body: str | None = None
    """Or its digest; None: it is no message."""
    deliveries: int = 0
    """Those before it came to this place."""
    place: str | None = None
    """By which entry it first came to the stream, where its key was parked."""
    held: bool = False
    """It is scheduled, and waits for another message of its key."""


def place_of(entry: str) -> Place:
    """Return an entry's id as numbers."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def from_entry(entry: str, words: Sequence[str]) -> Fields:
    """Read the fields of an entry of the stream, or of a dead letter."""
    values = dict(zip(words[::2], words[1::2], strict=False))
    due_ms, deliveries = values.get("due", ""), values.get("deliveries", "")
    return Fields(
        values.get("id") or values.get("entry") or entry,
        int(due_ms) if due_ms.isdecimal() else None,
        values.get("key"),
        values.get("body"),
        int(deliveries) if deliveries.isdecimal() else 0,
        values.get("place"),
    )


def from_packed(message_id: str, packed: str | None) -> Fields:
    """Read the fields of a scheduled message."""
    if plain := _PLAIN.fullmatch((packed or "")[12:]):
        return from_entry(message_id, ["id", message_id, "body", plain[1]])
    try:
        words = json.loads((packed or "")[12:])
    except ValueError:
        return Fields(message_id)
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        return Fields(message_id)
    return from_entry(message_id, ["id", message_id, *words])
