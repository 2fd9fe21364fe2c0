"""A model of one lane: what each transition does, in plain Python, to be held against Redis.

It is as large as the scripts' meaning and knows nothing of their means. Times are ms.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from delayq.caller import Call
from delayq.publishing import ID_WINDOW_MS as WINDOW_MS

Place = tuple[int, int]
"""Where an entry stands in its stream."""
GONE = "gone"
LET_GO, HELD_MS, HELD_EACH_MS = 32, 10_000, 10


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
    held: bool = False
    """It waits for another one of its key; its score is half a ms less than its due time."""

    @property
    def score(self) -> float:
        return self.due - self.held / 2

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
    calls: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """The number of each caller's last call, when it was, and the id of its first message."""
    parked: dict[str, str] = field(default_factory=dict)
    """Parked keys, to the id that they wait for, as it was last told."""
    waiting: dict[str, dict[Place, str]] = field(default_factory=dict)
    """For each of them who waits, by its place in the order of the key."""
    leases: dict[str, Held] = field(default_factory=dict)
    arrivals: int = 0

    # -- publishing and the schedule --

    def publish(
        self, messages: Sequence[Message], call: Call | None, promote: int, dedup_id: str = ""
    ) -> list[tuple[str, int, bool]]:
        """Accept a call's messages; `promote` is as publish.lua has it.

        :param call: which it is, if the ids of its messages are not told; None if they are
        :return: what the receipts say
        """
        again = call is not None and self.calls.get(f"c:{call.caller}", (0,))[0] == call.number
        if promote > 0:
            self.promote()
        overtaking = promote != 0 and any(m.due <= self.now for m in self.schedule)
        known = [None if call else self._known(m.id, dedup_id) for m in messages]
        new = [m for m, found in zip(messages, known, strict=True) if not found and not again]
        for message in new:
            self._accept(message, overtaking=overtaking)
        if new:
            self._remember(new, call, dedup_id)
            self._forget_old(2 * len(new) + 8)
        receipts = zip(messages, known, strict=True)
        return [(*(k or (m.id, m.due)), k is not None) for m, k in receipts]

    def _accept(self, message: Message, *, overtaking: bool) -> None:
        if message.due > self.now or overtaking:
            self._schedule(message)
        else:
            self.stream.append(message)

    def _remember(self, new: Sequence[Message], call: Call | None, dedup_id: str) -> None:
        if call:
            caller = f"c:{call.caller}"
            _, at, _ = self.calls.get(caller, (0, -WINDOW_MS, ""))
            if at // WINDOW_MS != self.now // WINDOW_MS:
                self.recent[caller] = self.now + 2 * WINDOW_MS
            self.calls[caller] = call.number, self.now, new[0].id
            return
        for message in new:
            if message.due - self.now < WINDOW_MS:
                self.recent[f"i:{message.id}"] = message.due + WINDOW_MS
            if dedup_id:
                self.recent[f"d:{dedup_id}"] = self.now + WINDOW_MS
                self.dedup[f"d:{dedup_id}"] = (message.due, message.id)

    def _known(self, message_id: str, dedup_id: str) -> tuple[str, int] | None:
        if dedup_id and self.recent.get(f"d:{dedup_id}", 0) > self.now:
            due, first = self.dedup[f"d:{dedup_id}"]
            return first, due
        if scheduled := self.scheduled(message_id):
            return message_id, scheduled.due
        if (until := self.recent.get(f"i:{message_id}", 0)) > self.now:
            return message_id, until - WINDOW_MS
        return None

    def _forget_old(self, most: int) -> None:
        old = sorted((until, known) for known, until in self.recent.items() if until <= self.now)
        for _, known in old[:most]:
            del self.recent[known]
            self.calls.pop(known, None)
            self.dedup.pop(known, None)

    def scheduled(self, message_id: str) -> Message | None:
        return next((m for m in self.schedule if m.id == message_id), None)

    def _schedule(self, message: Message) -> None:
        self.arrivals = self.arrivals + 1 if self.schedule else 1
        message.held = False
        message.arrival, message.entry, message.owner, message.delivered = (
            self.arrivals,
            "",
            None,
            0,
        )
        self.schedule.append(message)
        self._sort()

    def _sort(self) -> None:
        self.schedule.sort(key=lambda m: (m.score, m.member))

    def promote(self) -> int:
        due = [m for m in self.schedule if m.due <= self.now]
        return sum(self.promote_as([(m.member, m.score) for m in due]))

    def promote_as(self, seen: Collection[tuple[str, float]]) -> list[bool]:
        found = [next((m for m in self.schedule if (m.member, m.score) == s), None) for s in seen]
        for message in found:
            if message:
                self.schedule.remove(message)
                self.stream.append(message)
        return [message is not None for message in found]

    def cancel(self, message_id: str) -> bool:
        message = self.scheduled(message_id)
        if message:
            self.recent.pop(f"i:{message_id}", None)
            self._unpark(message.key, message.place)
            self.schedule.remove(message)
            self.settled.add(message.number)
        return message is not None

    def reschedule(self, message_id: str, delay: int) -> bool:
        message = self.scheduled(message_id)
        if message:
            message.due = self.now + delay if delay else min(self.now, message.due)
            message.held = False
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
                self._unpark(message.key, message.order)
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
            self._unpark(freed[0], found[0].order if found else None)
        for message in found:
            self.stream.remove(message)
            self.settled.add(message.number)
        return len(found)

    def fetch(
        self, held: Held, scope: str, start: str, count: int, call: str, *, busy: bool
    ) -> tuple[bool, list[tuple[int, int]]]:
        """Returns whether a last delivery was held back; number and deliveries of each message."""
        before = held.fetched if held.repeats(call) else 0
        held_back, reply = self._deliver(held.holder, scope, start, count, before, busy=busy)
        held.fetched = len(reply)
        return held_back, [(m.number, m.counted + m.delivered) for m in reply]

    def _deliver(
        self, holder: str, scope: str, start: str, count: int, before: int, *, busy: bool
    ) -> tuple[bool, list[Message]]:
        count, reply = before or count, list[Message]()
        pending = [m for m in self.stream if m.owner and scope in {"", m.owner}]
        pending = [m for m in pending if start == "-" or place(m.entry) > place(start[1:])][:count]
        for message in pending:
            message.owner = holder
            last = not before and self._is_last(message)
            if last and (busy or reply):
                return True, reply
            message.delivered += not before
            reply.append(message)
            if last:
                return False, reply
        if len(pending) == count or before:
            return False, reply
        return self._read(holder, count, reply, busy=busy)

    def _read(
        self, holder: str, count: int, reply: list[Message], *, busy: bool
    ) -> tuple[bool, list[Message]]:
        """Read in parts that grow what is new. It is pending from then on, also if held back."""
        part = 1
        while len(reply) < count:
            part = min(2 * part, count - len(reply))
            read = [m for m in self.stream if not m.owner][:part]
            for message in read:
                message.owner = holder
            for message in read:
                last = self._is_last(message)
                if last and (busy or reply):
                    return True, reply
                message.delivered = 1
                reply.append(message)
                if last:
                    return False, reply
            if len(read) < part:
                break
        return False, reply

    def _is_last(self, message: Message) -> bool:
        return message.counted + message.delivered + 1 >= self.max_deliveries

    def redeliver(self, held: Held, messages: Collection[tuple[str, int]]) -> list[tuple[int, int]]:
        found = self._owned(held, messages)
        for message, delivered in found:
            message.delivered = delivered + 1
        return [(m.number, m.counted + m.delivered) for m, _ in found]

    def give_back(self, held: Held, messages: Collection[tuple[str, int]]) -> int:
        found = self._owned(held, messages)
        for message, delivered in found:
            message.delivered = delivered - 1
        return len(found)

    def _owned(
        self, held: Held, messages: Collection[tuple[str, int]]
    ) -> list[tuple[Message, int]]:
        found = [(self.find(entry), delivered) for entry, delivered in messages]
        return [(m, delivered) for m, delivered in found if m and m.owner == held.holder]

    def retry(self, entry: str, delay: int, deliveries: int, *, park: bool) -> int:
        message = self.find(entry)
        if not message:
            return 0
        at = message.order
        self._put_back(message, self.now + delay, deliveries, at if park else None)
        if message.key is not None and park:
            self.waiting.setdefault(message.key, {})[at] = message.id
            self._blocker(message.key)
        return message.due

    def park(self, entry: str, key: str, *, lost: bool, looks: bool) -> int:
        if not self._blocker(key):
            return -1
        message = self.find(entry)
        if not message:
            return 2
        at = message.order
        self.waiting[key][at] = self._free_id(message)
        while (first := self._blocker(key)) and first[0] != at:
            blocker = self.scheduled(first[1])
            if blocker or not lost:
                if lost:
                    self._let_go(key)
                self._hold(message, blocker, at, looks=looks)
                return 1 if blocker else 0
            del self.waiting[key][first[0]]
        return 3

    def _hold(self, message: Message, blocker: Message | None, at: Place, *, looks: bool) -> None:
        due = self.now
        if blocker or not looks:
            waiting = sum(map(len, self.waiting.values()))
            until = max(self.now, blocker.due if blocker else 0)
            due = until + HELD_MS + HELD_EACH_MS * waiting + 1
        self._put_back(message, due, message.counted, at)
        message.held = due > self.now
        self._sort()

    def _let_go(self, key: str) -> None:
        """Have the first few of a key come, in their order, if half as many are not under way."""
        rows = sorted(self.waiting.get(key, {}).items())[:LET_GO]
        found = [self.scheduled(waiting_id) for _, waiting_id in rows]
        if any(m.held for m in found[:: LET_GO // 2] if m):
            for at, message in enumerate(found, 1):
                if message and message.held:
                    message.due, message.held = self.now - LET_GO + at, False
            self._sort()

    def _blocker(self, key: str) -> tuple[Place, str] | None:
        """Tell whom a key waits for, and where that stands; and have it told."""
        if not self.waiting.get(key):
            self.waiting.pop(key, None)
            self.parked.pop(key, None)
            return None
        first = min(self.waiting[key].items())
        self.parked[key] = first[1]
        return first

    def _put_back(self, message: Message, due: int, counted: int, at: Place | None) -> None:
        self.stream.remove(message)
        message.id, message.due = self._free_id(message), due
        message.counted, message.place = counted, at
        self._schedule(message)

    def bury(self, entry: str) -> bool:
        message = self.find(entry)
        if message:
            self.stream.remove(message)
            self._unpark(message.key, message.order)
            self.dead.append(message)
        return message is not None

    def _unpark(self, key: str | None, at: Place | None) -> None:
        if key is not None and at in self.waiting.get(key, {}):
            del self.waiting[key][at]
            self._blocker(key)
            self._let_go(key)

    def claim(self, held: Held, messages: Collection[Message]) -> int:
        for message in messages:
            message.owner = held.holder
        return len(messages)

    # -- what can be seen --

    @property
    def view(self) -> dict[str, Any]:
        return {
            "scheduled": [(m.member, m.score, m.number, m.counted, m.place) for m in self.schedule],
            "stream": [
                (m.number, m.id, m.due, m.counted, m.place, m.owner, m.delivered)
                for m in self.stream
            ],
            "dead": [(m.number, m.id) for m in self.dead],
            "recent": self.recent,
            "dedup": {
                known: " ".join(map(str, told))
                for known, told in [*self.dedup.items(), *self.calls.items()]
            },
            "parked": self.parked,
            "waiting": sorted(
                (key, *row) for key, rows in self.waiting.items() for row in rows.items()
            ),
            "leases": {key: (held.holder, held.epoch) for key, held in self.leases.items()},
        }


def place(entry: str) -> Place:
    time, _, number = entry.partition("-")
    return int(time), int(number)
