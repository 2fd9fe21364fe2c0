"""When something recurs: its ticks, and which of those that were missed are made up for.

Values alone: a ticker asks what comes next, and tick.lua decides what is accepted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Literal, Protocol, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Missed = Literal["skip", "latest", "all"]
"""What becomes of the ticks that were not scheduled: all processes were down, or stood still."""

MAX_TICKS = 1_000
"""Ticks accepted by one call at most."""
MIN_INTERVAL = timedelta(milliseconds=100)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LONGEST_FOLD_MS = 3 * 3_600_000
"""More than any clock is set back."""


class Timing(Protocol):
    """When the ticks are."""

    def after(self, ms: int) -> int | None:
        """Return the first tick after a moment; None if none comes any more."""

    def until(self, ms: int) -> int | None:
        """Return the last tick up to a moment, this included."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Ticks at the multiples of an interval since 1970, so that all processes mean the same."""

    every_ms: int

    def after(self, ms: int) -> int:
        """See `Timing.after`."""
        return (ms // self.every_ms + 1) * self.every_ms

    def until(self, ms: int) -> int:
        """See `Timing.until`."""
        return ms // self.every_ms * self.every_ms


@dataclass(frozen=True, slots=True)
class Cron:
    """Ticks of a cron expression, in a timezone. Where its clock is changed they are as in Debian.

    :raises ValueError: if the expression is none, or never comes true
    :raises ImportError: if the extra `cron` is not installed
    """

    expression: str
    zone: tzinfo

    def __post_init__(self) -> None:
        try:
            from cronsim import CronSimError  # noqa: PLC0415 - an extra, hence here
        except ImportError:
            raise ImportError(
                f"every {self.expression!r}: a cron expression needs the extra `cron`: "
                "pip install 'delayq[cron]'"
            ) from None
        try:
            first = self.after(0)
        except CronSimError as error:
            raise ValueError(f"every {self.expression!r}: no cron expression: {error}") from None
        if first is None:
            raise ValueError(f"every {self.expression!r}: this never comes")

    def after(self, ms: int) -> int | None:
        """See `Timing.after`."""
        # In an hour that comes twice, a tick may be named that has been: look past it.
        return next((tick for tick in self._ticks(ms) if tick > ms), None)

    def until(self, ms: int) -> int | None:
        """See `Timing.until`."""
        from_ms = ms + (_LONGEST_FOLD_MS if len(self.expression.split()) == 5 else 0)
        return next((tick for tick in self._ticks(from_ms, back=True) if tick <= ms), None)

    def _ticks(self, ms: int, *, back: bool = False) -> Iterator[int]:
        from cronsim import CronSim  # noqa: PLC0415 - an extra, hence here

        # Going back it begins with this very second if there are microseconds to take away.
        start = moment(ms, self.zone).replace(microsecond=1)
        return ((tick - _EPOCH) // _MS for tick in CronSim(self.expression, start, reverse=back))


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What recurs: its ticks, what becomes of missed ones, and the timezone they are told in."""

    timing: Timing
    missed: Missed
    zone: tzinfo

    def ticks(self, ticked_ms: int | None, now_ms: int) -> list[int]:
        """Tell which ticks are to be scheduled, in order: what was missed, then the next one.

        :param ticked_ms: the last one that is scheduled; None if there was never one
        :return: none, if that is still to come; `MAX_TICKS`, if there may be more
        """
        if ticked_ms is None:
            made_up: list[int] = []
        elif ticked_ms > now_ms:
            return []
        else:
            made_up = self._made_up(ticked_ms, now_ms)
        following = None if len(made_up) == MAX_TICKS else self.timing.after(now_ms)
        return made_up if following is None else [*made_up, following]

    def _made_up(self, ticked_ms: int, now_ms: int) -> list[int]:
        match self.missed:
            case "skip":
                return []
            case "latest":
                latest = self.timing.until(now_ms)
                return [] if latest is None or latest <= ticked_ms else [latest]
            case "all":
                past = takewhile(lambda tick: tick <= now_ms, self._from(ticked_ms))
                return list(islice(past, MAX_TICKS))

    def _from(self, ms: int) -> Iterator[int]:
        while (tick := self.timing.after(ms)) is not None:
            yield tick
            ms = tick


def recurrence(spec: str | timedelta, missed: Missed = "skip", timezone: str = "UTC") -> Recurrence:
    """Read when something recurs.

    :param spec: a cron expression of five fields, or six with seconds first; or an interval
    :param timezone: by which a cron expression is read; its IANA name
    :raises ValueError: if a part cannot be understood; the error names it
    :raises ImportError: if it is a cron expression and the extra `cron` is not installed
    """
    if missed not in get_args(Missed):
        raise ValueError(f"missed: one of {get_args(Missed)} (got {missed!r})")
    try:
        zone: tzinfo = UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone {timezone!r}: no such timezone; where the system has none at all, "
            "pip install tzdata"
        ) from None
    if isinstance(spec, str):
        return Recurrence(Cron(spec, zone), missed, zone)
    if not isinstance(spec, timedelta) or spec < MIN_INTERVAL or spec % _MS:
        needed = "a timedelta of whole ms, at least 100, or a cron expression"
        raise ValueError(f"every {spec!r}: {needed} is needed")
    return Recurrence(Interval(spec // _MS), missed, zone)


def moment(ms: int, zone: tzinfo = UTC) -> datetime:
    """Return ms since the epoch as a datetime."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
