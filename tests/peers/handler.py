"""The handler that every peer is measured with: it does nothing, and says that it was called.

What it says goes down a named pipe, a line at a time: how many this process has handled, which
message it was, when that was due, and when it came (both in ms, by the clock of this machine).
"""

import asyncio
import itertools
import os
import threading
import time
from typing import Any

_every = int(os.environ.get("PEERS_EVERY", "1"))
"""Only the first message and each so-many-th is told of: where thousands a second are counted."""
_holds = os.environ.get("PEERS_HOLD") == "1"
"""Handlers begin and never end, so that a process has messages in hand when it is killed."""
_counter = itertools.count(1)
_pipes: list[int] = []


async def handle(body: dict[str, Any]) -> None:
    """Handle a message in an event loop."""
    tell(body)
    if _holds:
        await asyncio.Event().wait()


def handle_blocking(body: dict[str, Any]) -> None:
    """Handle a message in a thread or a process."""
    tell(body)
    if _holds:
        threading.Event().wait()


def tell(body: dict[str, Any]) -> None:
    """Say that a message is in hand."""
    handled = next(_counter)
    if handled > 1 and handled % _every:
        return
    if not _pipes:
        # Opened where the first message is handled: that may be a child of the process.
        _pipes.append(os.open(os.environ["PEERS_PIPE"], os.O_WRONLY))
    line = f"{handled} {body['n']} {body['due']} {time.time() * 1000}\n"
    os.write(_pipes[0], line.encode())
