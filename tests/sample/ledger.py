"""The ledger that the sample service keeps."""

import sqlite3
from contextlib import closing
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


def rows(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path, timeout=20)) as ledger:
        return [Row(*row) for row in ledger.execute("SELECT * FROM ledger ORDER BY rowid")]


def count(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=20)) as ledger:
        (number,) = ledger.execute("SELECT count(*) FROM ledger").fetchone()
        return int(number)
