"""The heartbeat: a thread that renews leases while a handler blocks the event loop.

A loop that is blocked renews nothing, and without this its lease would run out, another consumer
would take over the same message, and block as well. So one thread of the process looks at every
lease that is held here; one whose renewal is late it renews over a connection of its own, and says
which handler blocks, and where. A process that is frozen freezes its threads too: this never
keeps a lease that its holder cannot use, but for a loop that is blocked for `MOST_TTLS` leases.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from delayq.clock import mono_s
from delayq.connection import Server
from delayq.lease import Lease, renew_blocking

MOST_TTLS = 6
"""For how many times its ttl a lease is renewed for a loop that is blocked."""
_LOOK_S = 0.05


class Beating(Protocol):
    """A lease that is held, as the heartbeat sees it."""

    lease: Lease
    code: object
    """The code of its handler, to be found in the stack of a loop that is blocked."""

    @property
    def connection(self) -> str:
        """The connection that the lease names."""

    def beat_due(self) -> float:
        """Tell when the loop should have shown a sign of life, in monotonic seconds."""

    def renewed(self, lease: Lease) -> None:
        """Trust the lease anew."""

    def blocked(self, at: str, *, own: bool) -> None:
        """Hear that the loop was seen blocked `at` a place, in its own handler or elsewhere."""


@dataclass(frozen=True)
class _Watched:
    held: Beating
    server: Server
    loop: int = field(default_factory=threading.get_ident)
    """The thread of the loop that renews it."""


class Heartbeat:
    """One thread, running while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: set[int] = set()
        """Loops that are blocked, which was said."""
        self._clients: dict[str, Any] = {}
        """By URL, while a loop is blocked."""

    def watch(self, held: Beating, server: Server) -> Callable[[], None]:
        """Watch a lease that the calling thread's loop renews; return how to end that."""
        watched = _Watched(held, server)
        with self._lock:
            self._watched.append(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="delayq", daemon=True)
                self._thread.start()
        self._changed.set()

        def end() -> None:
            with self._lock:
                self._watched.remove(watched)
            self._changed.set()

        return end

    def _run(self) -> None:
        while True:
            with self._lock:
                every = list(self._watched)
                if not every:
                    self._hang_up()
                    self._thread = None
                    return
            self._look(every)
            shortest_s = min(watched.held.lease.ttl_s for watched in every)
            self._changed.wait(max(_LOOK_S, shortest_s / 12))
            self._changed.clear()

    def _look(self, every: list[_Watched]) -> None:
        now_s = mono_s()
        late = [each for each in every if now_s > each.held.beat_due()]
        if not late:
            self._hang_up()
        blocked = {each.loop for each in late}
        new, self._told = blocked - self._told, blocked
        # Nothing that goes wrong for one, such as a log that cannot be written, may end the thread
        # of all. Nor is it for this one that the server is unreachable, or refuses.
        for loop in new:
            with suppress(Exception):
                _tell(loop, [each.held for each in every if each.loop == loop])
        for each in late:
            if now_s < each.held.beat_due() + MOST_TTLS * each.held.lease.ttl_s:
                with suppress(Exception):
                    self._renew(each.held, each.server)

    def _renew(self, held: Beating, server: Server) -> None:
        if server.url not in self._clients:
            self._clients[server.url] = server.blocking_client()
        held.renewed(renew_blocking(self._clients[server.url], held.lease, held.connection))

    def _hang_up(self) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            client.close()


def _tell(loop: int, every: list[Beating]) -> None:
    """Tell one of those that a loop renews where it is blocked: whose handler it is, if any's."""
    top = frame = sys._current_frames().get(loop)  # noqa: SLF001 - the documented way to another thread's stack
    codes = list[object]()
    while frame is not None:
        codes.append(frame.f_code)
        frame = frame.f_back
    own = next((held for held in every if any(held.code is code for code in codes)), None)
    at = f"{top.f_code.co_filename}:{top.f_lineno}" if top else "unknown"
    (own or every[0]).blocked(at, own=own is not None)


HEARTBEAT = Heartbeat()
