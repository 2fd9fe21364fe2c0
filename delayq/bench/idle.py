"""Idle: what queues cost to which nothing is published."""

import secrets
import time
from typing import Any

import anyio

from delayq.app import App
from delayq.bench.meter import gauge
from delayq.bench.report import Figure, Section
from delayq.bench.stage import Stage
from delayq.clock import mono_s
from delayq.events import Event, TookOver
from delayq.handling import Context
from delayq.logs import log_trouble

QUEUES = (1, 10, 100)
_SETTLE_S = 1.0


async def measure(stage: Stage) -> Section:
    """Measure it for apps of a few and of many queues, each with a consumer and a poller."""
    figures = []
    for at, count in enumerate(QUEUES):
        stage.tell("idle", at, len(QUEUES))
        name = f"{count} queue{'s' if count > 1 else ''}"
        figures.append(Figure(name, await _idle(stage, count)))
    title = f"Idle: an app with nothing to do, for {stage.settings.load_seconds:g} s"
    notes = ["calls: what comes in at the server, of all clients; CPU: of one core"]
    return Section("idle", title, figures, notes=notes)


async def _idle(stage: Stage, count: int) -> dict[str, float | None]:
    active, all_active = 0, anyio.Event()

    def observe(event: Event) -> None:
        nonlocal active
        active += isinstance(event, TookOver)
        if active >= count:
            all_active.set()
        log_trouble(event)

    app = App(redis_url=stage.server.url, namespace=stage.settings.namespace, observe=observe)
    for _ in range(count):
        app.queue(f"bench-{secrets.token_hex(4)}").handler()(_handle)
    try:
        async with app:
            await app.start()
            await all_active.wait()
            await anyio.sleep(_SETTLE_S)
            return await _cost_of_time(stage)
    finally:
        for queue in app.queues.values():
            await stage.clear(queue, f"{queue.name}.{app.name}")


async def _cost_of_time(stage: Stage) -> dict[str, float | None]:
    before, began_s, began_cpu_s = await gauge(stage.client), mono_s(), time.process_time()
    await anyio.sleep(stage.settings.load_seconds)
    cpu_s, wall_s = time.process_time() - began_cpu_s, mono_s() - began_s
    after = await gauge(stage.client)
    return {
        "calls_per_s": (after.reads - before.reads - 1) / wall_s,
        "client_cpu_percent": cpu_s / wall_s * 100,
        "server_cpu_percent": (after.cpu_s - before.cpu_s) / wall_s * 100,
    }


async def _handle(_body: Any, _context: Context) -> None:
    """Handle nothing: nothing is published."""
