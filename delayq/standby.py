"""The standby: waits for a lease that somebody holds, and notices when its holder is gone."""

from delayq.bell import Bell
from delayq.clock import mono_s
from delayq.connection import outlast, uncut
from delayq.events import Event, Observer, Recovered, StoodBy
from delayq.lease import Held, Lease, LeaseStore

WATCH_S = 0.2
"""How often a standby asks whether the holder's connection is still there."""
PATIENCE_S = 2.0
"""After an outage every connection is a new one: how long the holder has to name its own."""


class Standby:
    """Waits for one lease, for a consumer called `role`."""

    def __init__(self, store: LeaseStore, vacancy: Bell, role: str, observe: Observer) -> None:
        self._store = store
        self._vacancy = vacancy
        self._role = role
        self._observe = observe
        self._patient_until = 0.0

    async def wait(self, key: str) -> tuple[Lease, str]:
        """Wait for the lease at `key`; return it, and why it could be had.

        Stopped in the middle of a try, it still returns the lease if the try succeeded: so that a
        lease is never left behind.
        """
        why, told = "free", ""
        dead: Held | None = None
        while True:
            found = await outlast(
                lambda: uncut(lambda: self._store.acquire(key, dead)),  # noqa: B023
                self._role,
                self._seen,
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
                lambda: self._store.gone([held.connection]), self._role, self._seen
            )
            if gone and mono_s() > self._patient_until:
                return "connection gone"
        return "expired"

    def _seen(self, event: Event) -> None:
        if isinstance(event, Recovered):
            self._patient_until = mono_s() + PATIENCE_S
        self._observe(event)
