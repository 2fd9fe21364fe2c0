"""A model of one lane: what each transition does, in plain Python, to be held against Redis.

It is as large as the scripts' meaning and knows nothing of their means. Times are ms.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from delayq.publishing import DEDUP_WINDOW_MS as WINDOW_MS

Place = tuple[int, int]
"""Where an entry stands in its stream."""
NOWHERE: Place = (0, 0)
GONE = "gone"


class Refused(Exception):
    """Raised where the fence refuses: nothing changed."""


@dataclass
class Message:
    """A message, wherever it is. Its number is its body: unlike an id it is given once."""

    number: int
    id: str
    key: str | None
    due: int
    counted: int = 0
    """Deliveries before it came to the stream this time."""
    place: Place | None = None
    """Its place in the order of its key, once it was parked."""
    arrival: int = 0
    entry: str = ""
    owner: str | None = None
    delivered: int = 0

    @property
    def member(self) -> str:
        return f"{self.arrival:012x}{self.id}"

    @property
    def order(self) -> Place:
        return self.place or place(self.entry)


@dataclass
class Held:
    """A lease, as the server keeps it."""

    holder: str
    epoch: int
    nonce: str
    call: str = ""
    fetched: int = 0

    def repeats(self, call: str) -> bool:
        repeated, self.call = self.call == call, call
        return repeated


@dataclass
class Mark:
    """Of a parked key: the last that waits, until when, and for which id."""

    last: Place
    until: int
    blocker: str


@dataclass
class Lane:
    """Everything that is kept for a lane."""

    max_deliveries: int
    now: int
    schedule: list[Message] = field(default_factory=list)
    stream: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    recent: dict[str, int] = field(default_factory=dict)
    dedup: dict[str, tuple[int, str]] = field(default_factory=dict)
    parked: dict[str, Mark] = field(default_factory=dict)
    leases: dict[str, Held] = field(default_factory=dict)
    arrivals: int = 0

    # -- publishing and the schedule --

    def publish(self, message: Message, dedup_id: str, promote: int) -> tuple[str, int, bool]:
        """`promote` is as publish.lua has it. Returns what the receipt says."""
        if promote > 0:
            self.promote()
        overtaking = promote != 0 and any(m.due <= self.now for m in self.schedule)
        if found := self._known(message.id, dedup_id):
            return *found, True
        if message.due - self.now < WINDOW_MS:
            self.recent[f"i:{message.id}"] = message.due + WINDOW_MS
        if dedup_id:
            self.recent[f"d:{dedup_id}"] = self.now + WINDOW_MS
            self.dedup[dedup_id] = (message.due, message.id)
        if message.due > self.now or overtaking:
            self._schedule(message)
        else:
            self.stream.append(message)
        self._forget_old()
        return message.id, message.due, False

    def _known(self, message_id: str, dedup_id: str) -> tuple[str, int] | None:
        if dedup_id and self.recent.get(f"d:{dedup_id}", 0) > self.now:
            due, first = self.dedup[dedup_id]
            return first, due
        if scheduled := self.scheduled(message_id):
            return message_id, scheduled.due
        if (until := self.recent.get(f"i:{message_id}")) is not None:
            return message_id, until - WINDOW_MS
        return None

    def _forget_old(self) -> None:
        old = sorted((until, known) for known, until in self.recent.items() if until <= self.now)
        for _, known in old[:10]:
            del self.recent[known]
            if known.startswith("d:"):
                del self.dedup[known[2:]]

    def scheduled(self, message_id: str) -> Message | None:
        return next((m for m in self.schedule if m.id == message_id), None)

    def _schedule(self, message: Message) -> None:
        self.arrivals = self.arrivals + 1 if self.schedule else 1
        message.arrival, message.entry, message.owner, message.delivered = (
            self.arrivals,
            "",
            None,
            0,
        )
        self.schedule.append(message)
        self._sort()

    def _sort(self) -> None:
        self.schedule.sort(key=lambda m: (m.due, m.member))

    def promote(self) -> int:
        due = [m for m in self.schedule if m.due <= self.now]
        return sum(self.promote_as([(m.member, m.due) for m in due]))

    def promote_as(self, seen: Collection[tuple[str, int]]) -> list[bool]:
        found = [next((m for m in self.schedule if (m.member, m.due) == s), None) for s in seen]
        for message in found:
            if message:
                self.schedule.remove(message)
                self.stream.append(message)
        return [message is not None for message in found]

    def cancel(self, message_id: str) -> bool:
        message = self.scheduled(message_id)
        if message:
            self.recent.pop(f"i:{message_id}", None)
            self._unpark(message.key, message.id, message.place)
            self.schedule.remove(message)
            self.settled.add(message.number)
        return message is not None

    def reschedule(self, message_id: str, delay: int) -> bool:
        message = self.scheduled(message_id)
        if message:
            message.due = self.now + delay if delay else min(self.now, message.due)
            self._sort()
            known = f"i:{message_id}"
            if message.due - self.now < WINDOW_MS:
                self.recent[known] = max(self.recent.get(known, 0), message.due + WINDOW_MS)
        return message is not None

    def purge(self, state: str) -> int:
        if state == "scheduled":
            return sum(self.cancel(m.id) for m in list(self.schedule))
        if state == "ready":
            purged = [m for m in self.stream if m.owner is None]
            for message in purged:
                self.recent.pop(f"i:{message.id}", None)
                self._unpark(message.key, message.id, message.order)
                self.stream.remove(message)
        else:
            purged, self.dead = self.dead, []
        self.settled.update(m.number for m in purged)
        return len(purged)

    def redrive(self) -> int:
        letters, self.dead = self.dead, []
        for letter in letters:
            letter.due, letter.counted, letter.place = self.now, 0, None
            letter.id = self._free_id(letter)
            self._schedule(letter)
        return len(letters)

    def _free_id(self, message: Message) -> str:
        return f"{message.id}~{message.entry}" if self.scheduled(message.id) else message.id

    # -- the pending list --

    def fence(self, key: str, epoch: int) -> Held:
        held = self.leases.get(key)
        if not held or held.epoch != epoch:
            raise Refused
        return held

    def find(self, entry: str) -> Message | None:
        return next((m for m in self.stream if m.entry == entry), None)

    def ack(self, entries: Collection[str], freed: tuple[str, str] = ("", "")) -> int:
        found = [m for m in self.stream if m.entry in entries]
        if freed[1]:
            self._unpark(*freed, found[0].order if found else None)
        for message in found:
            self.stream.remove(message)
            self.settled.add(message.number)
        return len(found)

    def fetch(
        self, held: Held, scope: str, start: str, count: int, call: str
    ) -> list[tuple[int, int]]:
        """Returns number and deliveries of each message."""
        before = held.fetched if held.repeats(call) else 0
        count = before or count
        pending = [m for m in self.stream if m.owner and scope in {"", m.owner}]
        pending = [m for m in pending if start == "-" or place(m.entry) > place(start[1:])][:count]
        reply: list[Message] = []
        alone = False
        for message in pending:
            delivered = message.delivered + (not before)
            alone = not before and delivered >= self.max_deliveries
            if alone and reply:
                break
            message.owner, message.delivered = held.holder, delivered
            reply.append(message)
            if alone:
                break
        if not alone and not before and len(pending) < count:
            for message in [m for m in self.stream if not m.owner][: count - len(pending)]:
                message.owner, message.delivered = held.holder, 1
                reply.append(message)
        held.fetched = len(reply)
        return [(m.number, m.counted + m.delivered) for m in reply]

    def redeliver(self, held: Held, entries: Collection[str], call: str) -> list[tuple[int, int]]:
        found = self._owned(held, entries)
        repeated = held.repeats(call)
        for message in found:
            message.delivered += not repeated
        return [(m.number, m.counted + m.delivered) for m in found]

    def give_back(self, held: Held, entries: Collection[str], call: str) -> int:
        found = [m for m in self._owned(held, entries) if m.delivered]
        if held.repeats(call):
            return 0
        for message in found:
            message.delivered -= 1
        return len(found)

    def _owned(self, held: Held, entries: Collection[str]) -> list[Message]:
        return [m for entry in entries if (m := self.find(entry)) and m.owner == held.holder]

    def retry(self, entry: str, delay: int, deliveries: int, *, park: bool) -> int:
        message = self.find(entry)
        if not message:
            return 0
        at = message.order
        self._put_back(message, self.now + delay, deliveries, at if park else None)
        if message.key is not None and park:
            mark = self.parked.get(message.key)
            last = mark.last if mark and at < mark.last else NOWHERE
            until = max(message.due, mark.until if mark else 0)
            self.parked[message.key] = Mark(last, until, message.id)
        return message.due

    def park(self, entry: str, key: str, *, lost: bool) -> int:
        mark, message = self.parked.get(key), self.find(entry)
        if not mark:
            return -1
        if not message:
            return 2
        blocker = self.scheduled(mark.blocker)
        if lost and not blocker:
            mark.blocker = ""
        at = message.order
        if self._free_id(message) == mark.blocker or (not mark.blocker and mark.last >= at):
            return 3
        mark.until = max(self.now, blocker.due if blocker else 0, mark.until)
        mark.last = max(mark.last, at)
        self._put_back(message, mark.until, message.counted, at)
        return 1 if blocker or not mark.blocker else 0

    def _put_back(self, message: Message, due: int, counted: int, at: Place | None) -> None:
        self.stream.remove(message)
        message.id, message.due = self._free_id(message), due
        message.counted, message.place = counted, at
        self._schedule(message)

    def bury(self, entry: str) -> bool:
        message = self.find(entry)
        if message:
            self.stream.remove(message)
            self._unpark(message.key, message.id, message.order)
            self.dead.append(message)
        return message is not None

    def _unpark(self, key: str | None, message_id: str, at: Place | None) -> None:
        mark = self.parked.get(key) if key is not None else None
        if not mark or key is None:
            return
        if mark.blocker == message_id:
            mark.blocker = ""
        if not mark.blocker and (mark.last == NOWHERE or (at is not None and at >= mark.last)):
            del self.parked[key]

    def claim(self, held: Held, messages: Collection[Message]) -> int:
        for message in messages:
            message.owner = held.holder
        return len(messages)

    # -- what can be seen --

    @property
    def view(self) -> dict[str, Any]:
        return {
            "scheduled": [(m.member, m.due, m.number, m.counted, m.place) for m in self.schedule],
            "stream": [
                (m.number, m.id, m.due, m.counted, m.place, m.owner, m.delivered)
                for m in self.stream
            ],
            "dead": [(m.number, m.id) for m in self.dead],
            "recent": self.recent,
            "dedup": {name: f"{due} {first}" for name, (due, first) in self.dedup.items()},
            "parked": {
                key: f"{m.last[0]}-{m.last[1]} {m.until} {m.blocker}"
                for key, m in self.parked.items()
            },
            "leases": {key: (held.holder, held.epoch) for key, held in self.leases.items()},
        }


def place(entry: str) -> Place:
    time, _, number = entry.partition("-")
    return int(time), int(number)
