"""The handler of a run: does what the body says, and records each call before and after."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import anyio

from delayq.errors import LeaseLost
from delayq.handling import Context
from delayq.retry import Reject, RetryLater
from delayq.verify.history import Checked, Fault, Handled, Handling
from delayq.verify.log import Log
from delayq.verify.points import Points

WATCHED_S = 0.3
"""How long a handling takes that somebody watches for."""


class Reader:
    """Handles messages.

    :param handling: called with the id of a message that is watched for, when it is handled
    """

    def __init__(
        self, queue: str, log: Log, points: Points, handling: Callable[[str], None]
    ) -> None:
        self.handled = 0
        self.block_next_ms = 0
        """Have the next handling block the event loop."""
        self.watched: set[str] = set()
        """Ids of messages whose handling is to be told, and to last."""
        self._queue = queue
        self._log = log
        self._points = points
        self._handling = handling

    async def handle(self, body: Any, context: Context) -> None:
        """Handle a message, and record it."""
        place = self._place(context)
        message = context.message
        self._log.write(
            Handling,
            **place,
            id=message.id,
            consumer=context.consumer,
            deliveries=message.deliveries,
            key=message.key,
            due_ms=message.due_ms,
        )
        how = "cancelled"
        try:
            await self._as_ordered(context)
            await self._as_told(body, context)
            how = "ok"
        except Exception:
            how = "raised"
            raise
        finally:
            if how == "cancelled" and not context.remaining():
                how = "raised"  # its time limit ended it: a failure like others
            self._log.write(Handled, **place, id=message.id, how=how)
            self.handled += 1

    async def _as_ordered(self, context: Context) -> None:
        self._points.passed("handler", context.id)
        if context.id in self.watched:
            self._handling(context.id)
            await anyio.sleep(WATCHED_S)
        if self.block_next_ms:
            blocked_ms, self.block_next_ms = self.block_next_ms, 0
            self._block(blocked_ms)

    async def _as_told(self, body: Any, context: Context) -> None:
        do, ms = body.get("do", "pass"), body.get("ms", 0)
        match do if context.deliveries <= body.get("times", 0) else "pass":
            case "wait":
                await anyio.sleep(ms / 1000)
            case "hang":
                await anyio.sleep_forever()
            case "check":
                self._check(context)
            case "raise":
                raise RuntimeError("told to fail")
            case "later":
                raise RetryLater(ms)
            case "reject":
                raise Reject("told to be rejected")
            case "block":
                self._block(ms)
            case "die":
                process = self._log.process
                self._log.write(Fault, kind="kill", target=process, note="in the handler")
                os.kill(os.getpid(), signal.SIGKILL)

    def _block(self, ms: int) -> None:
        self._log.write(Fault, kind="stall", target=self._log.process, ms=ms, note="blocked loop")
        time.sleep(ms / 1000)

    def _check(self, context: Context) -> None:
        passed = True
        try:
            context.check()
        except LeaseLost:
            passed = False
            raise
        finally:
            self._log.write(Checked, **self._place(context), passed=passed)

    def _place(self, context: Context) -> dict[str, Any]:
        where = {"queue": self._queue, "lane": context.lane}
        return {**where, "entry": context.entry, "epoch": context.epoch}
