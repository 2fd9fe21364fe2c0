"""Dead letters: looked at, sent again, deleted."""

import math
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.browse import listed
from delayq.clock import Clock, as_argument, mono_s
from delayq.keys import LaneKeys
from delayq.publishing import PROMOTE_LIMIT
from delayq.record import Page

MAX_IDS = 1_000
"""Ids that one script is given at most."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """How far redriving has come."""

    moved: int = 0
    not_redrivable: int = 0
    """Those met that have no `body`, and stay where they are."""


OnPage = Callable[[Redriven], object]


class DeadLetters:
    """The dead letters of one queue: lane by lane."""

    def __init__(self, client: Redis, lanes: Sequence[LaneKeys], clock: Clock) -> None:
        self._client = client
        self._lanes = lanes
        self._clock = clock

    async def list(self, limit: int = 100, after: str = "") -> Page:
        """List them, of each lane the oldest first, as `Queue.list` does."""
        return await listed(self._client, self._lanes, "dead", limit, after)

    async def redrive(
        self,
        *,
        ids: Collection[str] | None = None,
        reason: str | None = None,
        rate: float | None = None,
        on_page: OnPage | None = None,
    ) -> int:
        """Send again what is dead now: to the schedule, due now, with its id, its deliveries anew.

        Of the order of the queue nothing is kept: a message redriven comes after what is ready
        now, also after later ones of its key. One that dies again meanwhile is not taken again.
        Letters without a `body` stay: there is no message to send.

        :param ids: only those of these messages; None is all
        :param reason: only letters that died for exactly this reason
        :param rate: messages per second at most; None is as fast as can be
        :param on_page: called after each page with what was done so far
        :return: how many were sent again
        :raises ValueError: if `rate` is not above 0, or not finite
        :raises ServerError: if the server did not answer, or refused; some may be moved, and the
            call may be repeated
        """
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"rate: above 0, and finite (got {rate})")
        limit = PROMOTE_LIMIT if rate is None else max(1, min(PROMOTE_LIMIT, int(rate / 10)))
        began, done = mono_s(), Redriven()
        pages = self._pages("redrive", _redriving, limit, ids, reason, self._lanes[0].group)
        async for moved, skipped in pages:
            done = Redriven(done.moved + moved, done.not_redrivable + skipped)
            if on_page is not None:
                on_page(done)
            if rate is not None:
                await anyio.sleep(max(0, began + done.moved / rate - mono_s()))
        return done.moved

    async def purge(
        self,
        *,
        ids: Collection[str] | None = None,
        reason: str | None = None,
        older_than_ms: int | None = None,
    ) -> int:
        """Delete what is dead now.

        :param ids: as for `redrive`
        :param reason: as for `redrive`
        :param older_than_ms: only letters that have been dead for longer than that
        :return: how many were deleted
        :raises ValueError: if `older_than_ms` is below 0
        :raises ServerError: if the server did not answer, or refused; some may be deleted
        """
        if older_than_ms is not None and older_than_ms < 0:
            raise ValueError(f"older_than_ms: at least 0 (got {older_than_ms})")
        age_ms = 0 if older_than_ms is None else older_than_ms
        pages = self._pages("purge_dead", _purging, PROMOTE_LIMIT, ids, reason, age_ms)
        return sum([deleted async for deleted, _ in pages])

    async def _pages(
        self,
        script: str,
        keys_of: Callable[[LaneKeys], Sequence[str]],
        limit: int,
        ids: Collection[str] | None,
        reason: str | None,
        *more: object,
    ) -> AsyncIterator[tuple[int, int]]:
        """Run a script over all letters that are there now, a page at a time."""
        ends = {keys: newest for keys in self._lanes if (newest := await self._newest(keys))}
        now_ms = self._clock.now_ms()
        for (keys, newest), part in product(ends.items(), list(_parts(ids))):
            start = "-"
            while start:
                args = [as_argument(now_ms), start, newest, limit]
                filters = [*more, reason or "", *part]
                start, done, skipped = await scripts.run(
                    self._client, script, keys_of(keys), [*args, *filters]
                )
                yield done, skipped

    async def _newest(self, keys: LaneKeys) -> str | None:
        last = await scripts.command(self._client, "XREVRANGE", keys.dead, "+", "-", "COUNT", 1)
        return last[0][0] if last else None


def _redriving(k: LaneKeys) -> list[str]:
    return [k.dead, k.schedule, k.bodies, k.arrival, k.bell, k.stream]


def _purging(k: LaneKeys) -> list[str]:
    return [k.dead]


def _parts(ids: Collection[str] | None) -> "Iterator[list[str]]":
    """Cut ids into what one script takes; without ids there is one empty part: all."""
    if ids is None:
        yield []
        return
    left = iter(dict.fromkeys(ids))
    while part := list(islice(left, MAX_IDS)):
        yield part
