"""A term: one unbroken holding of a lease, from taking over to release or loss."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.errors import LeaseLost
from delayq.events import (
    Event,
    HandoverAsked,
    LeaseEnded,
    LoopBlocked,
    Observer,
    Recovered,
    Refused,
)
from delayq.lease import Lease, LeaseStore
from delayq.logs import warn_at_once
from delayq.transport.bell import Bell

T = TypeVar("T")

HEED_S = 30.0
"""Bounds the wait for a call, which is a hint."""


class Term:
    """Renews a lease while it is served, and ends the service when trust in it ends.

    :param calls: rung by whoever wants the holder's ear: to hand over, to resume
    :param handler: its name, and the code by which it is found in a stack
    """

    def __init__(
        self,
        store: LeaseStore,
        lease: Lease,
        role: str,
        observe: Observer,
        *,
        calls: Bell,
        handler: tuple[str, object] = ("", None),
    ) -> None:
        self.lease = lease
        self.lost = anyio.Event()
        self.handover = anyio.Event()
        """Set when somebody asked to pass on."""
        self._store = store
        self._role = role
        self._observe = observe
        self._calls = calls
        self._handler, self.code = handler
        self._scope = anyio.CancelScope()
        self._look_now = anyio.Event()
        self._look_now.set()  # what the lease names may be gone already
        self._called = anyio.Event()
        self._thaws_at = -math.inf
        self._beat_at = mono_s()
        self._blocked: tuple[str, str] | None = None

    async def run(self, serve: Callable[[], Awaitable[None]]) -> bool:
        """Serve, and renew meanwhile.

        :return: True if `serve` came to its end, False if the lease was lost: then `serve`, and the
            handler in it, was cancelled
        """
        refused = False
        try:
            with self._scope, self._store.heeded(self._look_soon):
                async with anyio.create_task_group() as keeping:
                    keeping.start_soon(self._keep)
                    keeping.start_soon(self._distrust)
                    keeping.start_soon(self._listen)
                    await serve()
                    keeping.cancel_scope.cancel()
        except* LeaseLost:
            refused = True
        if refused or self._scope.cancelled_caught:
            self.lost.set()
            self._observe(LeaseEnded(self._role, self.lease.epoch))
            return False
        return True

    async def fenced(self, operation: str, call: Callable[[Lease], Awaitable[T]]) -> T:
        """Make a call that needs the lease, as often as it takes to get an answer.

        :raises LeaseLost: if the server refused it: the lease is over, and nothing changed
        """
        await self.thawed()
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

    def trusted_until(self) -> float:
        """Tell until when, in monotonic seconds, the lease is trusted."""
        return self.lease.trusted_until

    @property
    def frozen(self) -> bool:
        """Whether it behaves as a frozen process does."""
        return mono_s() < self._thaws_at

    async def thawed(self) -> None:
        """Wait until it is not frozen."""
        if (left_s := self._thaws_at - mono_s()) > 0:
            await anyio.sleep(left_s)

    async def called(self, timeout_s: float) -> None:
        """Wait until somebody wants the holder's ear, but not longer than this."""
        with anyio.move_on_after(timeout_s):
            await self._called.wait()

    # -- what the heartbeat asks and tells, in its thread --

    @property
    def connection(self) -> str:
        """The connection that the lease names."""
        return self._store.connection

    def beat_due(self) -> float:
        """Tell when the loop should have shown a sign of life, in monotonic seconds."""
        return self._beat_at + self.lease.ttl_s / 3

    def renewed(self, lease: Lease) -> None:
        """Trust the lease anew; not less, where the loop and its heartbeat renewed it at once."""
        if lease.trusted_until > self.lease.trusted_until:
            self.lease = lease

    def blocked(self, at: str, *, own: bool) -> None:
        """Warn at once; the loop reports it, with how long it was, when it runs again."""
        handler = self._handler if own else "not the handler of this queue"
        self._blocked = (handler, at)
        warn_at_once(LoopBlocked(self._role, self.lease.epoch, handler, at, self._silent_ms()))

    # -- in the loop --

    async def _keep(self) -> None:
        while True:
            due_at = self.lease.renew_at
            with anyio.move_on_after(max(0, due_at - mono_s())):
                await self._look_now.wait()
            self._look_now = anyio.Event()
            moved = await self.fenced("renew", lambda _: self._store.moved())
            if moved or mono_s() >= due_at - 0.01:
                self.renewed(await self.fenced("renew", self._store.renew))

    async def _distrust(self) -> None:
        """End the service when trust ends. Woken from a block it finds what the heartbeat did."""
        while True:
            if self._blocked:
                handler, at = self._blocked
                self._blocked = None
                epoch = self.lease.epoch
                self._observe(LoopBlocked(self._role, epoch, handler, at, self._silent_ms()))
            self._beat_at = mono_s()
            ends_at = self.lease.trusted_until
            if self._thaws_at > 0:
                ends_at = max(ends_at, self._thaws_at + self.lease.margin_s)
            if mono_s() > ends_at:
                self._scope.cancel()
            await anyio.sleep(min(self.lease.ttl_s / 6, max(0.001, ends_at - mono_s())))

    def _silent_ms(self) -> int:
        return round((mono_s() - self._beat_at) * 1000)

    async def _listen(self) -> None:
        while True:
            await self._calls.wait(HEED_S)
            if await self.fenced("look", self._store.handover_asked):
                self._observe(HandoverAsked(self._role, self.lease.epoch))
                self.handover.set()
            self._called.set()
            self._called = anyio.Event()

    def _look_soon(self) -> None:
        self._look_now.set()

    def _seen(self, event: Event) -> None:
        # After an outage the connection is a new one: name it before a standby looks.
        if isinstance(event, Recovered):
            self._look_soon()
        self._observe(event)
