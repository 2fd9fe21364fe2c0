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


class Held(Protocol):
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


@dataclass
class _Watched:
    held: Held
    server: Server
    loop_thread: int = field(default_factory=threading.get_ident)
    told: bool = False
    client: Any = None


class Heartbeat:
    """One thread, running while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, held: Held, server: Server) -> Callable[[], None]:
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
            if watched.client is not None:
                watched.client.close()

        return end

    def _run(self) -> None:
        while True:
            with self._lock:
                every = list(self._watched)
                if not every:
                    self._thread = None
                    return
            for watched in every:
                self._look(watched)
            shortest_s = min(watched.held.lease.ttl_s for watched in every)
            self._changed.wait(max(_LOOK_S, shortest_s / 12))
            self._changed.clear()

    def _look(self, watched: _Watched) -> None:
        held, now_s = watched.held, mono_s()
        late_s = now_s - held.beat_due()
        if late_s <= 0:
            watched.told = False
        elif late_s < MOST_TTLS * held.lease.ttl_s:
            # Unreachable, or refused: the loop finds out by itself. Nor may anything else that goes
            # wrong for one lease, such as a log that cannot be written, end the thread of all.
            with suppress(Exception):
                self._tell(watched)
                if watched.client is None:
                    watched.client = watched.server.blocking_client()
                held.renewed(renew_blocking(watched.client, held.lease, held.connection))

    def _tell(self, watched: _Watched) -> None:
        if not watched.told:
            watched.told = True
            at, own = _place(watched.loop_thread, watched.held.code)
            watched.held.blocked(at, own=own)


def _place(thread: int, code: object) -> tuple[str, bool]:
    """Tell where a thread is, and whether `code` is among what it runs."""
    top = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
    own, frame = False, top
    while frame is not None:
        own = own or frame.f_code is code
        frame = frame.f_back
    return (f"{top.f_code.co_filename}:{top.f_lineno}" if top else "unknown"), own


HEARTBEAT = Heartbeat()
