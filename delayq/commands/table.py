"""How an answer looks: as a table for people, or as JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_WIDEST = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say."""

    text: str
    value: Any
    """The same for programs: a JSON value."""
    ok: bool = True
    """False: it is not so, as when a message to cancel is not scheduled."""

    @property
    def as_json(self) -> str:
        """The answer as one JSON document, in ASCII: bytes that are no UTF-8 do not break it."""
        return json.dumps(self.value, separators=(",", ":"))


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Draw rows under their names, each column as wide as it needs to be."""
    cells = [[*names], *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def cell(value: object) -> str:
    """Write a value in one line, cut where it is long; nothing a terminal would obey."""
    if value is None or value == "":
        return "-"
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = printable(written)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"


def printable(text: str) -> str:
    """Return text with what does not print as escapes, such as control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def moment(at_ms: int | None) -> str:
    """Write a time as ISO 8601 in UTC; as the number it is where no calendar has it."""
    if at_ms is None:
        return "-"
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(ms: int | None) -> str:
    """Write a duration as people say it."""
    if ms is None:
        return "-"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if abs(ms) >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms} ms"
