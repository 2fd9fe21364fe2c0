"""What a role talks to the server through: one link, whatever the number of its lanes."""

from dataclasses import dataclass

from redis.asyncio import Redis

from delayq.anchor import Anchor
from delayq.bells import Bells


@dataclass(frozen=True, slots=True)
class Link:
    """The connections of one role: they die with it."""

    client: Redis
    """For calls that are answered at once."""
    anchor: Anchor
    """For leases, and the sign of life that they name."""
    bells: Bells
    """For waiting."""
