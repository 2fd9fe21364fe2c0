"""Slowness that nobody made: a machine that has too much to do, a disk that is slow."""

from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import checkpoint

from delayq.clock import mono_s
from delayq.errors import ServerError

LOOK_S = 0.025
SLOW_MS = 50
"""A loop that is later may act on when its lease is over: the margin is a tenth of the ttl."""
SERVER_SLOW_MS = 200
"""A server that is later may cost a lease, which is renewed each third of its ttl."""


async def watch(
    tell: Callable[[int], None], least_ms: int, look: Callable[[], Awaitable[object]] = checkpoint
) -> None:
    """Look again and again; tell how many ms the loop was late, with what `look` took, if many."""
    while True:
        since_s = mono_s()
        await anyio.sleep(LOOK_S)
        try:
            await look()
        except ServerError:
            continue  # whoever broke it has told
        late_ms = round((mono_s() - since_s - LOOK_S) * 1000)
        if late_ms >= least_ms:
            tell(late_ms)
