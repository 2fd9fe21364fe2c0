"""The names of all keys: built here alone, so that every one is known and no two collide.

A lane's keys share the hash tag `{<queue>:<lane>}`, hence one Cluster slot.
"""

import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property

from delayq.errors import InvalidName

GROUP = "delayq"
"""The consumer group of a queue's own handler."""

MAX_LANES = 1_024

MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def checked_name(kind: str, name: str, most: int = MAX_NAME) -> str:
    """Return `name` if it can stand in a key.

    :param most: characters
    :raises InvalidName: if it is not 1 to `most` letters, digits, `_`, `.` or `-`
    """
    if not isinstance(name, str) or len(name) > most or not _NAME.fullmatch(name):
        raise InvalidName(f"{kind} {name!r}: use 1 to {most} letters, digits, '_', '.' or '-'")
    return name


@dataclass(frozen=True)
class LaneKeys:
    """The keys of one lane: a stream, its schedule, its lease.

    The groups of a queue share its stream, and what publishing needs. Another group than that of
    the queue's own handler has a lease of its own, dead letters, and a schedule for its retries.
    """

    namespace: str
    queue: str
    lane: int = 0
    group: str = GROUP

    def __post_init__(self) -> None:
        checked_name("namespace", self.namespace)
        checked_name("queue", self.queue)
        checked_name("group", self.group)

    def _part(self, part: str) -> str:
        return f"{self.namespace}:{{{self.queue}:{self.lane}}}:{part}"

    def _own(self, part: str) -> str:
        return self._part(part if self.group == GROUP else f"group:{self.group}:{part}")

    @property
    def full_name(self) -> str:
        """The queue's name, and behind a slash that of the group, unless it is the queue's own."""
        return self.queue if self.group == GROUP else f"{self.queue}/{self.group}"

    @cached_property
    def shared(self) -> "LaneKeys":
        """Those of the queue's own handler: its schedule is that of what is published."""
        return self if self.group == GROUP else replace(self, group=GROUP)

    @cached_property
    def publishing(self) -> tuple[str, ...]:
        """Those of publish.lua, in its order."""
        ready = (self.stream, self.schedule, self.bodies, self.arrival)
        return (*ready, self.dead, self.bell, self.recent, self.dedup)

    @cached_property
    def publishing_one(self) -> tuple[str, ...]:
        """Those of publish_one.lua, in its order."""
        return (self.stream, self.schedule, self.dedup)

    @property
    def stream(self) -> str:
        """STREAM: ready and pending messages."""
        return self._part("stream")

    @property
    def schedule(self) -> str:
        """ZSET: arrival number and id → due ms. Of another group: its retries."""
        return self._own("schedule")

    @property
    def bodies(self) -> str:
        """HASH: id of a scheduled message → arrival number and its fields."""
        return self._own("bodies")

    @property
    def arrival(self) -> str:
        """STRING: the last arrival number; deleted when the schedule is empty."""
        return self._own("arrival")

    @property
    def recent(self) -> str:
        """ZSET: `c:` and caller, `i:` and id, `d:` and dedup id → ms until which it is known."""
        return self._part("recent")

    @property
    def dedup(self) -> str:
        """HASH: `c:`, caller → number, ms, first id of its last call; `d:`, dedup id → due, id."""
        return self._part("dedup")

    @property
    def parked(self) -> str:
        """HASH: parked key → id of the message that the others of its key wait for."""
        return self._own("parked")

    @property
    def waiting(self) -> str:
        """ZSET: the messages of parked keys, by key and place in its order. See `row_of`."""
        return self._own("waiting")

    @property
    def halted(self) -> str:
        """HASH: the entry that the lane stopped at, and why."""
        return self._own("halted")

    @property
    def ticked(self) -> str:
        """STRING: the last tick of a recurring queue, ms."""
        return self._part("ticked")

    @property
    def standby(self) -> str:
        """ZSET: who stands by → ms when last seen."""
        return self._own("standby")

    @property
    def members(self) -> str:
        """ZSET, of the first lane: consumers that share the queue's lanes → ms when last seen."""
        return self._own("members")

    @property
    def survey(self) -> str:
        """STRING: which of the consumers that compete looks for dead ones; fades in a second."""
        return self._own("survey")

    @property
    def dead(self) -> str:
        """STREAM: dead letters."""
        return self._own("dead")

    @property
    def bell(self) -> str:
        """STREAM of one: rung when a new earliest due time appears."""
        return self._own("bell")

    @property
    def epoch(self) -> str:
        """STRING: the last epoch given out; never expires."""
        return self._own("epoch")

    @property
    def vacancy(self) -> str:
        """STREAM of one: rung when a lease is given back, or its holder is asked for something."""
        return self._own("vacancy")

    @property
    def audit(self) -> str:
        """STREAM: what scripts did, where `delayq.verify` has them record it."""
        return audit_of(self.stream)

    def lease(self, consumer: str | None = None) -> str:
        """HASH: the lease of the lane, or where consumers compete, that of one of them."""
        return self._own("lease" if consumer is None else f"lease:{consumer}")

    @property
    def own(self) -> list[str]:
        """Those of the group alone that outlive its consumers.

        Leases of competing consumers end by themselves.
        """
        order = [self.parked, self.waiting, self.halted]
        roles = [self.standby, self.members, self.survey]
        retries = [self.schedule, self.bodies, self.arrival, self.bell]
        own = [self.dead, self.vacancy, *order, *roles, self.lease(), self.epoch]
        return own if self.group == GROUP else [*own, *retries]

    @property
    def all(self) -> list[str]:
        """Every key of the queue and its own handler, or of the group, as `own`."""
        if self.group != GROUP:
            return self.own
        schedule = [self.schedule, self.bodies, self.arrival, self.bell, self.recent, self.dedup]
        return [self.stream, *schedule, self.ticked, *self.own]


def own_name_of(consumer: str) -> str:
    """Return the name that a consumer's process gave it: in Redis its epoch stands behind it."""
    return consumer.rpartition("@")[0]


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
