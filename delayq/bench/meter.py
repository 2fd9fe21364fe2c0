"""The meter: what a stretch of time cost, in time and in CPU, here and at the server."""

import gc
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from delayq.clock import mono_s
from delayq.scripts import command


@dataclass(frozen=True, slots=True)
class Cost:
    """What `count` messages cost."""

    count: int
    wall_s: float
    client_s: float
    """CPU of this process."""
    server_s: float
    """CPU of the server, for all of its clients."""

    @property
    def per_s(self) -> float:
        """Messages per second."""
        return self.count / self.wall_s

    @property
    def client_us(self) -> float:
        """CPU of this process per message, µs."""
        return self.client_s / self.count * 1e6

    @property
    def server_us(self) -> float:
        """CPU of the server per message, µs."""
        return self.server_s / self.count * 1e6


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the server counts, at one moment."""

    cpu_s: float
    reads: int
    """Calls that came in from all clients; what scripts call is not counted."""
    memory_bytes: int


async def gauge(client: Redis) -> Gauge:
    """Read what the server counts.

    :raises ServerError: if the server did not answer, or refused
    """
    about = await command(client, "INFO")
    cpu_s = about["used_cpu_user"] + about["used_cpu_sys"]
    return Gauge(cpu_s, int(about["total_reads_processed"]), int(about["used_memory"]))


class Meter:
    """Measures from `start` to `stop`, which wait for nothing, so that a callback may call them."""

    def __init__(self, client: Redis, before: Gauge) -> None:
        self._client = client
        self._before = before
        self.start()
        self.stop()

    @classmethod
    async def ready(cls, client: Redis) -> "Meter":
        """Return a meter that is started. What the server does counts from here on.

        Python's collector goes through what was made before now, lest some turns pay for all.
        """
        gc.collect()
        return cls(client, await gauge(client))

    def start(self) -> None:
        """Count time and CPU of this process from now on."""
        self._from = mono_s(), time.process_time()

    def stop(self) -> None:
        """Count them up to now."""
        self._to = mono_s(), time.process_time()

    async def cost(self, count: int) -> Cost:
        """Tell what `count` messages cost."""
        after = await gauge(self._client)
        wall_s, client_s = (to - began for began, to in zip(self._from, self._to, strict=True))
        return Cost(count, wall_s, client_s, after.cpu_s - self._before.cpu_s)
