"""The threads of handlers that are not async: as many run at once as there are places.

A thread cannot be ended from outside. One whose call was given up, over its time limit or with its
lease lost, keeps its place until it ends: so never do more run.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio import to_thread

from delayq.clock import mono_s


class ThreadsHang(Exception):
    """Raised where no thread is to be had: all places are kept by calls that were given up."""


class Place:
    """One thread's place, from when it is taken until the thread has ended."""

    def __init__(self) -> None:
        self.begun = threading.Lock()
        """Whoever has it: the thread that runs, or the caller that keeps it from beginning."""
        self.ended = False
        self.given_up = False


class Threads:
    """The threads of one handler.

    :param places: how many run at once
    :param limit_s: how long a call may take before its caller gives it up; infinity: for ever
    """

    def __init__(self, places: int, limit_s: float) -> None:
        self._limit_s = limit_s
        self._places = anyio.CapacityLimiter(places)
        self._unlimited = anyio.CapacityLimiter(math.inf)
        self._lost = 0
        """Places that are kept by calls that were given up."""
        self._lost_all_at = 0.0
        """Since when these are all of them, in monotonic seconds."""
        self._ended = anyio.Event()
        self._waits: set[anyio.CancelScope] = set()
        self._hurried = False

    @property
    def hang(self) -> bool:
        """Whether all places are lost."""
        return self._lost >= self._places.total_tokens

    async def ready(self) -> None:
        """Wait until not all places are lost."""
        while self.hang:
            await self._ended.wait()
        self._hurried = False

    def hurry(self) -> None:
        """Until `ready`, wait for no place while all hang."""
        self._hurried = True
        for wait in self._waits:
            wait.cancel()

    async def take(self) -> Place:
        """Take a place. While all hang it waits for one as long as a call may take.

        :raises ThreadsHang: if all hang still
        """
        place = Place()
        while (patience_s := self._patience_s()) > 0:
            with anyio.move_on_after(patience_s) as wait:
                self._waits.add(wait)
                try:
                    await self._places.acquire_on_behalf_of(place)
                finally:
                    self._waits.discard(wait)
                return place
        raise ThreadsHang(f"{self._lost} threads are over their limit of {self._limit_s} s")

    async def call(self, place: Place, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread, which frees the place when it ends."""
        loop = asyncio.get_running_loop()

        def run() -> Any:
            if place.begun.acquire(blocking=False):
                try:
                    return function(*args)
                finally:
                    with suppress(RuntimeError):  # the loop is closed: nobody waits for the place
                        loop.call_soon_threadsafe(self._free, place)
            return None

        return await to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._unlimited)

    def leave(self, place: Place) -> None:
        """Wait for the call no more: it has ended, has not begun, or is given up."""
        if place.begun.acquire(blocking=False):
            self._free(place)
        elif not place.ended:
            place.given_up = True
            self._lost += 1
            self._lost_all_at = mono_s()

    def _patience_s(self) -> float:
        if not self.hang:
            return self._limit_s
        return 0 if self._hurried else self._lost_all_at + self._limit_s - mono_s()

    def _free(self, place: Place) -> None:
        place.ended = True
        self._lost -= place.given_up
        self._places.release_on_behalf_of(place)
        self._ended.set()
        self._ended = anyio.Event()
