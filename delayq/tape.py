"""A tape: keeps the events it observes, and lets others wait for one."""

from collections.abc import Callable
from typing import TypeVar

import anyio

from delayq.clock import mono_s
from delayq.events import Event, Observer, unobserved

E = TypeVar("E", bound=Event)


class Tape:
    """An observer that remembers. Whatever it hears it passes on to `then`.

    Every wait goes on from `after`, a place on the tape: so an event is neither missed because it
    came before the wait, nor found twice.
    """

    def __init__(self, then: Observer = unobserved) -> None:
        self.heard: list[tuple[float, Event]] = []
        self._then = then
        self._more = anyio.Event()

    def __call__(self, event: Event) -> None:
        """Observe."""
        self.heard.append((mono_s(), event))
        self._more.set()
        self._more = anyio.Event()
        self._then(event)

    @property
    def end(self) -> int:
        """The place after the last event."""
        return len(self.heard)

    def of(self, kind: type[E], role: str | None = None, after: int = 0) -> list[E]:
        """Return the events of one kind heard since `after`."""
        heard = (event for _, event in self.heard[after:])
        return [e for e in heard if isinstance(e, kind) and role in (None, e.role)]

    async def until(
        self,
        kind: type[E],
        role: str | None = None,
        *,
        after: int = 0,
        where: Callable[[E], bool] = lambda _: True,
    ) -> E:
        """Wait for the first event of a kind since `after`, and return it."""
        while True:
            more = self._more
            for event in self.of(kind, role, after):
                if where(event):
                    return event
            await more.wait()
