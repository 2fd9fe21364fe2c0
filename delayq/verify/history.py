"""What is recorded of a run: values, as they stand in the logs and in the audit.

Three records are kept, by three kinds of witness.

**Audit**, by the server: one `Audited` for each script call that changed something or was refused,
written in the same atomic step. Those of a lane are in total order.

**Process logs**, by producers and consumers: one file a process, a line before and after each
publish and each handler call. Times are CLOCK_MONOTONIC, one clock for all processes of a host.

**Fault log**, by whoever broke things: what was done to whom, in the same form. A line is written
*before* the fault is done, so that nothing it brings about is older than the line.

A process is named once in a run: started again under the same consumer name, it is another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Where = tuple[str, int]
"""A lane: its queue, and its number."""

# -- the audit --

FOREIGN = "foreign"
"""The name under which the audit has the commands of another program."""


@dataclass(frozen=True, slots=True)
class Write:
    """A command that changed something, and what the server answered."""

    words: tuple[str, ...]
    """The command as it was called; of values that are long, a digest."""
    reply: str | tuple[str, ...]
    """Numbers as text; of XREADGROUP and XCLAIM the ids of what was delivered."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One call of a script that changed something, was refused, or failed."""

    at: str
    """Its id in the lane's audit stream."""
    queue: str
    lane: int
    script: str
    began_us: int
    """The server's time as it began: by it a lease was over, or was not."""
    now_us: int
    """The server's time, as the script read it."""
    ended_us: int
    """The server's time at its end: much later, if the server was frozen in it."""
    epoch: int | None
    """Under which it was called; None if it is not fenced."""
    consumer: str | None
    lease: str | None
    """The key of the lease by which it is fenced."""
    refusal: str | None
    """What was answered instead of a result: a refusal, if nothing was written; or an error."""
    writes: tuple[Write, ...]

    @property
    def where(self) -> Where:
        """The lane."""
        return self.queue, self.lane


# -- process logs and the fault log --


@dataclass(frozen=True, slots=True)
class Recorded:
    """Base of every line of a log."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    process: str
    """Who wrote it."""


@dataclass(frozen=True, slots=True)
class InLane(Recorded):
    """Base of those that tell of a message. Ids, entries and epochs are unique in a lane alone."""

    queue: str
    lane: int = field(default=0, kw_only=True)

    @property
    def where(self) -> Where:
        """The lane."""
        return self.queue, self.lane


@dataclass(frozen=True, slots=True)
class Publishing(InLane):
    """A message is about to be published."""

    id: str
    when: str
    """`+<ms>` from the server's now, or absolute `<ms>`, as `message.when` encodes it."""
    key: str | None = None
    dedup_id: str | None = None


@dataclass(frozen=True, slots=True)
class Published(InLane):
    """`publish` of `id` returned a receipt."""

    id: str
    """As in `Publishing`."""
    receipt_id: str
    due_ms: int
    duplicate: bool
    durability: str = "memory"
    """What was confirmed."""


@dataclass(frozen=True, slots=True)
class PublishFailed(InLane):
    """`publish` of `id` raised."""

    id: str
    error: str
    written: bool | None
    """False: the error says that nothing was; None: no answer came, it may have been accepted."""


@dataclass(frozen=True, slots=True)
class Cancelled(InLane):
    """`cancel` of `id` returned True."""

    id: str


@dataclass(frozen=True, slots=True)
class Handling(InLane):
    """A handler is about to be called; the first line that it writes itself."""

    id: str
    entry: str
    epoch: int
    consumer: str
    """Its name in the group: name, `@`, epoch."""
    deliveries: int
    key: str | None = None
    due_ms: int = 0


@dataclass(frozen=True, slots=True)
class Handled(InLane):
    """The handler ended."""

    id: str
    entry: str
    epoch: int
    how: Literal["ok", "raised", "cancelled"]
    """Raised: what the retry policy decides on, a time limit that was reached (`remaining()` is 0)
    included, though the handler sees a cancellation. Cancelled: the lease was lost, or a stop's
    grace was over."""


@dataclass(frozen=True, slots=True)
class Checked(InLane):
    """A handler called `context.check()`, as before a step that cannot be taken back."""

    entry: str
    epoch: int
    passed: bool


SLOW = {"slow", "server slow"}
FaultKind = Literal[
    "kill",  # SIGKILL, or a stop that did not wait: the second signal, the end of the grace
    "stop",  # SIGTERM or SIGINT: graceful
    "freeze",  # SIGSTOP
    "thaw",  # SIGCONT
    "join",  # one more process was started
    "stall",  # a blocked loop, a handler that burns CPU, or that runs on in a thread
    "cut",  # a connection was closed
    "lost",  # a request or a reply was lost on the way
    "server kill",
    "server start",
    "server stall",  # frozen, busy, or loading
    "server other",  # SCRIPT FLUSH, maxmemory, READONLY …
    "foreign",  # somebody else's command, which should be made by `audit.foreign`
    # Nobody's: there was too much to do, for `ms`; told when it is over.
    "slow",
    "server slow",
]


@dataclass(frozen=True, slots=True)
class Fault(Recorded):
    """Something was broken on purpose, or noticed to have stalled."""

    kind: FaultKind
    target: str
    """The process, as it is named in its own log; '' for the server, or for all."""
    ms: int = 0
    """For how long, where that is known."""
    note: str = ""


# -- what is left --


@dataclass(frozen=True, slots=True)
class Found:
    """A key found in the namespace when everything had ended, with what is in it."""

    key: str
    type: str
    content: Any
    """Of a stream: rows of id and fields; of a sorted set: member → score; of a hash: field →
    value; else the value."""
    pending: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Of a stream with the group: entry → consumer, deliveries."""
    consumers: tuple[str, ...] = ()
    expires: bool = False
    """Whether it ends by itself."""


# -- what may be expected --


@dataclass(frozen=True, slots=True)
class Declared:
    """What a queue was declared as."""

    name: str
    ordering: Literal["none", "strict", "key"]
    on_failure: Literal["block", "park", "dead_letter", "halt"] = "block"
    on_due: bool = False
    """Whether due messages are corrected first: then a publish may go past them."""
    max_deliveries: int | None = None
    in_flight: int = 1
    """Messages of a lane that one consumer may have handled and not acknowledged: a batch whose
    acknowledgement is under way to a server that does not answer, and one in hand."""
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a run is judged."""

    namespace: str
    queues: Mapping[str, Declared]
    durable: bool = True
    """Whether the server keeps what it accepted when it is killed. If not, what is lost by that is
    measured, and is no violation."""
    safe: str = ""
    """The durability of which nothing may be lost all the same."""


# -- what follows --


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    """`I1` to `I8`."""
    sentence: str
    window: tuple[str, ...]
    """The fewest events that show it, a line each, in their order."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A term of a lease, as the audit shows it."""

    queue: str
    lane: int
    key: str
    holder: str
    epoch: int
    since_us: int
    until_us: int | None
    """None: it was held to the end."""
    ended: Literal["", "released", "expired", "taken over"]

    @property
    def where(self) -> Where:
        """The lane."""
        return self.queue, self.lane


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history shows."""

    counts: Mapping[str, int]
    """All of `checker.COUNTS`. Those of messages are the server's; published, handled, extra and
    the like the processes'."""
    leases: tuple[Lease, ...]
    lateness_ms: Mapping[str, float]
    """p50, p99 and max of first delivery − due, by the server's clock."""
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return not self.violations
