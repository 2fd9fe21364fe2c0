"""The app: queues and handlers by name, and the roles that serve them in this process."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from delayq.appqueue import AppQueue, Handled, R
from delayq.body import B, Codec
from delayq.clock import SERVER_CLOCK, SharedClock
from delayq.connection import Lent, Server
from delayq.consumer import Consumer
from delayq.durability import Durability
from delayq.errors import NotOpen, ServerMissing, alone
from delayq.events import Event, Observer
from delayq.fitness import check
from delayq.handling import Context
from delayq.keys import LaneKeys
from delayq.logs import log_trouble, warn
from delayq.poller import Poller
from delayq.queue import OnDue, Ordering
from delayq.recurring import Missed, Recurrence, recurrence
from delayq.retry import OnFailure, Retry
from delayq.settings import AppSettings, load, own_name
from delayq.supervisor import Role, Supervisor, ending
from delayq.ticker import Ticker
from delayq.transport.link import Link


class App:
    """Queues that share a Redis and a namespace.

    Inside `async with app` its queues can be published to; `start` handles messages, too.

    :param redis_url: instead of DELAYQ_REDIS_URL
    :param namespace: instead of DELAYQ_NAMESPACE
    :param observe: called with an event for each thing that happens; by default trouble is logged
    :raises InvalidSettings: if a setting is wrong
    """

    def __init__(
        self,
        *,
        redis_url: str | None = None,
        namespace: str | None = None,
        observe: Observer = log_trouble,
    ) -> None:
        given = {"redis_url": redis_url, "namespace": namespace}
        self.settings = load(AppSettings, **{n: v for n, v in given.items() if v is not None})
        self.name = self.settings.name or own_name()
        """Of this process."""
        self.observe = observe
        self.queues: dict[str, AppQueue] = {}
        self._recurrences: dict[str, Recurrence] = {}
        self.clock = SharedClock(SERVER_CLOCK)
        self._opened: AsyncExitStack | None = None
        self._link: Link | None = None
        self._supervisor: Supervisor | None = None

    def queue(
        self,
        name: str,
        body: type[B] | None = None,
        *,
        ordering: Ordering = "none",
        retry: Retry | None = None,
        on_failure: OnFailure = "block",
        on_due: OnDue | None = None,
        max_backlog: int | None = None,
        dedup_window_s: float = 3600.0,
        lanes: int = 1,
        durability: Durability = "memory",
    ) -> AppQueue[B]:
        """Declare a queue: alike in every process that uses it.

        :param body: type of the bodies, validated by pydantic; None is any JSON value
        :param ordering: "none", "strict" or "key"; see `Ordering`
        :param retry: what becomes of a message whose handler failed; None is `Retry()`
        :param on_failure: what a failure means where the order is kept; see `OnFailure`
        :param on_due: a hook of the poller, which may correct a message that is due
        :param max_backlog: messages scheduled, ready and pending, beyond which a publish is refused
        :param dedup_window_s: how long a `dedup_id` is known
        :param lanes: how many; a key belongs to one of them, and each has an order of its own
        :param durability: what a publish waits for; see `Durability`
        :raises InvalidName: if the name cannot stand in a key
        :raises ValueError: if the name is taken, or an option is none that there is
        """
        if name in self.queues:
            raise ValueError(f"queue {name}: it is declared already")
        queue = AppQueue[B](
            self._connected,
            LaneKeys(self.settings.namespace, name),
            ordering,
            retry or Retry(),
            on_failure,
            on_due,
            Codec(body) if body is not None else Codec(),
            max_backlog,
            dedup_window_s,
            clock=self.clock,
            lanes=lanes,
            durability=durability,
        )
        self.queues[name] = queue
        return queue

    def every(
        self,
        spec: str | timedelta,
        *,
        name: str | None = None,
        missed: Missed = "skip",
        timezone: str = "UTC",
        retry: Retry | None = None,
        time_limit_s: float | None = None,
        concurrency: int = 10,
    ) -> Callable[[Callable[[datetime, Context], R]], Callable[[datetime, Context], R]]:
        """Decorate a function that is called with each tick, once over all processes.

        The next tick is scheduled ahead, so it comes even if every process ends: then late. Those
        after it are missed. A changed spec counts from the tick that is scheduled already.

        :param spec: a cron expression (extra `cron`), or an interval, counted from 1970 in UTC
        :param name: of the queue that is declared for it; None is the function's
        :param missed: which ticks come when processes run again: none, the last, or all in order
        :param timezone: by which a cron expression is read
        :param retry: what becomes of a tick whose handler failed; None is `Retry()`
        :param time_limit_s: how long handling one may take, in seconds; then it has failed
        :param concurrency: ticks handled at once
        :raises ValueError: if a part cannot be understood, or the name is taken
        :raises InvalidName: if the name cannot stand in a key
        :raises ImportError: if an extra is missing
        """
        recurs = recurrence(spec, missed, timezone)

        def decorate(handler: Callable[[datetime, Context], R]) -> Callable[[datetime, Context], R]:
            queue = self.queue(name or handler.__name__, datetime, retry=retry)
            self._recurrences[queue.name] = recurs
            return queue.handler(concurrency=concurrency, time_limit_s=time_limit_s)(handler)

        return decorate

    async def __aenter__(self) -> Self:
        """Make the queues usable. No call is made to the server yet.

        :raises NotOpen: if it is open already
        :raises ServerMissing: if no Redis is named
        """
        if self._opened is not None:
            raise NotOpen("this app is open already")
        opened = AsyncExitStack()
        grace_s = self.settings.grace_ms / 1000
        self._link = await opened.enter_async_context(self.server.link(self.name))
        self._supervisor = await opened.enter_async_context(Supervisor(self._observed, grace_s))
        self._opened = opened
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop what was started: running handlers get their grace, leases are handed over."""
        opened, self._opened = self._opened, None
        try:
            return await opened.__aexit__(kind, error, traceback) if opened else None
        except BaseException as errors:
            if alone(errors) is error:
                return False  # it goes on as it was raised: whoever calls need not know of tasks
            raise
        finally:
            self._link = self._supervisor = None

    async def start(self) -> None:
        """Handle messages in this process, until `async with app` ends: consumers and pollers.

        :raises NotOpen: if this is not called inside `async with app`
        :raises LanesDiffer: if others use a queue with another number of lanes; nothing was begun
        :raises ServerError: if the server will not do
        """
        if self._supervisor is None or self._link is None:
            raise NotOpen("start: call it inside `async with app`")
        for warning in await check(self.server):
            warn(warning)
        for queue in {each.name: each for each in self.served}.values():
            await queue.register()
        for name, make in self.roles(self.name, Lent(self.server.url, self._link)).items():
            self._supervisor.spawn(name, make)

    async def run(self, begun: Callable[[], object] | None = None) -> None:
        """Handle messages until SIGINT or SIGTERM. Call this in the main thread.

        Running handlers get their grace then. A second signal ends the process at once.

        :param begun: called when the server was found to do, and the roles have been started
        :raises LanesDiffer: if others use a queue with another number of lanes
        :raises ServerError: if the server will not do
        """
        async with self:
            with ending(self.settings.grace_ms / 1000) as asked:
                await self.start()
                if begun is not None:
                    begun()
                await asked.wait()
                await self.supervisor.stop_all()

    @property
    def server(self) -> Server:
        """Where the server is.

        :raises ServerMissing: if no Redis is named
        """
        if self.settings.redis_url is None:
            raise ServerMissing(
                "no Redis: set DELAYQ_REDIS_URL, or App(redis_url=…); "
                "`python -m delayq server` runs one and tells its URL"
            )
        return Server(self.settings.redis_url)

    @property
    def supervisor(self) -> Supervisor:
        """What runs the roles.

        :raises NotOpen: outside `async with app`
        """
        if self._supervisor is None:
            raise NotOpen("the app is not open: use `async with app`")
        return self._supervisor

    @property
    def served(self) -> list[AppQueue]:
        """The queues that have a handler, each as every group that has one sees it."""
        every = [group for queue in self.queues.values() for group in queue.every_group]
        return [queue for queue in every if queue.handled]

    def roles(self, name: str, server: Server | None = None) -> dict[str, Callable[[], Role]]:
        """Return how to make what handles the queues that have a handler.

        :param name: of this process, or of whatever stands for one
        :param server: what they link to; None is the app's, with a link for each
        """
        made: dict[str, Callable[[], Role]] = {}
        for queue in self.served:
            for handled in queue.handled:
                consumer, poller = f"{queue.full_name}.{name}", f"{queue.full_name}:poller.{name}"
                made[consumer] = self._consumer(server, queue, handled, consumer)
                made[poller] = self._poller(server, queue, poller)
            if queue.above is None and (recurs := self._recurrences.get(queue.name)):
                ticker = f"{queue.name}:ticker.{name}"
                made[ticker] = self._ticker(server, queue, recurs, ticker)
        return made

    def _consumer(
        self, server: Server | None, queue: AppQueue, handled: Handled, name: str
    ) -> Callable[[], Role]:
        return lambda: Consumer(
            server or self.server,
            queue,
            handled.handler,
            name=name.replace("/", "."),
            lease_ttl_s=self.settings.lease_ttl_ms / 1000,
            batch=handled.batch,
            concurrency=handled.concurrency,
            time_limit_s=handled.time_limit_s,
            observe=self._observed,
        )

    def _poller(self, server: Server | None, queue: AppQueue, name: str) -> Callable[[], Role]:
        return lambda: Poller(server or self.server, queue, name=name, observe=self._observed)

    def _ticker(
        self, server: Server | None, queue: AppQueue, recurs: Recurrence, name: str
    ) -> Callable[[], Role]:
        return lambda: Ticker(
            server or self.server, queue, recurs, name=name, observe=self._observed
        )

    def _observed(self, event: Event) -> None:
        self.observe(event)

    def _connected(self) -> Redis:
        if self._link is None:
            raise NotOpen("the app is not open: use `async with app`")
        return self._link.client
