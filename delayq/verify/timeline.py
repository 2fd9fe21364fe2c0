"""The picture of who held what when, and of what was broken: a part of the page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from delayq.keys import own_name_of
from delayq.verify.history import Fault, Lease
from delayq.verify.outcome import Outcome

WIDTH = 1_060
MARGIN = 130
ROW = 22
_HELD = "held to the end"
_ENDS = {"released": "#3c8dbc", "taken over": "#d9822b", "expired": "#b3261e", _HELD: "#3aa76d"}
_TICKS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400)


@dataclass(frozen=True, slots=True)
class _Scheme:
    """What rows there are, and what colours say."""

    rows: list[str]
    row: Callable[[Lease], str]
    colours: dict[str, str]
    says: Callable[[Lease], str]


def timeline(outcome: Outcome) -> str:
    """Draw the terms of leases, and above them a mark for each fault.

    There is a row for each consumer, and colours tell how its terms ended. Of an ordered queue of
    several lanes there is a row for each lane, and colours tell who held it.
    """
    figures, leases = outcome.figures, outcome.verdict.leases
    by_lane = figures.ordered and outcome.settings.lanes > 1
    scheme = _by_lane(leases) if by_lane else _by_consumer(leases)
    span_s = max(0.001, (figures.ended_ns - figures.began_ns) / 1e9)
    height = ROW * (len(scheme.rows) + 2)

    def x(at_s: float) -> float:
        return MARGIN + min(1, max(0, at_s / span_s)) * (WIDTH - MARGIN - 10)

    drawn = [f"<text x='0' y='{ROW - 7}'>faults</text>"]
    for fault in figures.faults:
        at = x((fault.at_ns - figures.began_ns) / 1e9)
        drawn.append(_mark(fault, at, height - ROW))
    for row, name in enumerate(scheme.rows, 1):
        drawn.append(f"<text x='0' y='{(row + 1) * ROW - 7}'>{escape(name)}</text>")
    tops = {name: row * ROW for row, name in enumerate(scheme.rows, 1)}
    for lease in leases:
        until_us = lease.until_us
        ends = span_s if until_us is None else figures.at_s(until_us)
        place = x(figures.at_s(lease.since_us)), x(ends), tops[scheme.row(lease)]
        drawn.append(_bar(lease, scheme.colours[scheme.says(lease)], *place))
    drawn += _axis(span_s, x, height)
    return f"{svg(drawn, height)}{_legend(scheme)}"


def svg(drawn: Sequence[str], height: float) -> str:
    """Return a picture of these elements."""
    size = f"width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>{''.join(drawn)}</svg>"


def _by_consumer(leases: Sequence[Lease]) -> _Scheme:
    return _Scheme(sorted(set(map(_consumer, leases))), _consumer, _ENDS, _end)


def _by_lane(leases: Sequence[Lease]) -> _Scheme:
    names = sorted(set(map(_consumer, leases)))
    # Hues of neighbours are far from each other.
    colours = {name: f"hsl({(200 + at * 137) % 360} 55% 52%)" for at, name in enumerate(names)}
    lanes = sorted({lease.lane for lease in leases})
    return _Scheme([f"lane {lane}" for lane in lanes], _lane, colours, _consumer)


def _consumer(lease: Lease) -> str:
    return own_name_of(lease.holder)


def _lane(lease: Lease) -> str:
    return f"lane {lease.lane}"


def _end(lease: Lease) -> str:
    return lease.ended or _HELD


def _mark(fault: Fault, at: float, bottom: float) -> str:
    who = f" of {fault.target}" if fault.target else ""
    title = escape(f"{fault.kind}{who} {fault.note}".strip())
    colour = "#b3261e" if fault.kind in ("kill", "server kill") else "#889"
    place = f"x1='{at:.1f}' x2='{at:.1f}' y1='4' y2='{bottom:.1f}'"
    return f"<line {place} stroke='{colour}' stroke-opacity='.55'><title>{title}</title></line>"


def _bar(lease: Lease, colour: str, left: float, right: float, top: float) -> str:
    title = escape(f"{lease.holder}: {_end(lease)}")
    width = max(1.0, right - left)
    return (
        f"<rect x='{left:.1f}' y='{top + 3}' width='{width:.1f}' height='{ROW - 7}' rx='2' "
        f"style='fill:{colour};fill-opacity:.8'><title>{title}</title></rect>"
    )


def _axis(span_s: float, x: Callable[[float], float], height: float) -> Iterator[str]:
    step = next((tick for tick in _TICKS_S if span_s / tick <= 12), _TICKS_S[-1])
    for at_s in range(0, int(span_s) + 1, step):
        yield f"<text class='axis' x='{x(at_s):.1f}' y='{height - 5}'>{at_s} s</text>"


def _legend(scheme: _Scheme) -> str:
    told = " ".join(
        f"<span style='color:{colour}'>■</span> {escape(what)}&ensp;"
        for what, colour in scheme.colours.items()
    )
    return f"<p class='quiet'>{told} | fault (hover for what it was)</p>"
