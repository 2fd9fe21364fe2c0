"""The checker: takes a history, and tells whether the invariants held.

Feed it in this order: every `Audited` of each lane, in the order of the lane's audit stream; then
what the logs hold, merged by time; then what was found in Redis. It may be fed while the run goes
on, and the audit be trimmed behind it.
"""

from delayq.verify.history import Audited, Found, Recorded, Terms, Verdict


class Checker:
    """Judges one run."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def audited(self, call: Audited) -> None:
        """Take the next call of a lane's audit."""
        raise NotImplementedError

    def recorded(self, event: Recorded) -> None:
        """Take the next event of the logs, in the order of time, after the whole audit."""
        raise NotImplementedError

    def found(self, key: Found) -> None:
        """Take a key that is left in Redis, after everything else."""
        raise NotImplementedError

    def verdict(self) -> Verdict:
        """Judge what was taken."""
        raise NotImplementedError
