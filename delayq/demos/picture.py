"""Pictures of a run, in text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from delayq.demos.report import Handling

_SIGNS = {"active": "█", "standby": "·", "stalled": "░"}


@dataclass(frozen=True, slots=True)
class Turn:
    """From `at_s` on a consumer was active, standby, stalled; or it was not there."""

    consumer: str
    at_s: float
    state: str
    epoch: int = 0


def timeline(
    turns: Iterable[Turn],
    handlings: Sequence[Handling],
    start_s: float,
    end_s: float,
    columns: int = 84,
) -> str:
    """Draw, per consumer, when it was what; below, which messages it handled in each term."""
    turns = list(turns)
    consumers = sorted({turn.consumer for turn in turns})
    margin = max((len(name) for name in consumers), default=0) + 2
    width = max(10, min(72, columns - margin))
    span_s = max(0.001, end_s - start_s)

    def column(at_s: float) -> int:
        return min(width - 1, max(0, int((at_s - start_s) / span_s * width)))

    lines = [" " * margin + _axis(span_s, width)]
    for name in consumers:
        cells = [" "] * width
        labels = [" "] * (width + 24)
        own = sorted((turn for turn in turns if turn.consumer == name), key=lambda turn: turn.at_s)
        for turn, following in zip(own, [*own[1:], None], strict=True):
            until = column(following.at_s) if following else width
            for at in range(column(turn.at_s), max(until, column(turn.at_s) + 1)):
                cells[at] = _SIGNS.get(turn.state, " ")
            if turn.state == "active" and turn.epoch:
                _write(labels, column(turn.at_s), _numbers(handlings, turn.epoch))
        lines += [name.ljust(margin) + "".join(cells), " " * margin + "".join(labels).rstrip()]
    lines.append("█ active: messages handled   · standby   ░ stalled   blank: gone")
    return "\n".join(line.rstrip() for line in lines)


def _axis(span_s: float, width: int) -> str:
    axis = [" "] * (width + 8)
    seconds, step = 0, max(1, round(span_s / 6))
    while seconds <= span_s:
        _write(axis, int(seconds / span_s * width), f"{seconds}s")
        seconds += step
    return "".join(axis).rstrip()


def _numbers(handlings: Sequence[Handling], epoch: int) -> str:
    numbers = [handling.number for handling in handlings if handling.epoch == epoch]
    return f"{numbers[0]}–{numbers[-1]}" if numbers else ""


def _write(cells: list[str], at: int, text: str) -> None:
    """Write `text` at a column, or right of what stands there already."""
    while at < len(cells) and (cells[at] != " " or (at and cells[at - 1] != " ")):
        at += 1
    cells[at : at + len(text)] = text[: max(0, len(cells) - at)]
