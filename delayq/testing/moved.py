"""A clock that stands still, until a test moves it."""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio

from delayq.clock import Clock
from delayq.recurring import moment

START = datetime(2030, 1, 7, tzinfo=UTC)
"""Where the time of a test begins if it is not told: at midnight, on a Monday."""

Settle = Callable[[], Awaitable[int | None]]
"""Waits until all is quiet; returns when the next message is due, in ms, or None."""


@dataclass(eq=False)
class _Limit:
    due_ms: float
    scope: anyio.CancelScope


class MovedClock(Clock):
    """The time of a test.

    :param start: with a timezone
    :param settle: waits until everything that goes by this clock is quiet
    """

    def __init__(self, start: datetime, settle: Settle) -> None:
        if start.tzinfo is None:
            raise ValueError("start: a datetime with a timezone is needed")
        self._now_ms = round(start.timestamp() * 1000)
        self._limits: list[_Limit] = []
        self._settle = settle

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return moment(self._now_ms)

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self._now_ms

    @contextmanager
    def limit(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """See `Clock.limit`."""
        limit = _Limit(self._now_ms + _ms(seconds), anyio.CancelScope())
        self._limits.append(limit)
        try:
            with limit.scope:
                if limit.due_ms <= self._now_ms:
                    limit.scope.cancel()
                yield limit.scope
        finally:
            self._limits.remove(limit)

    @property
    def waking(self) -> bool:
        """Whether somebody whose time has come has not run yet."""
        return any(limit.due_ms <= self._now_ms for limit in self._limits)

    async def advance(
        self,
        duration: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move the time on, stopping at each moment at which something is due, until all is done.

        When this returns, everything due up to the new time has been delivered and settled.

        :param duration: added to what the other parameters say
        :raises ValueError: if it is not forward
        :raises NotQuiet: if a handler does not end; the error says which
        """
        duration = duration or timedelta()
        duration += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if duration < timedelta():
            raise ValueError(f"advance: forward only (got {duration})")
        target_ms = self._now_ms + _ms(duration.total_seconds())
        while True:
            due_ms = await self._settle()
            moments = [limit.due_ms for limit in self._limits]
            if due_ms is not None:
                moments.append(due_ms)
            if min(moments, default=math.inf) > target_ms:
                break
            self._move(min(moments))
        self._move(target_ms)
        await self._settle()

    def _move(self, to_ms: float) -> None:
        self._now_ms = int(to_ms)
        for limit in self._limits:
            if limit.due_ms <= self._now_ms:
                limit.scope.cancel()


def _ms(seconds: float) -> float:
    """Count whole ms, rounded up but for what a float is off by."""
    return seconds if math.isinf(seconds) else math.ceil(round(seconds * 1000, 3))
