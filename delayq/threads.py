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
        self._ended = anyio.Event()
        self.lost = 0
        """Places that are kept by calls that were given up."""

    @property
    def hang(self) -> bool:
        """Whether all places are lost."""
        return self.lost >= self._places.total_tokens

    async def ready(self) -> None:
        """Wait until not all places are lost."""
        while self.hang:
            await self._ended.wait()

    async def take(self) -> Place:
        """Take a place; wait for one, as long as a call may take once more, if all hang.

        :raises ThreadsHang: if all hang still
        """
        place = Place()
        while True:
            with anyio.move_on_after(self._limit_s):
                await self._places.acquire_on_behalf_of(place)
                return place
            if self.hang:
                raise ThreadsHang(f"{self.lost} threads are over their limit of {self._limit_s} s")

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
            self.lost += 1

    def _free(self, place: Place) -> None:
        place.ended = True
        self.lost -= place.given_up
        self._places.release_on_behalf_of(place)
        self._ended.set()
        self._ended = anyio.Event()
