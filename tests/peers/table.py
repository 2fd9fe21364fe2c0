"""How the figures look: markdown for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.peers.course import Bounds, Figures
from tests.peers.peer import Peer

NONE = "–"
LEGEND = """\
Bulk: 500 handed over at once. Late: start − due, by one clock. kill -9: messages in hand of a
process that is killed while another one runs, and how long until that one has handled all of
them. No order: none is kept where several consumers run, or one fails."""


@dataclass(frozen=True)
class Row:
    """One peer with its figures, and why there are no more of them."""

    peer: Peer
    figures: Figures = field(default_factory=dict)
    why_not: str | None = None

    def as_value(self, raw_per_s: float | None) -> dict[str, object]:
        """Return the row as a JSON value."""
        peer = self.peer
        return {
            "peer": peer.name,
            "title": peer.title,
            "version": peer.version,
            "pins": list(peer.pins),
            "settings": peer.settings,
            "why_not": self.why_not,
            **self.figures,
            "drain_of_raw": ratio(self.figures.get("drain_per_s"), raw_per_s),
        }


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return a part of a whole, where both are known."""
    return part / whole if part is not None and whole else None


def number(value: float | None) -> str:
    """Write a figure: three digits where it is small, whole where it is large."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def redelivery(figures: Figures, bounds: Bounds) -> str:
    """Say what became of the messages that a killed consumer had in hand."""
    in_hand = figures.get("in_hand")
    if in_hand is None:
        return NONE
    took_s = figures["redelivered_s"]
    twice = figures["handled_twice"]
    said = (
        f"{in_hand:.0f} in {took_s:.1f} s"
        if took_s is not None
        else (
            f"{figures['redelivered']:.0f} of {in_hand:.0f}: not within {bounds.redeliver_s:.0f} s"
        )
    )
    return f"{said}, {twice:.0f} twice" if twice else said


def burst(figures: Figures, bounds: Bounds) -> str:
    """Say when the last of a burst was handled."""
    if figures.get("burst_ms") is None and "burst_handled" in figures:
        return f"{figures['burst_handled']:,.0f} within {bounds.burst_s:.0f} s"
    return number(figures.get("burst_ms"))


def early(figures: Figures) -> str:
    """Say how many came before their time, and how many never came."""
    missing = figures.get("late_missing")
    said = number(figures.get("early"))
    return f"{said} ({missing:.0f} never came)" if missing else said


def main_table(rows: Sequence[Row], bounds: Bounds) -> str:
    """Draw the figures of all peers that were measured."""
    raw_per_s = raw_drain(rows)
    names = [
        *("", "version", "publish 1 by 1 /s", "bulk /s", "drain /s", "% of raw drain"),
        *("late p50 ms", "late p99 ms", f"early of {bounds.late}"),
        *(f"burst of {bounds.burst:,}: last, ms", "kill -9: handled again"),
    ]
    cells = []
    for row in rows:
        if not row.figures:
            continue
        figures = row.figures
        part = ratio(figures.get("drain_per_s"), raw_per_s)
        cells.append(
            [
                row.peer.title,
                row.peer.version,
                *(
                    number(figures.get(name))
                    for name in ("publish_per_s", "bulk_per_s", "drain_per_s")
                ),
                number(part * 100 if part is not None else None),
                *(number(figures.get(name)) for name in ("late_p50_ms", "late_p99_ms")),
                early(figures),
                burst(figures, bounds),
                redelivery(figures, bounds),
            ]
        )
    return markdown(names, cells, left=2)


def words_table(rows: Iterable[Row]) -> str:
    """Say what each peer does more or less, and how it was set."""
    cells = [[row.peer.title, row.peer.words, row.peer.settings] for row in rows]
    return markdown(["", "more or less", "set to"], cells, left=3)


def raw_drain(rows: Iterable[Row]) -> float | None:
    """Return what the raw loop drains in a second, in this run."""
    return next((r.figures.get("drain_per_s") for r in rows if r.peer.name == "raw"), None)


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """Draw a table, its first columns to the left and the others to the right."""
    line = ["---" if at < left else "---:" for at in range(len(names))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [names, line, *rows])


def report(rows: Sequence[Row], bounds: Bounds, about: Mapping[str, object]) -> str:
    """Say all of it."""
    missing = [f"* {row.peer.title}: {row.why_not}" for row in rows if row.why_not]
    parts = [
        ", ".join(f"{name} {value}" for name, value in about.items()),
        main_table(rows, bounds),
        *(["Not run:\n" + "\n".join(missing)] if missing else []),
        LEGEND,
        words_table(rows),
    ]
    return "\n\n".join(parts)
