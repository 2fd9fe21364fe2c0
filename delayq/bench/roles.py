"""What the processes of the benchmark do. Each is given an order, and tells what happens."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import uniform
from typing import Any

import anyio
from redis.asyncio import Redis

from delayq.bench.scales import weighing
from delayq.bench.stage import CONSUMERS, body, moment
from delayq.clock import Clock, mono_s, real_ms
from delayq.connection import Server
from delayq.consumer import Consumer
from delayq.distribution import quantile
from delayq.events import Acked, Event, Released, StoodBy, TookOver
from delayq.handling import Context
from delayq.keys import LaneKeys
from delayq.poller import Poller
from delayq.queue import Queue
from delayq.supervisor import Supervisor, signalled

Order = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]


class Ahead(Clock):
    """A clock that stands at a time to come: all that is scheduled up to then is due."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int | None:
        """See `Clock.now_ms`."""
        return self._now_ms


async def consume(order: Order, tell: Tell) -> None:
    """Run a consumer until SIGTERM; tell when it stands by, takes over, and begins to handle.

    :param order: `each`: tell of each message and not of the first alone; `handle_s`: how long a
        handler takes
    """
    told = False

    def observe(event: Event) -> None:
        if isinstance(event, StoodBy):
            tell({"stood_by": True})
        elif isinstance(event, TookOver):
            tell({"took_over": event.epoch})

    async def handle(body: Any, _context: Context) -> None:
        nonlocal told
        if order["each"] or not told:
            tell({"handled": body["n"], "at_s": mono_s()})
            told = True
        await anyio.sleep(order["handle_s"])

    def consumer() -> Consumer:
        return Consumer(
            server,
            queue,
            handle,
            name=order["consumer"],
            lease_ttl_s=order["lease_ttl_s"],
            batch=order["batch"],
            concurrency=order["batch"],
            observe=observe,
        )

    server = Server(order["url"])
    async with server.client("bench") as client, Supervisor(grace_s=5) as supervisor:
        queue = _queue(order, client)
        supervisor.spawn("consumer", consumer)
        await signalled()


async def load(order: Order, tell: Tell) -> None:
    """Publish messages that become due at a steady rate, one `lead_s` after the other began.

    Every `every_s` as many as become due meanwhile, by one call; a lone one at a random time. Tells
    how much too late its own timer was: that of this machine, with nothing of delayq.
    """
    late_ms: list[float] = []
    each_s = order["every_s"] / order["batch"]
    async with Server(order["url"]).client("load") as client:
        queue = _queue(order, client)
        began_s, number = mono_s(), 0
        while number < order["count"]:
            due_s = began_s + number * each_s
            await anyio.sleep(max(0, due_s - mono_s()))
            late_ms.append((mono_s() - due_s) * 1000)
            now_ms = real_ms() + order["clock_offset_ms"]
            first_ms = now_ms + (order["lead_s"] + uniform(0, each_s)) * 1000  # noqa: S311
            await queue.publish_many(
                queue.message(body(number + at), deliver_at=moment(first_ms + at * each_s * 1000))
                for at in range(order["batch"])
            )
            number += order["batch"]
    p50, p99, most = (quantile(late_ms, part) for part in (0.5, 0.99, 1))
    tell({"timer": {"p50_ms": p50, "p99_ms": p99, "max_ms": most}})


async def drain_all(order: Order, tell: Tell) -> None:
    """Promote and handle `count` messages, all due at once; tell of time, order and memory.

    And of the CPU of the server that scripts took, to a tenth of a ms, and how many so much.
    """
    acked, previous, out_of_order, done = 0, -1, 0, anyio.Event()

    def observe(event: Event) -> None:
        nonlocal acked
        if isinstance(event, Acked):
            acked += len(event.ids)
            tell({"acked": acked})
            if acked >= order["count"]:
                done.set()

    async def handle(body: Any, _context: Context) -> None:
        nonlocal previous, out_of_order
        out_of_order += body["n"] <= previous
        previous = body["n"]

    server = Server(order["url"])
    async with server.client("bench") as client, Supervisor() as supervisor:
        queue = replace(_queue(order, client), clock=Ahead(order["now_ms"]))
        before_mb, began_s, began_cpu_s = peak_mb(), mono_s(), time.process_time()
        supervisor.spawn("poller", lambda: Poller(server, queue))
        supervisor.spawn(
            "consumer",
            lambda: Consumer(server, queue, handle, name=CONSUMERS[0], observe=observe),
        )
        with weighing(client) as spent_ms:
            await done.wait()
        wall_s, client_s = mono_s() - began_s, time.process_time() - began_cpu_s
        memory = {"rss_mb": peak_mb(), "rss_growth_mb": peak_mb() - before_mb}
    scripts = list(Counter(round(ms, 1) for ms in spent_ms).items())
    found = {"wall_s": wall_s, "client_s": client_s, "out_of_order": out_of_order}
    tell({"drained": {**found, **memory, "scripts": scripts}})


async def drain_part(order: Order, tell: Tell) -> None:
    """Handle what is in the lanes that are for this process until SIGTERM; tell what is acked.

    Tells, too, of how many lanes it became active in, or stopped to be.
    """
    held = 0

    def observe(event: Event) -> None:
        nonlocal held
        match event:
            case Acked(ids=ids):
                tell({"acked": len(ids)})
            case TookOver() | Released():
                held += 1 if isinstance(event, TookOver) else -1
                tell({f"holds {held}": True})

    async def handle(_body: Any, _context: Context) -> None:
        """Do nothing."""

    server = Server(order["url"])
    async with server.client("bench") as client, Supervisor(grace_s=5) as supervisor:
        queue, name, batch = _queue(order, client), order["consumer"], order["batch"]
        supervisor.spawn(
            "consumer",
            lambda: Consumer(server, queue, handle, name=name, batch=batch, observe=observe),
        )
        await signalled()


ROLES: dict[str, Callable[[Order, Tell], Awaitable[None]]] = {
    "consume": consume,
    "load": load,
    "drain_all": drain_all,
    "drain_part": drain_part,
}


def peak_mb() -> float:
    """Return the most memory that this process ever had resident, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _queue(order: Order, client: Redis) -> Queue:
    keys = LaneKeys(order["namespace"], order["queue"])
    return Queue(lambda: client, keys, order["ordering"], lanes=order["lanes"])
