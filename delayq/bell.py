"""A doorbell: waits for something to be added to a stream, and reads nothing for keeps.

It is an `XREAD BLOCK` outside any consumer group, from the last id seen, on a connection of its
own. It changes nothing at the server, so it may be cut, cancelled or time out; a reader that was
frozen in it wakes to no message. A bell is a hint: whoever waits on it looks from time to time.
"""

import anyio
from redis.asyncio import Redis

from delayq.connection import BLOCK_MS
from delayq.errors import ServerError
from delayq.scripts import command

_BACKOFF_S = 0.1


class Bell:
    """Waits on one stream. `listen` must run beside whoever calls `wait`."""

    def __init__(self, client: Redis, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._heard = "0-0"
        self._armed = anyio.Event()
        self._rung = anyio.Event()

    async def listen(self) -> None:
        """Listen whenever somebody waits, for ever. An outage rings: things may have changed."""
        while True:
            await self._armed.wait()
            try:
                heard = await self._read()
            except ServerError:
                await anyio.sleep(_BACKOFF_S)
                heard = self._heard
            if heard:
                self._heard = heard
                self._armed = anyio.Event()
                self._rung.set()

    async def _read(self) -> str | None:
        """Return the id of the first entry after the last one heard; None if there came none."""
        read = ("XREAD", "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", self._stream, self._heard)
        answer = await command(self._client, *read)
        return str(answer[0][1][-1][0]) if answer else None

    async def wait(self, timeout_s: float, after: str | None = None) -> bool:
        """Wait until something is added, past the id `after` or past what was heard before.

        :return: False if nothing was heard for `timeout_s`
        """
        if after is not None and after != self._heard:
            self._heard = after
            self._rung = anyio.Event()
        self._armed.set()
        with anyio.move_on_after(timeout_s):
            await self._rung.wait()
        rung = self._rung.is_set()
        if rung:
            self._rung = anyio.Event()
        return rung
