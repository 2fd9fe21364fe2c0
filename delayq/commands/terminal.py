"""What is read from a terminal, or a pipe: while that is waited for, Ctrl-C ends the command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt at once.

    As an event loop has it, it would be heard when that goes on, and what blocks it waits for ever.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
