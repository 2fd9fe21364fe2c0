"""The sample service in processes of its own, as tests start it and wait for it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from delayq import LaneKeys, Server
from tests.processes import Running
from tests.sample import ledger

SHOP = "tests.sample.shop:app"
ORDERS, REMINDERS, HELD, STUCK = (
    LaneKeys("shop", name) for name in ("orders", "reminders", "held", "stuck")
)
Start = Callable[..., Running]


def until(book: Path, true: Callable[[], bool], what: str) -> None:
    """Wait for a condition of the ledger, which other processes write."""
    ends_at = time.monotonic() + 30
    with ledger.listening(book) as wait:
        while not true():
            assert time.monotonic() < ends_at, f"{what}: not so after 30 s"
            wait(1)


async def hold(server: Server, how: str, keys: LaneKeys = HELD) -> None:
    async with server.client() as client:
        await client.xadd(keys.stream, {"body": json.dumps(how)})
