"""A queue as an app declares it: with the groups that have its messages, and their handlers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from delayq.body import B
from delayq.consumer import check_limits
from delayq.groups import Start
from delayq.handling import Context, check_handler
from delayq.queue import Queue

R = TypeVar("R", bound=Awaitable[None] | None)


@dataclass(frozen=True)
class Handled:
    """A handler, and how it is to be called. See `Consumer` for the meaning of each."""

    handler: Callable[..., Awaitable[None] | None]
    concurrency: int
    time_limit_s: float | None
    batch: int


@dataclass(frozen=True)
class AppQueue(Queue[B]):
    """A queue of an app, which may have a handler."""

    handled: list[Handled] = field(default_factory=list)
    """The handler, once there is one."""
    beside: list["AppQueue[B]"] = field(default_factory=list, repr=False, compare=False)
    """The other groups of the queue; all of them share it."""
    above: "AppQueue[B] | None" = field(default=None, repr=False, compare=False)
    """The queue that this is another group of."""

    def _added(self, group: Self) -> Self:
        queue, name = self.above or self, group.keys.group
        if name in {each.keys.group for each in queue.every_group}:
            raise ValueError(f"queue {self.name}: its group {name} is declared already")
        declared = replace(group, handled=[], above=queue)
        self.beside.append(declared)
        return declared

    @property
    def every_group(self) -> "tuple[AppQueue[B], ...]":
        """The queue as each of its groups sees it, its own handler's first."""
        return (self.above or self, *self.beside)

    @property
    def starts(self) -> Mapping[str, Start]:
        """All that have a handler, too: so that none misses what another one is done with."""
        handled = [each for each in self.every_group if each.handled]
        return {each.keys.group: each.start for each in (self, *handled)}

    def handler(
        self, *, concurrency: int = 10, time_limit_s: float | None = None, batch: int = 100
    ) -> Callable[[Callable[[B, Context], R]], Callable[[B, Context], R]]:
        """Decorate the function that handles this queue's messages.

        :param concurrency: messages handled at once in this process; one, if order is strict
        :param time_limit_s: how long handling a message may take; then it has failed
        :param batch: messages fetched at once, at most
        :raises ValueError: if a number is out of range, or the queue has a handler already
        :raises TypeError: if the function cannot be called with a body and a context
        """
        check_limits(concurrency=concurrency, time_limit_s=time_limit_s, batch=batch)

        def decorate(handler: Callable[[B, Context], R]) -> Callable[[B, Context], R]:
            if self.handled:
                raise ValueError(f"queue {self.full_name}: it has a handler already")
            check_handler(handler)
            self.handled.append(Handled(handler, concurrency, time_limit_s, batch))
            return handler

        return decorate
