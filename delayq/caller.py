"""The caller: numbers its calls, so that one which is made again is known to be the same.

Whoever publishes makes one call after the other, and repeats only its last one. So the server keeps
the last number of each caller, however much it publishes, and no number of it comes twice: the
idempotent producer of Kafka (KIP-98). Where a machine is copied, or set back, there are two of one
caller: whoever lags behind is told so by the server, and becomes another (`Call.renew`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ID_BYTES = 8


@dataclass(slots=True)
class Call:
    """What a call is known by, however often it is made."""

    by: "Caller"
    caller: str
    number: int

    def renew(self) -> None:
        """Be the first call of another caller: a copy of this one's process was ahead of it."""
        self.by.renew()
        call = self.by.call()
        self.caller, self.number = call.caller, call.number


class _Process:
    """A child that was forked is another caller than its parent."""

    forks = 0


def _forked() -> None:
    _Process.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Caller:
    """One who makes calls one after the other."""

    def __init__(self) -> None:
        self._id = ""
        self._number = 0
        self._forks = 0

    def __reduce__(self) -> tuple[type["Caller"], tuple[()]]:
        """Make a copy, here or in another process, another caller."""
        return Caller, ()

    def call(self) -> Call:
        """Begin another call: whatever became of those before, they are not made any more."""
        # Chosen when it is needed: a process may be copied, asleep, before it publishes at all.
        if not self._id or self._forks != _Process.forks:
            self.renew()
        self._number += 1
        return Call(self, self._id, self._number)

    def renew(self) -> None:
        """Be another caller from now on."""
        self._id, self._number, self._forks = os.urandom(_ID_BYTES).hex(), 0, _Process.forks


class Callers:
    """Callers that make no call at present: whoever comes takes one, so that they stay few."""

    def __init__(self) -> None:
        self._free: list[Caller] = []

    @contextmanager
    def one(self) -> Iterator[Caller]:
        """Take a caller, for calls one after the other."""
        caller = self._free.pop() if self._free else Caller()
        try:
            yield caller
        finally:
            self._free.append(caller)
