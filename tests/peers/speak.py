"""What an adapter says and is told: `python -m tests.peers.speak ADAPTER COMMAND …`.

    publish FIRST COUNT SECONDS       one after the other → {"published": N, "seconds": S}
    bulk FIRST COUNT SECONDS          500 at a time → the same; no messages if it knows no bulk
    schedule FIRST COUNT LEAD SPAN    due LEAD s from now on, evenly over SPAN s → and "at_ms"
    consume                           handle messages until killed

Messages are numbered from FIRST; publishing ends after COUNT messages or SECONDS.
"""

import asyncio
import importlib
import json
import sys
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

BATCH = 500
BODY_BYTES = 100
Body = dict[str, Any]


class Adapter(ABC):
    """One peer, spoken to in its own environment. A peer that knows no asyncio just blocks."""

    async def open(self) -> None:  # noqa: B027 - a peer that has nothing to open leaves it out
        """Connect what publishing needs."""

    @abstractmethod
    async def publish(self, body: Body) -> None:
        """Publish a message that is due now."""

    async def publish_many(self, bodies: list[Body]) -> None:
        """Publish messages as one; a peer that has no such thing leaves it out."""
        raise NotImplementedError

    @abstractmethod
    async def schedule(self, body: Body, due: datetime) -> None:
        """Publish a message that is due later."""

    @abstractmethod
    def consume(self) -> None:
        """Handle messages in this process, until it is killed."""


def body(n: int, due_ms: int = 0) -> Body:
    """Make a message whose JSON has 100 bytes."""
    made = {"n": n, "due": due_ms, "pad": ""}
    short_by = BODY_BYTES - len(json.dumps(made, separators=(",", ":")))
    return made | {"pad": "x" * short_by}


async def speak(adapter: Adapter, command: str, numbers: list[float]) -> None:
    """Do what was asked, and print how long it took."""
    first, count, third, span_s = (*numbers, 0.0)[:4]
    bodies = [body(n) for n in range(int(first), int(first + count))]
    await adapter.open()
    start = time.perf_counter()
    at_ms = int((time.time() + third) * 1000)
    match command:
        case "publish":
            published = await _one_by_one(adapter, bodies, start + third)
        case "bulk":
            published = await _in_bulk(adapter, bodies, start + third)
        case _:
            published = await _spread(adapter, bodies, at_ms, span_s * 1000)
    seconds = time.perf_counter() - start
    print(json.dumps({"published": published, "seconds": seconds, "at_ms": at_ms}), flush=True)


async def _one_by_one(adapter: Adapter, bodies: list[Body], until: float) -> int:
    for done, one in enumerate(bodies):
        if time.perf_counter() > until:
            return done
        await adapter.publish(one)
    return len(bodies)


async def _in_bulk(adapter: Adapter, bodies: list[Body], until: float) -> int:
    for done in range(0, len(bodies), BATCH):
        if time.perf_counter() > until:
            return done
        try:
            await adapter.publish_many(bodies[done : done + BATCH])
        except NotImplementedError:
            return 0
    return len(bodies)


async def _spread(adapter: Adapter, bodies: list[Body], at_ms: int, span_ms: float) -> int:
    for i, one in enumerate(bodies):
        due_ms = int(at_ms + i * span_ms / len(bodies))
        await adapter.schedule(body(one["n"], due_ms), datetime.fromtimestamp(due_ms / 1000, UTC))
    return len(bodies)


def main() -> None:
    """Speak for the adapter that is named first."""
    name, command, *numbers = sys.argv[1:]
    adapter = importlib.import_module(f"tests.peers.adapters.{name}").ADAPTER
    if command == "consume":
        adapter.consume()
    else:
        asyncio.run(speak(adapter, command, [float(number) for number in numbers]))


if __name__ == "__main__":
    main()
