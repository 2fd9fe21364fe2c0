"""When which fault is done: by seed, so that the same seed breaks the same things."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that is to be done."""

    at_s: float
    """After the beginning."""
    fault: str
    seed: int
    """Of what the fault itself leaves to chance."""


def strikes(seed: int, seconds: float, every_s: float, faults: Sequence[str]) -> Iterator[Strike]:
    """Yield the faults of a run in their order: each kind once, in turn, before any comes again.

    :param every_s: the mean time between two
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    at_s, left = 0.0, list[str]()
    while faults:
        at_s += every_s * chance.uniform(0.5, 1.5)
        if at_s >= seconds:
            return
        if not left:
            left = chance.sample(faults, len(faults))
        yield Strike(at_s, left.pop(), chance.getrandbits(32))
