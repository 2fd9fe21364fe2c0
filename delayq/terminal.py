"""What a command asks for at a terminal, or reads from a pipe; Ctrl-C ends it meanwhile."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def agreed(question: str) -> bool:
    """Ask whether something is to be done."""
    with _interruptible():
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def whole_input() -> str:
    """Return the standard input, to its end."""
    with _interruptible():
        if sys.stdin.isatty():
            print("The body, as JSON, and then Ctrl-D:", file=sys.stderr, flush=True)
        return sys.stdin.buffer.read().decode(errors="surrogateescape")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt at once.

    An event loop has it cancel its task, which would be heard when that goes on: what blocks it
    waits for ever.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = asyncio.current_task()
        if task and task.cancelling():  # it came just before
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)
