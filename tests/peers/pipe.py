"""What the handlers of a consumer process say, line by line, through a named pipe."""

import os
import select
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

_AT_ONCE_BYTES = 65_536


class Handled(NamedTuple):
    """One message that a handler was called with."""

    nth: int
    """How many that process had handled by then."""
    n: int
    due_ms: float
    """0: at once."""
    at_ms: float


class Pipe:
    """The reading end; `handled` grows as lines come in."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=folder)) / "handled"
        self.handled: list[Handled] = []
        self._rest = b""
        os.mkfifo(self.path)
        # Read and write: a pipe whose writers have all gone would not stop being readable.
        self._file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self.path.unlink()

    def until(self, enough: Callable[[], bool], within_s: float) -> bool:
        """Read until there is enough, and say whether there was in time."""
        ends_at = time.monotonic() + within_s
        while not enough():
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return False
            self._read(left_s)
        return True

    def until_count(self, count: int, within_s: float) -> bool:
        """Read until so many messages were handled."""
        return self.until(lambda: bool(self.handled) and self.handled[-1].nth >= count, within_s)

    def until_quiet(self, for_s: float, within_s: float) -> bool:
        """Read until nothing has come in for a while."""
        ends_at = time.monotonic() + within_s
        while self._read(for_s):
            if time.monotonic() > ends_at:
                return False
        return True

    def _read(self, within_s: float) -> bool:
        readable, _, _ = select.select([self._file], [], [], within_s)
        if not readable:
            return False
        *lines, self._rest = (self._rest + os.read(self._file, _AT_ONCE_BYTES)).split(b"\n")
        for line in lines:
            nth, n, due_ms, at_ms = line.split()
            self.handled.append(Handled(int(nth), int(n), float(due_ms), float(at_ms)))
        return True
