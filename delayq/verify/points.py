"""Fail points: named places which a process passes, and at which it may be told to die or freeze.

A point is `before` or `after` a script, by its name, or `handler`. The process does it to itself:
so it happens exactly there, and SIGKILL and SIGSTOP cannot be caught.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from delayq import scripts
from delayq.verify.history import Fault
from delayq.verify.log import Log

Act = Literal["kill", "freeze", "stop"]
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
SETTLING = ("ack", "fetch", "retry", "dead_letter", "release", "reclaim")
POINTS = ("handler", *(f"{side} {name}" for name in SETTLING for side in ("before", "after")))


@dataclass
class Armed:
    """What is to happen at the `nth` passing of a point."""

    point: str
    nth: int
    act: Act


class Points:
    """The fail points of this process.

    :param told: called before it happens, as there may be no time after
    """

    def __init__(self, log: Log, told: Callable[[Armed, str], None]) -> None:
        self._log = log
        self._told = told
        self._armed: list[Armed] = []

    def install(self) -> None:
        """Pass points before and after every script."""
        scripts.interpose(self._around)

    def arm(self, armed: Armed) -> None:
        """Have something happen at a point."""
        self._armed.append(armed)

    def disarm(self) -> None:
        """Have nothing happen any more."""
        self._armed.clear()

    def passed(self, point: str, message_id: str = "") -> None:
        """Pass a point; this may be the end of the process."""
        for armed in [armed for armed in self._armed if armed.point == point]:
            armed.nth -= 1
            if armed.nth == 0:
                self._armed.remove(armed)
                self._told(armed, message_id)
                process = self._log.process
                self._log.write(Fault, kind=armed.act, target=process, note=f"at {point}")
                os.kill(os.getpid(), SIGNALS[armed.act])

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.passed(f"before {name}")
        answer = await call()
        self.passed(f"after {name}")
        return answer
