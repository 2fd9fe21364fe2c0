"""The clocks, named: one to store, one to compare.

Due times are kept in the *server's* time, read inside the scripts, so that all hosts share one
clock. What runs in this process (trust in a lease, the wait for the next due time) compares
`mono_s`, which no clock step touches. `real_ms` is for logs and reports alone.
"""

import time
from contextlib import AbstractContextManager

import anyio


def mono_s() -> float:
    """Monotonic seconds, those of the event loop, in any thread: compare them, never store them."""
    return time.monotonic()


def real_ms() -> float:
    """Milliseconds since the epoch by this host's clock, which may step: show them only."""
    return time.time_ns() / 1_000_000


def as_argument(now_ms: int | None) -> int | str:
    """Return a time as scripts take it: '' is the server's own."""
    return "" if now_ms is None else now_ms


class Clock:
    """What decides that a message is due: the server's clock, unless a test owns the time."""

    def now_ms(self) -> int | None:
        """Return the time to tell the scripts; None is the server's own."""
        return None

    def limit(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """Return a scope that is cancelled when so many seconds of this clock have passed."""
        return anyio.move_on_after(seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        with self.limit(seconds):
            await anyio.sleep_forever()


SERVER_CLOCK = Clock()


class SharedClock(Clock):
    """The clock of many queues: they all go by the one behind it, which may be exchanged."""

    def __init__(self, behind: Clock) -> None:
        self.behind = behind

    def now_ms(self) -> int | None:
        """See `Clock.now_ms`."""
        return self.behind.now_ms()

    def limit(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """See `Clock.limit`."""
        return self.behind.limit(seconds)
