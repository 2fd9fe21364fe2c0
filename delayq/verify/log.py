"""The log of a process: one file, a line an event, written so that SIGKILL loses no whole line."""

import heapq
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from delayq.verify import history
from delayq.verify.history import Recorded

_KINDS: dict[str, type[Recorded]] = {
    kind.__name__: kind
    for kind in vars(history).values()
    if isinstance(kind, type) and issubclass(kind, Recorded) and kind is not Recorded
}


class Log:
    """Writes the log of one process.

    Each line is one `write` to a file opened for appending: what was written is the kernel's, and
    outlives the process; not a crash of the host. SIGKILL may cut the line that is being written,
    where it crosses a page: its process did no more after that, so it died before the event.
    """

    def __init__(self, path: Path, process: str) -> None:
        self.process = process
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: type[Recorded], /, **told: Any) -> None:
        """Record an event, now.

        :param event: its class; `told` are its fields besides `at_ns` and `process`
        """
        row = asdict(event(at_ns=time.monotonic_ns(), process=self.process, **told))
        line = json.dumps({"is": event.__name__} | row, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Iterator[Recorded]:
    """Read the events of a log in their order, but a last one that was cut.

    :raises ValueError: if a line is no event
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                told = json.loads(line)
                yield _KINDS[told.pop("is")](**told)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def merged(paths: Iterable[Path]) -> Iterator[Recorded]:
    """Read the events of several logs, in the order in which they happened."""
    return heapq.merge(*map(read, paths), key=lambda event: event.at_ns)
