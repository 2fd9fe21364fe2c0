"""The two clocks, named: one to store, one to compare.

Due times are kept in the *server's* time, read inside the scripts, so that all hosts share one
clock. What runs in this process (trust in a lease, the wait for the next due time) compares
`mono_s`, which no clock step touches. `real_ms` is for logs and reports alone.
"""

import time

import anyio


def mono_s() -> float:
    """Monotonic seconds of the running event loop: compare them, never store them."""
    return anyio.current_time()


def real_ms() -> float:
    """Milliseconds since the epoch by this host's clock, which may step: show them only."""
    return time.time_ns() / 1_000_000
