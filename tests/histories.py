"""Histories made by hand: what a server and processes would have recorded, call by call."""

import json
import math
from typing import Any

from delayq.verify.checker import Checker
from delayq.verify.history import (
    Audited,
    Checked,
    Declared,
    Fault,
    Found,
    Handled,
    Handling,
    InLane,
    Published,
    PublishFailed,
    Publishing,
    Recorded,
    Terms,
    Verdict,
    Write,
)

PREFIX = "test:{orders:0}:"
START_MS = 1_000_000


class Story:
    """Makes calls and events one after the other, a second apart, each as it ought to be."""

    def __init__(self, lane: int = 0) -> None:
        self.lane = lane
        self.prefix = f"test:{{orders:{lane}}}:"
        self.calls: list[Audited] = []
        self.events: list[Recorded] = []
        self.now_ms = START_MS
        self.epoch = 0
        self.holder = ""
        self.entries: dict[str, str] = {}
        self.members: dict[str, str] = {}
        self.deliveries: dict[str, int] = {}
        self.keys: dict[str, list[str]] = {}
        self.scores: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.base: dict[str, int] = {}
        self.arrival = 0

    # -- the audit --

    def call(
        self,
        script: str,
        *writes: tuple[str, Any],
        fenced: bool = False,
        refusal: str | None = None,
        epoch: int | None = None,
        consumer: str | None = None,
        took_ms: int = 0,
    ) -> None:
        """Record a call. Each write is its words, keys being `:part`, and its reply."""
        self.now_ms += 1_000
        if fenced:
            epoch, consumer = epoch or self.epoch, consumer or self.holder
        done = tuple(Write(self._words(words), reply) for words, reply in writes)
        lease = f"{self.prefix}lease" if epoch is not None else None
        at = f"{self.now_ms}-0"
        began_us, ended_us = self.now_ms * 1000, (self.now_ms + took_ms) * 1000
        made = (at, "orders", self.lane, script, began_us, ended_us, ended_us)
        self.now_ms += took_ms
        self.calls.append(Audited(*made, epoch, consumer, lease, refusal, done))

    # A `_` in a word is a space.
    def _words(self, words: str) -> tuple[str, ...]:
        parts = (self.prefix + w[1:] if w.startswith(":") else w for w in words.split(" "))
        return tuple(part.replace("_", " ") for part in parts)

    def publish(self, name: str, delay_ms: int | None = None, key: str | None = None) -> None:
        """Accept a message, due now, or after a delay."""
        self.keys[name] = ["key", key] if key else []
        if delay_ms is None:
            self.call("publish", self.xadd(name, self.now_ms + 1_000))
        else:
            self.call("publish", *self.schedule(name, self.now_ms + 1_000 + delay_ms))

    def xadd(self, name: str, due_ms: int, **more: Any) -> tuple[str, str]:
        """Put a message into the stream."""
        entry = f"{self.now_ms + 1_000}-{len(self.entries)}"
        self.entries[name], self.deliveries[name] = entry, 0
        fields = ["id", name, "due", due_ms, "body", name, *self.keys.get(name, [])]
        if self.base.get(name):
            fields += ["deliveries", self.base[name]]
        for field, value in more.items():
            fields += [field, value]
        return f"XADD :stream * {' '.join(map(str, fields))}", entry

    def schedule(self, name: str, due_ms: float, *more: str) -> list[tuple[str, str]]:
        """Put a message on the schedule."""
        self.arrival += 1
        number = f"{self.arrival:012x}"
        self.members[name], self.scores[name] = number + name, math.ceil(due_ms)
        fields = ["body", name, *self.keys.get(name, []), *more]
        packed = number + json.dumps(fields, separators=(",", ":"))
        return [
            ("INCR :arrival", str(self.arrival)),
            (f"HSET :bodies {name} {packed}", "1"),
            (f"ZADD :schedule {due_ms} {self.members[name]}", "1"),
        ]

    def unschedule(self, *names: str) -> list[tuple[str, str]]:
        """Take messages off the schedule."""
        members = [self.members.pop(name) for name in names]
        writes = [
            (f"ZREM :schedule {' '.join(members)}", str(len(names))),
            (f"HDEL :bodies {' '.join(names)}", str(len(names))),
        ]
        if not self.members:
            self.arrival = 0
            writes.append(("DEL :arrival", "1"))
        return writes

    def promote(self, *names: str) -> None:
        """Move messages to the stream."""
        added = [self.xadd(name, self.scores[name]) for name in names]
        self.call("promote", *added, *self.unschedule(*names))

    def acquire(self, name: str, *, dead: bool = False, epoch: int = 0) -> None:
        """Give the lease to a consumer; from one who is dead, if it is not over."""
        self.epoch = epoch or self.now_ms + 1_000
        self.holder = f"{name}@{self.epoch}"
        values = f"holder {self.holder} epoch {self.epoch} nonce n connection 7 since 1"
        self.call(
            "acquire",
            *([("DEL :lease", "1")] if dead else []),
            (f"SET :epoch {self.epoch}", "OK"),
            (f"HSET :lease {values}", "5"),
            ("PEXPIRE :lease 600000", "1"),
        )

    def release(self) -> None:
        """Give the lease back."""
        self.call("release", ("DEL :lease", "1"), fenced=True)

    def fetch(self, *names: str, acks: tuple[str, ...] = (), **who: Any) -> None:
        """Deliver messages: those that are pending by XCLAIM, others by XREADGROUP."""
        consumer = who.get("consumer", self.holder)
        writes: list[tuple[str, Any]] = [*self.acked(*acks), ("HSET :lease call x", "1")]
        for name in [name for name in names if self.deliveries[name]]:
            self.deliveries[name] += 1
            claim = f"XCLAIM :stream delayq {consumer} 0 {self.entries[name]}"
            writes.append((f"{claim} RETRYCOUNT {self.deliveries[name]}", (self.entries[name],)))
        if new := [name for name in names if not self.deliveries[name]]:
            self.deliveries |= dict.fromkeys(new, 1)
            writes.append((self.read(consumer), tuple(self.entries[name] for name in new)))
        self.call("fetch", *writes, fenced=True, **who)

    @staticmethod
    def read(consumer: str) -> str:
        """Return the command that reads what is new."""
        return f"XREADGROUP GROUP delayq {consumer} COUNT 9 STREAMS :stream >"

    def acked(self, *names: str) -> list[tuple[str, str]]:
        """Acknowledge messages."""
        entries = " ".join(self.entries[name] for name in names)
        count = str(len(names))
        both = [(f"XACK :stream delayq {entries}", count), (f"XDEL :stream {entries}", count)]
        return both if names else []

    def ack(self, *names: str, **who: Any) -> None:
        """Acknowledge messages."""
        self.call("ack", *self.acked(*names), fenced=True, **who)

    def reclaim(self, *names: str) -> None:
        """Make pending messages the holder's own."""
        entries = tuple(self.entries[name] for name in names)
        claim = f"XCLAIM :stream delayq {self.holder} 0 {' '.join(entries)} JUSTID"
        self.call("reclaim", (claim, entries), fenced=True)

    def retry(self, name: str, delay_ms: int = 100, *more: str) -> None:
        """Put a pending message back on the schedule."""
        base = self.base[name] = self.base.get(name, 0) + self.deliveries[name]
        due_ms = self.now_ms + 1_000 + delay_ms
        back = self.schedule(name, due_ms, "deliveries", str(base), *more)
        self.call("retry", *back, *self.acked(name), fenced=True)

    def park(self, name: str, due_ms: float, *more: tuple[str, str]) -> None:
        """Put a message back that waits for another one of its key."""
        back = self.schedule(name, due_ms, "place", self.places[name])
        self.call("park", *self.waits(name), *more, *back, *self.acked(name), fenced=True)

    def row(self, name: str) -> str:
        """Return the row of a message that waits."""
        key, place = self.keys[name][1], self.places.setdefault(name, self.entries[name])
        ms, _, number = place.partition("-")
        return f"{len(key):08x}{key}{int(ms):016x}{int(number):016x}_{name}"

    def waits(self, name: str) -> list[tuple[str, str]]:
        """Have a message wait in its place."""
        return [(f"ZADD :waiting 0 {self.row(name)}", "1")]

    def waits_no_more(self, name: str) -> tuple[str, str]:
        """Have nobody wait for a message."""
        return f"ZREM :waiting {self.row(name)}", "1"

    def let_go(self, name: str, ago_ms: int = 0) -> tuple[str, str]:
        """Make a message due that is held."""
        self.scores[name] = self.now_ms + 1_000 - ago_ms
        return f"ZADD :schedule {self.scores[name]} {self.members[name]}", "0"

    def letter(self, name: str, reason: str, deliveries: int) -> tuple[str, str]:
        """Make a dead letter."""
        fields = f"entry {self.entries[name]} deliveries {deliveries} reason {reason} error -"
        return f"XADD :dead * {fields} id {name} body {name}", f"{self.now_ms + 1_000}-0"

    def dead_letter(self, name: str, reason: str = "rejected", deliveries: int = 0) -> None:
        """Move a pending message to the dead stream."""
        had = deliveries or self.base.get(name, 0) + self.deliveries[name]
        self.call("dead_letter", self.letter(name, reason, had), *self.acked(name), fenced=True)

    # -- logs --

    def log(self, event: type[Recorded], process: str, /, **told: Any) -> None:
        """Record an event, a second after the last one."""
        if issubclass(event, InLane):
            told |= {"queue": "orders", "lane": self.lane}
        self.events.append(event(10**9 * (1 + len(self.events)), process, **told))

    def asked(self, name: str, when: str = "+0", **told: Any) -> None:
        """Record that a publish begins."""
        self.log(Publishing, "p", id=name, when=when, **told)

    def receipt(self, name: str, due_ms: int, receipt_id: str = "", **more: Any) -> None:
        """Record that a publish was answered."""
        told = {"receipt_id": receipt_id or name, "duplicate": bool(receipt_id), **more}
        self.log(Published, "p", id=name, due_ms=due_ms, **told)

    def refused(self, name: str) -> None:
        """Record that a publish was refused."""
        self.log(PublishFailed, "p", id=name, error="full", written=False)

    def begins(self, process: str, name: str, deliveries: int = 0) -> None:
        """Record that a handler is called."""
        told = {"entry": self.entries[name], "epoch": self.epoch, "consumer": self.holder}
        count = deliveries or self.base.get(name, 0) + self.deliveries[name]
        self.log(Handling, process, id=name, deliveries=count, **told)

    def ends(self, process: str, name: str, how: str = "ok", epoch: int = 0) -> None:
        """Record that it ended."""
        told = {"entry": self.entries[name], "epoch": epoch or self.epoch, "how": how}
        self.log(Handled, process, id=name, **told)

    def handle(self, process: str, name: str, how: str = "ok") -> None:
        """Record a call of a handler."""
        self.begins(process, name)
        self.ends(process, name, how)

    def checked(self, process: str, name: str, epoch: int) -> None:
        """Record that a check passed."""
        told = {"entry": self.entries[name], "epoch": epoch, "passed": True}
        self.log(Checked, process, **told)

    def fault(self, kind: str, target: str = "", ms: int = 0) -> None:
        """Record a fault."""
        self.log(Fault, "nemesis", kind=kind, target=target, ms=ms)

    # -- the verdict --

    def judged(
        self, ordering: Any = "strict", found: tuple[Found, ...] = (), **declared: Any
    ) -> Verdict:
        """Have the history judged."""
        durable, drained = declared.pop("durable", True), declared.pop("drained", True)
        safe = declared.pop("safe", "")
        queue = Declared("orders", ordering, **{"max_deliveries": 3, "in_flight": 2} | declared)
        return judge(
            Terms("test", {"orders": queue}, durable, safe), self.calls, self.events, found, drained
        )


def judge(
    terms: Terms, calls: Any, events: Any = (), found: Any = (), drained: bool = True
) -> Verdict:
    """Have a history judged."""
    checker = Checker(terms)
    for call in calls:
        checker.audited(call)
    for event in events:
        checker.recorded(event)
    for key in found:
        checker.found(key, drained=drained)
    return checker.verdict()


def key(part: str, kind: str, content: Any, **more: Any) -> Found:
    """Make a key that was found."""
    return Found(PREFIX + part, kind, content, **more)
