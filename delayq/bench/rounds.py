"""Rounds: contenders are measured in turns, so that what disturbs a machine disturbs all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from delayq.bench.meter import Cost
from delayq.bench.report import Figure
from delayq.bench.stage import Stage

_WARM_UP = 500
"""Messages of the first turn, which does not count: connections open, scripts are loaded."""

Run = Callable[[int], Awaitable[Cost]]
"""Given how many messages, does what is measured, and tells what it cost."""


@dataclass(frozen=True, slots=True)
class Contender:
    """What is measured, and against which raw loop; against none if it is one."""

    name: str
    run: Run
    against: str | None = None


Costs = Mapping[str, Sequence[Cost]]
"""By the name of the contender, in the order of the rounds."""


async def rounds(
    stage: Stage, what: str, contenders: Sequence[Contender], count: int, most: int = 100
) -> Costs:
    """Measure each contender in each round: forwards, then backwards, and so on.

    :param count: messages of each turn
    :param most: rounds at most
    """
    taking_part = [c for c in contenders if c.against or stage.settings.compare == "raw"]
    times = min(stage.settings.rounds, most)
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in taking_part}
    turns = [(at, c) for at in range(times + 1) for c in taking_part[:: -1 if at % 2 else 1]]
    for done, (at, contender) in enumerate(turns):
        stage.tell(what, done, len(turns))
        cost = await contender.run(count if at else min(count, _WARM_UP))
        if at:
            costs[contender.name].append(cost)
    return costs


def figures(contenders: Sequence[Contender], costs: Costs) -> list[Figure]:
    """Make a figure of each contender: medians, and the median ratio of each round's rates."""
    return [
        Figure(contender.name, rates(costs[contender.name]) | {"ratio": ratio(contender, costs)})
        for contender in contenders
        if contender.name in costs
    ]


def rates(costs: Sequence[Cost]) -> dict[str, float | None]:
    """Return the medians: messages/s, and µs of CPU per message."""
    return {
        name: median(getattr(cost, name) for cost in costs)
        for name in ("per_s", "client_us", "server_us")
    }


def ratio(contender: Contender, costs: Costs) -> float | None:
    """Return how many times the rate of what it is compared with a contender reaches."""
    others = costs.get(contender.against or "")
    if others is None:
        return None
    pairs = zip(costs[contender.name], others, strict=True)
    return median(own.per_s / other.per_s for own, other in pairs)
