"""The pool: tasks that work off one line, as many of them as there are that wait.

A handler that never waits is not paid for with a task of its own: one task works off the line. When
a handler waits the next task goes on, up to `most` of them, and they stay for what comes later.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

T = TypeVar("T")

_CALLED_UP = 2
"""How many tasks one that has work calls up: so that a thousand are at work in ten steps."""


class Pool(Generic[T]):
    """Works off one line of things, first come first served.

    :param act: what is done with each
    :param most: things worked on at once
    :param at_rest: called when all is done
    """

    def __init__(
        self, act: Callable[[T], Awaitable[None]], most: int, at_rest: Callable[[], None]
    ) -> None:
        self.line: deque[T] = deque()
        """What nobody has begun with."""
        self.awake = 0
        """Tasks that have not come to the end of the line."""
        self._act = act
        self._most = most
        self._at_rest = at_rest
        self._tasks: TaskGroup | None = None
        self._resting: list[asyncio.Future[None]] = []
        """Not an `anyio.Event`: there is one for nearly each message, if handlers wait."""

    def open(self, tasks: TaskGroup) -> None:
        """Begin, in tasks of this group."""
        self._tasks = tasks

    def add(self, things: Iterable[T]) -> None:
        """Put things in the line."""
        self.line.extend(things)
        self._call_up(1)

    def close(self) -> None:
        """Begin with nothing more. Tasks that are at work finish what they have."""
        self._tasks = None

    def _call_up(self, count: int) -> None:
        while count and self.line and self._tasks and self.awake < self._most:
            count -= 1
            self.awake += 1
            if not self._resting:
                self._tasks.start_soon(self._work)
            elif not (rest := self._resting.pop()).done():
                rest.set_result(None)

    async def _work(self) -> None:
        while True:
            if len(self.line) > 1:
                self._call_up(_CALLED_UP)
            while self.line and self._tasks:
                await self._act(self.line.popleft())
            self.awake -= 1
            if not self.awake:
                self._at_rest()
            rest = asyncio.get_running_loop().create_future()
            self._resting.append(rest)
            await rest
