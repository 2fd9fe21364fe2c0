"""What is published, and what a handler does with it: by seed, and without doing it.

A body tells its handler what to do: so a message is treated alike in whichever process it is
handled, and however often.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

KEYS = 32
LONG_S = 3600.0
"""A delay that nobody waits for: such a message is cancelled, or given another time."""

Body = dict[str, Any]
How = Literal["one", "many", "together", "repeated", "deduplicated", "cancelled", "rescheduled"]

_HOWS: dict[How, int] = {
    "one": 50,
    "many": 25,
    "together": 12,
    "repeated": 4,
    "deduplicated": 3,
    "cancelled": 3,
    "rescheduled": 3,
}
_DOINGS: dict[str, int] = {
    "pass": 9_400,
    "wait": 300,
    "check": 100,
    "raise": 100,
    "later": 80,
    "reject": 20,
}


@dataclass(frozen=True, slots=True)
class Item:
    """A message to publish."""

    body: Body
    key: str | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """What a producer does next."""

    how: How
    items: tuple[Item, ...]
    again_s: float
    """Of what is rescheduled: its delay then."""


def steps(seed: int) -> Iterator[Step]:
    """Yield what the producer of this seed does, without end."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    while True:
        [how] = chance.choices(list(_HOWS), list(_HOWS.values()))
        if how == "many":
            size = chance.choice((5, 20, 60))
        elif how == "together":
            size = chance.randint(2, 12)
        else:
            size = 1
        items = tuple(_item(chance, how) for _ in range(size))
        yield Step(how, items, again_s=chance.choice((0, 0.05, 0.4)))


def _item(chance: random.Random, how: How) -> Item:
    [do] = chance.choices(list(_DOINGS), list(_DOINGS.values()))
    body = {"do": do, "times": chance.randint(1, 3), "ms": chance.randint(1, 20)}
    if do == "raise" and chance.random() < 0.1:
        body["times"] = 1_000
    key = f"k{chance.randrange(KEYS)}" if chance.random() < 0.9 else None
    if how in ("cancelled", "rescheduled"):
        return Item(body, key, LONG_S)
    delay_s = 0.0 if chance.random() < 0.6 else chance.choice((0.001, 0.02, 0.1, 0.5, 1.5))
    return Item(body, key, delay_s)


def poison(how: str, ms: int) -> Item:
    """Return a message that is bad for whoever handles it: `how` is "die", "hang" or "block"."""
    return Item({"do": how, "times": 2, "ms": ms}, "k0", 0.0)
