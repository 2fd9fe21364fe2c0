"""How values are spread: their quantiles, and a picture in text."""

from collections.abc import Sequence

_BUCKETS_MS = (1, 2, 3, 4, 5, 7, 10, 20, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000)
_WIDTH = 40


def quantile(values: Sequence[float], part: float) -> float | None:
    """Return the value that `part` of `values` do not exceed, by the nearest rank."""
    if not values:
        return None
    rank = max(0, -(-len(values) * part // 1) - 1)
    return round(sorted(values)[int(rank)], 1)


def histogram(title: str, values_ms: Sequence[float]) -> str:
    """Draw how often a duration occurred, under its title."""
    counts = [0] * (len(_BUCKETS_MS) + 1)
    for value in values_ms:
        counts[sum(value >= bound for bound in _BUCKETS_MS)] += 1
    filled = [at for at, count in enumerate(counts) if count]
    lines = [title]
    for at in range(filled[0], filled[-1] + 1) if filled else ():
        below = at < len(_BUCKETS_MS)
        label = f"< {_BUCKETS_MS[at]} ms" if below else f"≥ {_BUCKETS_MS[-1]} ms"
        bar = "█" * -(-counts[at] * _WIDTH // max(counts))
        lines.append(f"{label:>10} │{bar} {counts[at] or ''}".rstrip())
    return "\n".join(lines)
