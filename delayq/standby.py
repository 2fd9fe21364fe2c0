"""The standby: waits for a lease that somebody holds, and notices when its holder is gone."""

from delayq.bell import Bell
from delayq.clock import mono_s
from delayq.connection import outlast, uncut
from delayq.events import Observer, StoodBy
from delayq.lease import Held, Lease, LeaseStore

WATCH_S = 0.2
"""How often a standby asks whether the holder's connection is still there."""


class Standby:
    """Waits for one lease, for a consumer called `role`."""

    def __init__(self, store: LeaseStore, vacancy: Bell, role: str, observe: Observer) -> None:
        self._store = store
        self._vacancy = vacancy
        self._role = role
        self._observe = observe

    async def wait(self, key: str) -> tuple[Lease, str]:
        """Wait for the lease at `key`; return it, and why it could be had.

        Stopped in the middle of a try, it still returns the lease if the try succeeded: so that a
        lease is never left behind.
        """
        self._store.new_term()
        why, told = "free", ""
        dead: Held | None = None
        while True:
            found = await outlast(
                lambda: uncut(lambda: self._store.acquire(key, dead)),  # noqa: B023
                self._role,
                self._observe,
            )
            if isinstance(found, Lease):
                return found, why
            if found.holder != told:
                self._observe(StoodBy(self._role, found.holder, found.epoch))
                told = found.holder
            why = await self._watch(found)
            dead = found if why == "connection gone" else None

    async def _watch(self, held: Held) -> str:
        """Wait until it is worth trying for the lease again; return the reason."""
        ends_at = mono_s() + held.expires_in_s
        while (left_s := ends_at - mono_s()) > 0:
            if await self._vacancy.wait(min(WATCH_S, left_s)):
                return "released"
            gone = await outlast(
                lambda: self._store.gone([held.connection]), self._role, self._observe
            )
            if gone:
                return "connection gone"
        return "expired"
