"""The caller: numbers its calls, so that one which is made again is known to be the same.

Whoever publishes makes one call after the other, and repeats only its last one. So the server keeps
the last number of each caller, however much it publishes, and no number of it comes twice: the
idempotent producer of Kafka (KIP-98).
"""

import os
from typing import NamedTuple

_ID_BYTES = 8


class Call(NamedTuple):
    """What a call is known by."""

    caller: str
    number: int


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
            self._id, self._number, self._forks = os.urandom(_ID_BYTES).hex(), 0, _Process.forks
        self._number += 1
        return Call(self._id, self._number)
