"""What roles talk to the server through: one link for a role, or for all roles of a process."""

from dataclasses import dataclass

from redis.asyncio import Redis

from delayq.transport.anchor import Anchor
from delayq.transport.bells import Bells


@dataclass(frozen=True, slots=True)
class Link:
    """Connections that die with who opened them; their number is not that of queues and lanes."""

    client: Redis
    """For calls that are answered at once. In a Cluster a `RedisCluster`, which answers alike."""
    anchor: Anchor
    """For leases, and the sign of life that they name."""
    bells: Bells
    """For waiting."""
