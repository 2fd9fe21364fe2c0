"""The ledger that the sample service keeps, with a bell for those who wait for more in it."""

import os
import select
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    queue: str
    id: str
    key: str | None
    n: int
    epoch: int
    deliveries: int
    process: int
    at_ms: int
    due_ms: int
    outcome: str


def create(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.execute(
            "CREATE TABLE ledger (queue TEXT, id TEXT, key TEXT, n INT, epoch INT, "
            "deliveries INT, process INT, at_ms INT, due_ms INT, outcome TEXT)"
        )

    os.mkfifo(_bell(path))


def _bell(path: Path) -> Path:
    return path.with_suffix(".bell")


def ring(path: Path) -> None:
    """Wake who waits, if somebody does, after a row was written."""
    try:
        bell = os.open(_bell(path), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # nobody waits
    try:
        os.write(bell, b".")
    except OSError:
        pass  # the bell is full: it rings already
    finally:
        os.close(bell)


@contextmanager
def listening(path: Path) -> Iterator[Callable[[float], None]]:
    """Give a way to wait for the bell, some seconds at most. What rang meanwhile is heard."""
    bell = os.open(_bell(path), os.O_RDWR | os.O_NONBLOCK)

    def wait(seconds: float) -> None:
        if select.select([bell], [], [], seconds)[0]:
            os.read(bell, 65_536)

    try:
        yield wait
    finally:
        os.close(bell)


def rows(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path, timeout=20)) as ledger:
        return [Row(*row) for row in ledger.execute("SELECT * FROM ledger ORDER BY rowid")]


def count(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=20)) as ledger:
        (number,) = ledger.execute("SELECT count(*) FROM ledger").fetchone()
        return int(number)
