"""Draining: a consumer of this process handles what is in a queue, or a raw loop does."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from delayq.bench.meter import Cost, Meter
from delayq.bench.stage import CONSUMERS, Stage, bodies
from delayq.consumer import Consumer
from delayq.events import Acked, Event, TookOver
from delayq.handling import Context, Handler
from delayq.logs import log_trouble
from delayq.outgoing import Outgoing
from delayq.queue import Queue
from delayq.supervisor import Supervisor

CONCURRENCY = 1_000
"""Handlers at once, where they wait."""
BATCH = 500
"""Messages fetched at once: as many as in the raw loop."""
KEYS = 100


async def nothing(_body: Any, _context: Context | None = None) -> None:
    """Handle a message by doing nothing."""


async def drain(
    stage: Stage, queue: Queue, count: int, handler: Handler, concurrency: int = BATCH
) -> Cost:
    """Handle `count` messages that are ready, and measure from the first lease to the last ack."""
    acked, done, meter = 0, anyio.Event(), await Meter.ready(stage.client)
    began = False

    def observe(event: Event) -> None:
        nonlocal acked, began
        match event:
            case TookOver():
                if not began:
                    meter.start()
                began = True
            case Acked(ids=ids):
                acked += len(ids)
                if acked >= count:
                    meter.stop()
                    done.set()
            case _:
                log_trouble(event)

    def consumer() -> Consumer:
        return Consumer(
            stage.server,
            queue,
            handler,
            name=CONSUMERS[0],
            batch=BATCH,
            concurrency=concurrency,
            observe=observe,
        )

    async with Supervisor(log_trouble) as supervisor:
        supervisor.spawn("consumer", consumer)
        await done.wait()
        return await meter.cost(count)


async def fill(queue: Queue, count: int) -> None:
    """Publish messages that are due now; by key, of a hundred keys."""
    await queue.publish_many([_message(queue, body) for body in bodies(count)])


async def drain_raw(
    stage: Stage, count: int, handler: Callable[[Any], Awaitable[None]] | None = None
) -> Cost:
    """Handle as many by the raw loop, one after the other; or many at once, by `handler`."""
    async with stage.raw() as raw:
        await raw.publish_in_bulk(bodies(count))
        meter = await Meter.ready(stage.client)
        if handler is None:
            await raw.drain(count, nothing)
        else:
            await raw.drain_at_once(count, handler, CONCURRENCY)
        meter.stop()
        return await meter.cost(count)


def _message(queue: Queue, body: dict[str, Any]) -> Outgoing:
    key = f"key-{body['n'] % KEYS}" if queue.ordering == "key" else None
    return queue.message(body, key=key)
