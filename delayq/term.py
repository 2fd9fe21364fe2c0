"""A term: one unbroken holding of a lease, from taking over to release or loss."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.errors import LeaseLost
from delayq.events import Event, LeaseEnded, Observer, Recovered, Refused
from delayq.lease import Lease, LeaseStore

T = TypeVar("T")

CHECK_S = 1.0
"""How often a holder looks whether it still has the connection that its lease names."""


class Term:
    """Renews a lease while it is served, and ends the service when trust in it ends."""

    def __init__(self, store: LeaseStore, lease: Lease, role: str, observe: Observer) -> None:
        self.lease = lease
        self._store = store
        self._role = role
        self._observe = observe
        self._scope = anyio.CancelScope(deadline=lease.trusted_until)
        self._renew_now = anyio.Event()
        self._thaws_at = 0.0

    async def run(self, serve: Callable[[], Awaitable[None]]) -> bool:
        """Serve, and renew meanwhile.

        :return: True if `serve` came to its end, False if the lease was lost: then `serve`, and the
            handler in it, was cancelled
        """
        refused = False
        try:
            with self._scope:
                async with anyio.create_task_group() as keeping:
                    keeping.start_soon(self._keep)
                    await serve()
                    keeping.cancel_scope.cancel()
        except* LeaseLost:
            refused = True
        if refused or self._scope.cancelled_caught:
            self._observe(LeaseEnded(self._role, self.lease.epoch))
            return False
        return True

    async def fenced(self, operation: str, call: Callable[[Lease], Awaitable[T]]) -> T:
        """Make a call that needs the lease, as often as it takes to get an answer.

        :raises LeaseLost: if the server refused it: the lease is over, and nothing changed
        """
        await self._thaw()
        try:
            return await outlast(lambda: call(self.lease), self._role, self._seen)
        except LeaseLost:
            self._observe(Refused(self._role, self.lease.epoch, operation))
            raise

    def freeze(self, seconds: float) -> None:
        """Behave as if the process stood still: no renewal, no watch on trust, no call goes out.

        Woken, it goes on where it was, as a frozen process does: its next call is sent, late. The
        watch on trust follows one margin after it.
        """
        self._thaws_at = mono_s() + seconds
        trusted_until = self.lease.trusted_until
        self._scope.deadline = max(trusted_until, self._thaws_at + self.lease.margin_s)

    async def begin(self) -> None:
        """Call this before a handler starts.

        :raises LeaseLost: if trust has ended, which a process that was frozen may find before its
            timers do
        """
        await self._thaw()
        if mono_s() > self.lease.trusted_until:
            raise LeaseLost(f"epoch {self.lease.epoch} is not trusted any more")

    async def _thaw(self) -> None:
        if (left_s := self._thaws_at - mono_s()) > 0:
            await anyio.sleep(left_s)

    async def _keep(self) -> None:
        renewed_at, period_s = mono_s(), self.lease.ttl_s / 3
        while True:
            with anyio.move_on_after(min(CHECK_S, max(0, renewed_at + period_s - mono_s()))):
                await self._renew_now.wait()
            self._renew_now = anyio.Event()
            moved = await self.fenced("renew", lambda _: self._store.moved())
            if moved or mono_s() >= renewed_at + period_s - 0.01:
                self.lease = await self.fenced("renew", self._store.renew)
                self._scope.deadline = max(self.lease.trusted_until, self._thaws_at)
                renewed_at = mono_s()

    def _seen(self, event: Event) -> None:
        # After an outage the connection is a new one: name it before a standby looks.
        if isinstance(event, Recovered):
            self._renew_now.set()
        self._observe(event)
