"""Pass 2: what processes say of themselves, against what the server says of them.

Proved, from the logs of all processes, the fault log, and the fates that pass 1 found:

- I1: what was published is acknowledged, dead, cancelled, or still there; what was said not to be
  written was not. What is acknowledged was handled under that epoch, and its handler returned.
- Nothing was handled that nobody published, or that was not delivered to who handled it, with the
  deliveries that Redis counted.
- A receipt tells the due time that the message has, and that is as long after the publish, by the
  server's clock, as was asked for (I2). Of a `dedup_id` one message was accepted (I7).
- An epoch has one consumer (I5).

`repeats` judges what was handled again, and at the same time.

Assumed: a process writes what it does, when it does it; the fault log is complete. What a server
that is not durable lost when it was killed is counted, and is no violation: but for messages that
were confirmed to be in a place where that server's death does not reach them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from delayq.verify.fates import Fate, Fates
from delayq.verify.history import (
    SLOW,
    Fault,
    Handled,
    Handling,
    Published,
    PublishFailed,
    Publishing,
    Recorded,
    Terms,
    Where,
)
from delayq.verify.step import Finding

_RAISED = {"rejected", "never retried", "failed"}
"""Of what a message dies when a handler raises."""


class Processes:
    """Judges what one process log after the other says, an event at a time."""

    def __init__(self, terms: Terms, fates: Mapping[Where, Fates]) -> None:
        self.counts: Counter[str] = Counter()
        self._fates = fates
        self._forgetful = not terms.durable
        self._safe = terms.safe
        self._server_died = False
        self._asked: dict[tuple[str, Where, str], Publishing] = {}
        self._published: dict[tuple[Where, str], Published] = {}
        self._refused: dict[tuple[Where, str], PublishFailed] = {}
        self._maybe: set[tuple[Where, str]] = set()
        """Messages that were accepted, or may have been."""
        self._first_of: dict[tuple[Where, str], str] = {}
        """For each lane and dedup id, the message that was accepted."""
        self._consumers: dict[tuple[Where, int], str] = {}
        self._handling: set[Where] = set()
        """Lanes that somebody handled messages of."""
        self._phantoms: list[Finding] = []
        """What the audit does not have; a server that died may have forgotten it with its audit."""

    def take(self, event: Recorded) -> Iterator[Finding]:
        """Take the next event."""
        match event:
            case Publishing():
                self._asked[event.process, event.where, event.id] = event
            case Published():
                yield from self._receipt(event)
            case PublishFailed():
                self._refusal(event)
            case Handling():
                yield from self._begins(event)
            case Handled():
                self._ends(event)
            case Fault():
                self._server_died |= event.kind == "server kill"
                self.counts["faults"] += event.kind not in SLOW

    def judge(self) -> Iterator[Finding]:
        """Judge what can be judged only at the end."""
        yield from self._refused_and_there()
        if not self._forgotten:
            self.counts["phantom"] = len(self._phantoms)
            yield from self._phantoms
        for (where, message_id), receipt in self._published.items():
            fate = self._fate(where, message_id)
            if fate is None or fate.end == "lost":
                if self._forgotten and receipt.durability != self._safe:
                    self.counts["lost_with_server"] += 1
                else:
                    self.counts["lost"] += 1
                    yield Finding(
                        "I1",
                        f"{message_id} was published, and is lost",
                        (message_id,),
                        (told(receipt),),
                    )
        for where in self._handling & self._fates.keys():
            for message_id, fate in self._fates[where].by_id.items():
                yield from self._settled(message_id, fate)

    @property
    def _forgotten(self) -> bool:
        """Whether a server that died may have forgotten what it had accepted."""
        return self._forgetful and self._server_died

    def _settled(self, message_id: str, fate: Fate) -> Iterator[Finding]:
        if fate.foreign:
            return
        if fate.end == "acked" and fate.acked_by not in fate.succeeded:
            said = (
                f"{message_id} was acknowledged under epoch {fate.acked_by}, under which no handler"
            )
            yield Finding("I1", f"{said} had returned from it", (message_id,))
        elif fate.end == "dead" and fate.reason in _RAISED and not fate.raised:
            said = f"{message_id} died of {fate.reason!r}, and no handler raised anything"
            yield Finding("I1", said, (message_id,))

    # -- publishing --

    def _receipt(self, event: Published) -> Iterator[Finding]:
        asked = self._asked.pop((event.process, event.where, event.id), None)
        self.counts["duplicates_refused" if event.duplicate else "published"] += 1
        self._published[event.where, event.receipt_id] = event
        self._maybe.add((event.where, event.id))
        fate = self._fate(event.where, event.receipt_id)
        if asked and asked.dedup_id is not None:
            first = self._first_of.setdefault((event.where, asked.dedup_id), event.receipt_id)
            if first != event.receipt_id and not self._forgotten:
                said = f"{asked.dedup_id!r} is the dedup id of {first}, and of {event.receipt_id}"
                yield Finding("I7", said, (first, event.receipt_id), (told(event),))
        if fate is None or event.duplicate or fate.foreign or self._forgetful:
            return  # what was lost may have been published anew
        shows = ((event.receipt_id,), (told(event),))
        if fate.due_ms != event.due_ms:
            said = f"the receipt of {event.id} tells {event.due_ms}, it is due {fate.due_ms}"
            yield Finding("I2", said, *shows)
        if asked and asked.key != fate.key:
            yield Finding(
                "I1", f"the key of {event.id} is not the one it was published with", *shows
            )
        if asked and asked.when.startswith("+"):
            wanted_ms = fate.accepted_us // 1000 + int(asked.when[1:])
            if fate.due_ms != wanted_ms:
                said = f"{event.id} is due {fate.due_ms - wanted_ms} ms after the time asked for"
                yield Finding("I2", said, *shows)

    def _refusal(self, event: PublishFailed) -> None:
        self._asked.pop((event.process, event.where, event.id), None)
        self.counts["unsure" if event.written is None else "publish_refused"] += 1
        if event.written is False:
            self._refused[event.where, event.id] = event
        else:
            self._maybe.add((event.where, event.id))

    def _refused_and_there(self) -> Iterator[Finding]:
        """Judge messages of which every attempt was refused."""
        maybe = self._maybe | {(where, message_id) for _, where, message_id in self._asked}
        for (where, message_id), event in self._refused.items():
            if (where, message_id) not in maybe and self._fate(where, message_id):
                said = f"{message_id} was refused, and is there"
                yield Finding("I1", said, (message_id,), (told(event),))

    # -- handling --

    def _begins(self, event: Handling) -> Iterator[Finding]:
        self.counts["handled"] += 1
        self._handling.add(event.where)
        known = self._consumers.setdefault((event.where, event.epoch), event.consumer)
        if known != event.consumer:
            said = f"epoch {event.epoch} is of two consumers, {known} and {event.consumer}"
            yield Finding("I5", said, (event.id,), (told(event),))
        if said := self._unaccounted(event):
            self._phantoms.append(Finding("I1", said, (event.id,), (told(event),)))

    def _unaccounted(self, event: Handling) -> str:
        """Say what the audit does not have of a handling; '' if it has all."""
        fates = self._fates.get(event.where)
        if fates is None or event.id not in fates.by_id:
            return f"{event.id} was handled, and never published"
        if (event.entry, event.epoch, event.deliveries) in fates.delivered:
            return ""
        said = f"{event.id} was handled as delivery {event.deliveries} under epoch {event.epoch}"
        return f"{said}, and was not delivered so"

    def _ends(self, event: Handled) -> None:
        if fate := self._fate(event.where, event.id):
            if event.how == "ok":
                fate.succeeded.add(event.epoch)
            fate.raised |= event.how == "raised"

    def _fate(self, where: Where, message_id: str) -> Fate | None:
        return self._fates[where].by_id.get(message_id) if where in self._fates else None


def told(event: Recorded) -> str:
    """Tell an event in a line."""
    at = f"{event.at_ns / 1e9:.6f} {event.process} {type(event).__name__.lower()}"
    names = [name for name in event.__dataclass_fields__ if name not in {"at_ns", "process"}]
    values = ((name, getattr(event, name)) for name in names)
    return " ".join([at, *(f"{name}={value}" for name, value in values if value not in {None, ""})])
