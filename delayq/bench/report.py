"""The report: figures as values, drawn as tables, or told as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from delayq.bench.goals import GOALS, Goal
from delayq.distribution import histogram


@dataclass(frozen=True, slots=True)
class Figure:
    """What was found of one thing: values by name, each with its unit."""

    name: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Section:
    """What one measurement found."""

    measurement: str
    title: str
    figures: Sequence[Figure]
    distributions: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Durations in ms, to be drawn."""
    notes: Sequence[str] = ()

    def goals(self, figure: Figure) -> list[tuple[Goal, bool]]:
        """Return the goals of a figure, and whether each is met; those of no value left out."""
        of_it = (g for g in GOALS if (g.measurement, g.figure) == (self.measurement, figure.name))
        found = ((goal, figure.values.get(goal.value)) for goal in of_it)
        return [(goal, goal.met(value)) for goal, value in found if value is not None]

    def as_text(self) -> str:
        """Draw the section."""
        alike = groupby(self.figures, key=lambda figure: list(figure.values))
        tables = [self._table(names, list(figures)) for names, figures in alike]
        pictures = [histogram(title, values) for title, values in self.distributions.items()]
        return "\n\n".join([self.title, *tables, *pictures, *self.notes])

    def as_value(self) -> dict[str, Any]:
        """Return the section for programs."""
        return {
            "measurement": self.measurement,
            "title": self.title,
            "figures": [
                {
                    "name": figure.name,
                    **figure.values,
                    "goals": [
                        {"value": g.value, "sense": g.sense, "limit": g.limit, "met": met}
                        for g, met in self.goals(figure)
                    ],
                }
                for figure in self.figures
            ],
            "notes": list(self.notes),
        }

    def _table(self, names: Sequence[str], figures: Sequence[Figure]) -> str:
        rows = ([f.name, *map(shown, f.values.values()), self._told(f)] for f in figures)
        return columns([self.measurement, *map(heading, names), "goal"], rows)

    def _told(self, figure: Figure) -> str:
        return "  ".join(f"{'✓' if met else '✗'} {goal.text}" for goal, met in self.goals(figure))


@dataclass
class Report:
    """All that was found, and on what."""

    on: Mapping[str, str]
    """Versions and the machine, by name."""
    warnings: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def as_text(self) -> str:
        """Draw the report."""
        head = " · ".join(f"{name} {value}" for name, value in self.on.items())
        parts = [head, *(f"warning: {warning}" for warning in self.warnings)]
        return "\n".join([*parts, *("\n" + section.as_text() for section in self.sections)])

    def as_json(self) -> str:
        """Return the report as one JSON document."""
        value = {
            "on": dict(self.on),
            "warnings": self.warnings,
            "sections": [section.as_value() for section in self.sections],
        }
        return json.dumps(value, separators=(",", ":"))


def columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Draw rows under their names: the first and the last column to the left, numbers right."""
    cells = [list(names), *map(list, rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    lines = []
    for row in cells:
        first, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        placed = [first.strip().ljust(widths[0]), *numbers[:-1], row[-1]]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)


def heading(name: str) -> str:
    """Write the name of a value as people do: its unit after it."""
    told = name.replace("_per_s", "/s").replace("_percent", " %").replace("_us", " µs")
    return "messages/s" if name == "per_s" else told.replace("_", " ")


def shown(value: float | None) -> str:
    """Write a value with about three digits."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
