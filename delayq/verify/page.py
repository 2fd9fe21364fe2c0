"""The report of a run as one HTML page, with its pictures inside: it needs nothing else to open."""

from collections.abc import Iterator, Sequence
from html import escape

from delayq.verify.figures import BOUNDS_MS, Histogram
from delayq.verify.outcome import Outcome
from delayq.verify.timeline import MARGIN, ROW, WIDTH, svg, timeline

FEW = 5
"""Of fewer failovers no histogram is drawn: the table says it all."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em }
body { color: #1c2733 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
.beside { display: flex; gap: 6em }
table { border-collapse: collapse }
td, th { padding: 2px 14px 2px 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f4f6f8; padding: 1em; overflow-x: auto } svg { display: block }
.ok { color: #0a7a3c } .bad { color: #b3261e } .quiet { color: #667 }
rect { fill: #3c8dbc }
svg text { font: 12px system-ui, sans-serif; fill: #1c2733 } svg .axis { fill: #667 }
"""


def page(outcome: Outcome) -> str:
    """Return the page."""
    verdict, ok = outcome.verdict, outcome.ok
    said = "every invariant held" if ok else "NOT OK"
    parts = [
        f"<h1>delayq verify: <span class='{'ok' if ok else 'bad'}'>{said}</span></h1>",
        f"<p>{outcome.took_s:.0f} s, ordering {outcome.settings.ordering}, seed {outcome.seed}. "
        f"Again: <code>{escape(outcome.replay)}</code></p>",
        *_violations(outcome),
        "<h2>Who held which lease, and what was broken</h2>",
        timeline(outcome),
        "<h2>Lanes without an owner</h2>",
        _table(
            ("cause", "count", "p50 ms", "p99 ms", "max ms", "longer than a failover may take"),
            [(cause, *told.values()) for cause, told in outcome.ownerless.items()],
        ),
        "<h2>Failover: from the fault to the first message of the next holder</h2>",
        _table(
            ("cause", "count", "p50 ms", "p99 ms"),
            [(cause, *told.values()) for cause, told in outcome.failovers.items()],
        ),
        *(_histogram(*told) for told in outcome.failover_histograms() if told[1].total >= FEW),
        "<h2>Lateness: from the due time to the first handling</h2>",
        _table(("", "ms"), list(verdict.lateness_ms.items())),
        _histogram("messages", outcome.figures.lateness),
        "<div class='beside'>",
        f"<div><h2>Faults</h2>{_table(('fault', 'times'), sorted(outcome.struck.items()))}</div>",
        f"<div><h2>Counts</h2>{_table(('', ''), list(verdict.counts.items()))}</div>",
        "</div>",
    ]
    head = f"<meta charset='utf-8'><title>delayq verify</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _violations(outcome: Outcome) -> Iterator[str]:
    for line in outcome.complaints:
        yield f"<p class='bad'>{escape(line)}</p>"
    for violation in outcome.shown:
        yield f"<h2 class='bad'>{violation.invariant}: {escape(violation.sentence)}</h2>"
        yield f"<pre>{escape(chr(10).join(violation.window))}</pre>"


def _histogram(title: str, histogram: Histogram) -> str:
    counts = histogram.counts
    used = [at for at, count in enumerate(counts) if count]
    if not used:
        return ""
    labels = [*(f"&lt; {bound}" for bound in BOUNDS_MS), f"≥ {BOUNDS_MS[-1]}"]
    drawn = []
    for row, at in enumerate(range(used[0], used[-1] + 1)):
        top, width = row * ROW, counts[at] / max(counts) * (WIDTH - MARGIN - 90)
        place = f"y='{top + 15}'"
        drawn += [
            f"<text class='axis' x='{MARGIN - 8}' {place} text-anchor='end'>{labels[at]} ms</text>",
            f"<rect x='{MARGIN}' y='{top + 3}' width='{width:.1f}' height='{ROW - 7}'/>",
            f"<text x='{MARGIN + width + 6:.1f}' {place}>{counts[at] or ''}</text>",
        ]
    return f"<p class='quiet'>{escape(title)}</p>{svg(drawn, (used[-1] - used[0] + 1) * ROW)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p class='quiet'>none</p>"
    cells = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{cells}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f"<td class='n'>{value:,}</td>"
    return f"<td>{escape(str(value))}</td>"
