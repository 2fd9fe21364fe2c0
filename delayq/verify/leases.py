"""Pass 1, I5: leases and epochs.

Proved, for each call of a script, from what it wrote:

- Epochs of a lane grow, and each is at least the server's ms: so one that a server forgot in a
  failover is not given out again.
- A lease is given only where there is none, or the one that is there is taken away in the same
  call; it does not vanish before its ttl; nothing but `acquire` makes one.
- What is fenced changes something only under the epoch that its lease has, before its ttl is over;
  what delivers, claims or acknowledges is fenced, and names its epoch in the consumer it acts for.
- Whoever holds a lease is not refused.

Assumed: a lease that is not extended ends by itself. Redis tells nobody; the server's time in the
audit does, to within `SLACK_US`. A call is judged by the time at which it began: for the server, no
time passes in a script.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from delayq.verify.history import FOREIGN, Audited, Lease
from delayq.verify.step import Finding, LeaseChange, Step

SLACK_US = 50_000
"""By how much the end of a lease, as it is reckoned here, may differ from the server's."""
OPERATORS = {"resume"}
"""Scripts that touch what is pending for others, by design."""


@dataclass(slots=True)
class Held:
    """A lease that is held."""

    lease: Lease
    ends_us: tuple[int, int] | None = None
    """At the earliest, and at the latest. None: it was not told yet."""

    def extend(self, call: Audited, ttl_ms: int) -> None:
        """Have it end `ttl_ms` from some time in this call on."""
        self.ends_us = call.began_us + ttl_ms * 1000, call.ended_us + ttl_ms * 1000

    def lasts(self, now_us: int) -> bool:
        """Whether it surely has not ended by itself."""
        return self.ends_us is None or now_us < self.ends_us[0] - SLACK_US

    def over(self, now_us: int) -> bool:
        """Whether it surely has ended by itself."""
        return self.ends_us is not None and now_us > self.ends_us[1] + SLACK_US


class Leases:
    """Judges the leases of one lane."""

    def __init__(self, prefix: str) -> None:
        self.ended: list[Lease] = []
        """Terms that are over, in the order in which they ended."""
        self._prefix = prefix
        self._held: dict[str, Held] = {}
        self._last_epoch = 0
        self._now_us = 0

    def judge(self, call: Audited, step: Step) -> Iterator[Finding]:
        """Judge one call."""
        self._now_us = call.ended_us
        yield from self._fenced(call, step)
        for change in step.leases:
            match change.what:
                case "ended":
                    if change.key not in self._held:
                        yield Finding("audit", f"{call.script} deleted a lease that nobody held")
                    self._end(change.key, "released" if call.script == "release" else "taken over")
                case "extended" if held := self._held.get(change.key):
                    held.extend(call, change.ttl_ms)
                case "set" if "epoch" in change.values:
                    yield from self._given(call, change)
                case "set":
                    yield from self._kept(call, change)

    def all(self) -> list[Lease]:
        """Return every term, those that last to the end behind those that are over."""
        for key, held in list(self._held.items()):
            if held.over(self._now_us):
                self._end(key, "expired")
        return [*self.ended, *(held.lease for held in self._held.values())]

    # -- the fence --

    def _fenced(self, call: Audited, step: Step) -> Iterator[Finding]:
        touched = [c for c in step.changes if c.what in {"delivered", "claimed", "settled"}]
        if call.script == FOREIGN or call.script in OPERATORS:
            return
        if call.epoch is None or call.lease is None:
            if touched:
                said = f"{call.script} changed what is pending, and no epoch fences it"
                yield Finding("I5", said, (touched[0].fields.id,))
            return
        held = self._held.get(call.lease.removeprefix(self._prefix))
        current = held and held.lease.epoch == call.epoch
        if call.writes and call.refusal is None:
            yield from self._allowed(call, held, touched[0].fields.id if touched else "")
        elif held and current and _is_lost(call) and held.lasts(call.began_us):
            yield Finding("I5", f"{call.script} was refused under epoch {call.epoch}, which lasts")
        for change in touched:
            named = change.owned.consumer if change.owned else call.consumer
            if named and named.rpartition("@")[2] != str(call.epoch):
                said = f"{call.script} under epoch {call.epoch} acted for {named}"
                yield Finding("I5", said, (change.fields.id,))

    def _allowed(self, call: Audited, held: Held | None, message_id: str) -> Iterator[Finding]:
        said = f"{call.script} under epoch {call.epoch} changed something,"
        ids = (message_id,) if message_id else ()
        if held is None:
            yield Finding("I5", f"{said} while nobody holds the lease", ids)
        elif held.lease.epoch != call.epoch:
            yield Finding("I5", f"{said} while {held.lease.holder} holds the lease", ids)
        elif held.over(call.began_us):
            yield Finding("I5", f"{said} when its lease was over", ids)

    # -- leases --

    def _given(self, call: Audited, change: LeaseChange) -> Iterator[Finding]:
        holder, epoch = change.values.get("holder", ""), int(change.values["epoch"])
        if call.script != "acquire":
            yield Finding("I5", f"{call.script} gave a lease to {holder}")
        if epoch <= self._last_epoch:
            yield Finding("I5", f"epoch {epoch} of {holder} is not above {self._last_epoch}")
        elif epoch < call.now_us // 1000:
            said = f"epoch {epoch} of {holder} is below the server's ms: it could come twice"
            yield Finding("I5", said)
        if held := self._held.get(change.key):
            if change.added < len(change.values):
                said = f"{holder} was given the lease that {held.lease.holder} holds"
                yield Finding("I5", said)
            elif held.lasts(call.began_us):
                said = f"the lease of {held.lease.holder} vanished before its time"
                yield Finding("I5", said)
            self._end(change.key, "expired")
        self._last_epoch = max(epoch, self._last_epoch)
        lease = Lease(call.queue, call.lane, change.key, holder, epoch, call.now_us, None, "")
        self._held[change.key] = Held(lease)

    def _kept(self, call: Audited, change: LeaseChange) -> Iterator[Finding]:
        held = self._held.get(change.key)
        if held is None and call.script != FOREIGN:
            yield Finding("I5", f"{call.script} made a lease again that was over")

    def _end(self, key: str, how: str) -> None:
        if held := self._held.pop(key, None):
            until_us = self._now_us
            if how == "expired" and held.ends_us:
                until_us = held.ends_us[1]
            self.ended.append(replace(held.lease, until_us=until_us, ended=how))  # type: ignore[arg-type]


def _is_lost(call: Audited) -> bool:
    return call.refusal is not None and call.refusal.startswith("LEASELOST")
