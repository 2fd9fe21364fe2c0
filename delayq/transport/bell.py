"""A doorbell: waits for something to be added to a stream, and reads nothing for keeps.

A bell is a hint: whoever waits on it looks from time to time.
"""

from collections.abc import Callable

import anyio


class Bell:
    """Waits on one stream, for one who waits.

    :param arm: has the stream listened to, past `heard`, until it rings
    """

    def __init__(self, stream: str, arm: Callable[["Bell"], None]) -> None:
        self.stream = stream
        self.heard = "0-0"
        """The id after which an entry is news."""
        self._arm = arm
        self._rung = anyio.Event()

    def ring(self, heard: str | None = None) -> None:
        """Wake whoever waits.

        :param heard: the id of the entry that is news; None if there may be some
        """
        self.heard = heard or self.heard
        self._rung.set()

    async def wait(self, timeout_s: float, after: str | None = None) -> bool:
        """Wait until something is added, past the id `after` or past what was heard before.

        :return: False if nothing was heard for `timeout_s`
        """
        if after is not None and after != self.heard:
            self.heard = after
            self._rung = anyio.Event()
        self._arm(self)
        with anyio.move_on_after(timeout_s):
            await self._rung.wait()
        rung = self._rung.is_set()
        if rung:
            self._rung = anyio.Event()
        return rung
