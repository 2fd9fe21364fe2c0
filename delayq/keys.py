"""The names of all keys: built here alone, so that every one is known and no two collide.

A lane's keys share the hash tag `{<queue>:<lane>}`, hence one Cluster slot.
"""

import re
import zlib
from dataclasses import dataclass

from delayq.errors import InvalidName

GROUP = "delayq"
"""The consumer group of every lane's stream."""

MAX_LANES = 1_024

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it can stand in a key.

    :raises InvalidName: if it is not 1 to 128 letters, digits, `_`, `.` or `-`
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(f"{kind} {name!r}: use 1 to 128 letters, digits, '_', '.' or '-'")
    return name


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The keys of one lane: a stream, its schedule, its lease."""

    namespace: str
    queue: str
    lane: int = 0

    def __post_init__(self) -> None:
        checked_name("namespace", self.namespace)
        checked_name("queue", self.queue)

    def _part(self, part: str) -> str:
        return f"{self.namespace}:{{{self.queue}:{self.lane}}}:{part}"

    @property
    def stream(self) -> str:
        """STREAM: ready and pending messages."""
        return self._part("stream")

    @property
    def schedule(self) -> str:
        """ZSET: arrival number and id → due ms."""
        return self._part("schedule")

    @property
    def bodies(self) -> str:
        """HASH: id of a scheduled message → arrival number and its fields."""
        return self._part("bodies")

    @property
    def arrival(self) -> str:
        """STRING: the last arrival number; deleted when the schedule is empty."""
        return self._part("arrival")

    @property
    def recent(self) -> str:
        """ZSET: `i:` and id, `d:` and dedup id of late publishes → ms until which it is known."""
        return self._part("recent")

    @property
    def dedup(self) -> str:
        """HASH: dedup id → due ms and id of its first message."""
        return self._part("dedup")

    @property
    def parked(self) -> str:
        """HASH: parked key → id of the message that the others of its key wait for."""
        return self._part("parked")

    @property
    def waiting(self) -> str:
        """ZSET: the messages of parked keys, by key and place in its order. See `row_of`."""
        return self._part("waiting")

    @property
    def halted(self) -> str:
        """HASH: the entry that the lane stopped at, and why."""
        return self._part("halted")

    @property
    def ticked(self) -> str:
        """STRING: the last tick of a recurring queue, ms."""
        return self._part("ticked")

    @property
    def standby(self) -> str:
        """ZSET: who stands by → ms when last seen."""
        return self._part("standby")

    @property
    def members(self) -> str:
        """ZSET, of the first lane: consumers that share the queue's lanes → ms when last seen."""
        return self._part("members")

    @property
    def dead(self) -> str:
        """STREAM: dead letters."""
        return self._part("dead")

    @property
    def bell(self) -> str:
        """STREAM of one: rung when a new earliest due time appears."""
        return self._part("bell")

    @property
    def epoch(self) -> str:
        """STRING: the last epoch given out; never expires."""
        return self._part("epoch")

    @property
    def vacancy(self) -> str:
        """STREAM of one: rung when a lease is given back."""
        return self._part("vacancy")

    @property
    def audit(self) -> str:
        """STREAM: what scripts did, where `delayq.verify` has them record it."""
        return audit_of(self.stream)

    def lease(self, consumer: str | None = None) -> str:
        """HASH: the lease of the lane, or where consumers compete, that of one of them."""
        return self._part("lease" if consumer is None else f"lease:{consumer}")

    @property
    def all(self) -> list[str]:
        """Every key that outlives its users; leases of competing consumers end by themselves."""
        streams = [self.stream, self.dead, self.bell, self.vacancy]
        schedule = [self.schedule, self.bodies, self.arrival, self.recent, self.dedup]
        order = [self.parked, self.waiting, self.halted, self.ticked, self.standby, self.members]
        return [*streams, *schedule, *order, self.lease(), self.epoch]


def audit_of(key: str) -> str:
    """Return the name of the audit of the lane that `key` belongs to."""
    tag, _, _ = key.partition("}:")
    return f"{tag}}}:audit"


def registry(namespace: str) -> str:
    """HASH: name of each queue of a namespace → number of its lanes."""
    return f"{checked_name('namespace', namespace)}:lanes"


def lane_of(route: str, lanes: int) -> int:
    """Tell the lane of what is known by `route`: CRC-32 of its UTF-8 bytes, modulo `lanes`.

    It is the CRC of zlib, gzip and PNG (IEEE 802.3), which every language has.
    """
    return zlib.crc32(route.encode(errors="surrogatepass")) % lanes
