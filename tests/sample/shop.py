"""A service: reminders that are due later, and orders that keep the order of their key.

Each handling is written to a ledger in SQLite, in one transaction, so that a test can tell who
handled what and when. SHOP_LEDGER names the file.
"""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import anyio
from pydantic import BaseModel

from delayq import App, Context, Retry
from tests.sample import ledger

LEDGER = Path(os.environ["SHOP_LEDGER"])


class Reminder(BaseModel):
    n: int


class Order(BaseModel):
    n: int
    fails: int = 0
    """How often handling it fails, before it succeeds."""


app = App(namespace="shop")
reminders = app.queue("reminders", Reminder)
orders = app.queue("orders", Order, ordering="key", retry=Retry(base_ms=1, cap_ms=5))
held = app.queue("held", str, ordering="strict")
stuck = app.queue("stuck", str)


def record(queue: str, n: int, context: Context, outcome: str) -> None:
    with closing(sqlite3.connect(LEDGER, timeout=20)) as book, book:
        book.execute(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(queue, context.id, context.key, n, context.epoch, context.deliveries),
                *(os.getpid(), time.time_ns() // 1_000_000, context.message.due_ms, outcome),
            ),
        )
    ledger.ring(LEDGER)


@reminders.handler(concurrency=4)
def remind(reminder: Reminder, context: Context) -> None:
    record("reminders", reminder.n, context, "ok")


@orders.handler(concurrency=4)
async def order(order: Order, context: Context) -> None:
    if context.deliveries <= order.fails:
        record("orders", order.n, context, "failed")
        raise ConnectionError("try again")
    record("orders", order.n, context, "ok")
    await anyio.sleep(0.001)


@stuck.handler()
def stay(_how: str, context: Context) -> None:
    record("stuck", 1, context, "begun")
    threading.Event().wait()


@held.handler()
async def hold(how: str, context: Context) -> None:
    """Hold on, in one of the ways in which a handler may."""
    record("held", 1, context, "begun")
    match how:
        case "await":
            await anyio.sleep(1)
        case "await for ever":
            await anyio.sleep_forever()
        case "thread":
            await anyio.to_thread.run_sync(threading.Event().wait)
        case "block a while":
            time.sleep(float(os.environ["SHOP_BLOCK_S"]))  # noqa: ASYNC251 - likewise
        case "block":
            time.sleep(60)  # noqa: ASYNC251 - this is what it shows
    record("held", 1, context, "ok")
