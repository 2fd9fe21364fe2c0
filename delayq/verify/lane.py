"""A lane as the audit's commands make it: a small model of the keys that hold messages.

It knows what Redis does with each command, and nothing of what scripts are for. What a command
changed it tells as `Change`s, on which the rules decide. What the server answered is held against
what the model says it must: where they differ, something is missing in the record.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

from delayq.verify.history import Audited, Write
from delayq.verify.message import Fields, from_entry, place_of
from delayq.verify.places import ARRIVAL_CHARS, Places
from delayq.verify.step import Change, LeaseChange, Owned, Step, What

_ENTRY = re.compile(r"\d+-\d+")
_XADD_OPTIONS = {"NOMKSTREAM": 1, "MAXLEN": 2, "MINID": 2, "=": 1, "~": 1, "LIMIT": 2}


class Lane(Places):
    """The keys of one lane, and what each command does to them."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        """What the names of its keys begin with."""
        self.others: dict[str, set[str]] = {}
        """Hashes and strings that hold no messages, with the fields of the hashes."""
        self.arrival = 0
        self._unsure: set[str] = set()
        """Entries that were deleted while pending: servers differ in when they forget them."""

    def step(self, call: Audited) -> Step:
        """Carry out what a call wrote."""
        self._step = Step()
        for write in call.writes:
            self._write(write)
        self._step.after = {message_id: self.state(message_id) for message_id in self._step.before}
        return self._step

    # -- commands --

    def _write(self, write: Write) -> None:
        words = write.words
        name = words[0].upper().replace(" ", "_")
        command: Callable[[str, Sequence[str], Write], None] | None
        command = getattr(self, f"_{name.lower()}", None)
        if command is None:
            self._odd(f"{name}: the checker does not know it")
            return
        key = words[2] if name == "XGROUP" else words[1]
        if name == "XREADGROUP":
            key = words[[word.upper() for word in words].index("STREAMS") + 1]
        command(key.removeprefix(self.prefix), words, write)
        if not key.startswith(self.prefix):
            self._odd(f"{name}: {key} is no key of this lane")

    def _xadd(self, part: str, words: Sequence[str], write: Write) -> None:
        at = 2
        while step := _XADD_OPTIONS.get(words[at].upper(), 0):
            at += step
        entry = str(write.reply)
        fields = from_entry(entry, words[at + 1 :])
        change = Change("added", "stream", entry, fields, tuple(words[at + 1 :]))
        match part:
            case "stream":
                if self.stream and place_of(entry) <= place_of(next(reversed(self.stream))):
                    self._odd(f"XADD: {entry} is not after what is in the stream")
                self.stream[entry] = fields
                self.unread[entry] = None
            case "dead":
                change.place = "dead"
                self.dead[entry] = fields
            case _:
                self.others.setdefault(part, set())
                return
        self._added(change)

    def _xdel(self, part: str, words: Sequence[str], write: Write) -> None:
        there = [e for e in words[2:] if e in (self.stream if part == "stream" else self.dead)]
        self._expect(len(there), write)
        for entry in there:
            self._remove("stream" if part == "stream" else "dead", entry)

    def _xtrim(self, part: str, _words: Sequence[str], write: Write) -> None:
        entries = list(self.stream if part == "stream" else self.dead)
        for entry in entries[: int(str(write.reply))]:
            self._remove("stream" if part == "stream" else "dead", entry)

    def _xack(self, _part: str, words: Sequence[str], write: Write) -> None:
        there = [entry for entry in words[3:] if entry in self.pending]
        unsure = self._unsure.intersection(words[3:])
        self._expect(range(len(there), len(there) + len(unsure) + 1), write)
        self._unsure -= unsure
        for entry in there:
            self._drop("settled", entry)

    def _xreadgroup(self, _part: str, words: Sequence[str], write: Write) -> None:
        if words[-1] != ">":
            return
        for entry in write.reply:
            if entry != next(iter(self.unread), None):
                self._odd(f"XREADGROUP: {entry} is not the next that is unread")
            if entry not in self.stream:
                self.stream[entry] = Fields(entry)
                self._added(Change("added", "stream", entry, self.stream[entry]))
            fields = self.stream[entry]
            self._touch(fields.id)
            self.unread.pop(entry, None)
            self._own(entry, Owned(words[3], 1), Change("delivered", "stream", entry, fields))

    def _xclaim(self, _part: str, words: Sequence[str], write: Write) -> None:
        asked = [word for word in words[5:] if _ENTRY.fullmatch(word)]
        options = [word.upper() for word in words[5 + len(asked) :]]
        given = int(options[options.index("RETRYCOUNT") + 1]) if "RETRYCOUNT" in options else None
        quiet = "JUSTID" in options
        for entry in asked:
            before = self.pending.get(entry)
            if entry in write.reply and before:
                count = before.deliveries + (not quiet) if given is None else given
                what: What = "claimed" if quiet else "delivered"
                change = Change(what, "stream", entry, self._fields(entry), before=before)
                self._own(entry, Owned(words[3], count), change)
            elif entry in write.reply:
                self._odd(f"XCLAIM: {entry} is not pending")
            elif before and entry not in self.stream:
                self._unsure.add(entry)
                self._drop("dropped", entry)
            elif before:
                self._odd(f"XCLAIM: {entry} was not claimed")

    def _xgroup(self, _part: str, words: Sequence[str], write: Write) -> None:
        match words[1].upper():
            case "DELCONSUMER":
                self._expect(self.owned[words[4]], write)
                for entry in [e for e, owned in self.pending.items() if owned.consumer == words[4]]:
                    self._drop("dropped", entry)
            case "DESTROY":
                for entry in list(self.pending):
                    self._drop("dropped", entry)
                for entry in self.stream.keys() - self.unread.keys():
                    self._touch(self.stream[entry].id)
                self.unread = OrderedDict.fromkeys(self.stream)
            case "CREATE" | "SETID" if words[4] == "$":
                self.unread.clear()

    def _zadd(self, part: str, words: Sequence[str], write: Write) -> None:
        if part != "schedule":
            self.others.setdefault(part, set())
            return
        rows = list(zip(words[3::2], words[2::2], strict=True))
        self._expect(sum(member not in self.schedule for member, _ in rows), write)
        for member, score in rows:
            message_id = member[ARRIVAL_CHARS:]
            known = member in self.schedule
            self.schedule[member] = float(score)
            if known:
                self._touch(message_id)
                moved = Change("moved", "scheduled", member, self._scheduled(member))
                self._step.changes.append(moved)
            else:
                self._added(Change("added", "scheduled", member, self._scheduled(member)))

    def _zrem(self, part: str, words: Sequence[str], write: Write) -> None:
        if part == "schedule":
            there = [member for member in words[2:] if member in self.schedule]
            self._expect(len(there), write)
            for member in there:
                self._remove("scheduled", member)

    def _zremrangebyscore(self, part: str, _words: Sequence[str], _write: Write) -> None:
        if part == "schedule":
            self._odd("ZREMRANGEBYSCORE: of the schedule, which nobody does")

    def _hset(self, part: str, words: Sequence[str], write: Write) -> None:
        values = dict(zip(words[2::2], words[3::2], strict=True))
        if part == "bodies":
            self._expect(len(values.keys() - self.bodies.keys()), write)
            self.bodies |= values
        elif part.startswith("lease"):
            added = int(str(write.reply))
            self._step.leases.append(LeaseChange("set", part, values, added))
        else:
            self.others.setdefault(part, set()).update(values)

    def _hdel(self, part: str, words: Sequence[str], write: Write) -> None:
        if part == "bodies":
            self._expect(sum(self.bodies.pop(name, None) is not None for name in words[2:]), write)
        elif part in self.others:
            self.others[part].difference_update(words[2:])
            if not self.others[part]:
                del self.others[part]

    def _del(self, _part: str, words: Sequence[str], _write: Write) -> None:
        for part in (key.removeprefix(self.prefix) for key in words[1:]):
            self.others.pop(part, None)
            if part.startswith("lease"):
                self._step.leases.append(LeaseChange("ended", part))
            self._empty(part)

    _unlink = _del

    def _empty(self, part: str) -> None:
        match part:
            case "stream":
                for entry in list(self.stream):
                    self._remove("stream", entry)
                for entry in list(self.pending):
                    self._drop("dropped", entry)
            case "dead":
                for entry in list(self.dead):
                    self._remove("dead", entry)
            case "schedule":
                for member in list(self.schedule):
                    self._remove("scheduled", member)
            case "bodies":
                self.bodies.clear()
            case "arrival":
                self.arrival = 0

    def _incr(self, part: str, _words: Sequence[str], write: Write) -> None:
        if part == "arrival":
            self.arrival += 1
            self._expect(self.arrival, write)
            self.arrival = int(str(write.reply))

    def _incrby(self, part: str, words: Sequence[str], write: Write) -> None:
        if part == "arrival":
            self.arrival += int(words[2]) - 1
            self._incr(part, words, write)

    def _set(self, part: str, _words: Sequence[str], _write: Write) -> None:
        self.others.setdefault(part, set())

    def _pexpire(self, part: str, words: Sequence[str], _write: Write) -> None:
        if part.startswith("lease"):
            self._step.leases.append(LeaseChange("extended", part, ttl_ms=int(words[2])))

    def _persist(self, _part: str, _words: Sequence[str], _write: Write) -> None:
        """Change nothing that is modelled."""

    # -- what the server answered --

    def _expect(self, wanted: int | range, write: Write) -> None:
        if int(str(write.reply)) not in (wanted if isinstance(wanted, range) else (wanted,)):
            said = f"{' '.join(write.words)[:200]} answered {write.reply}"
            self._odd(f"{said}, where {wanted} was expected")

    def _odd(self, said: str) -> None:
        self._step.odd.append(said)
