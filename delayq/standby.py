"""The standby: waits for a lease that somebody holds, and notices when its holder is gone."""

from contextlib import suppress

import anyio

from delayq.clock import mono_s
from delayq.connection import outlast, uncut
from delayq.errors import ServerError
from delayq.events import NameTaken, Observer, StoodBy
from delayq.lease import Held, Lease, LeaseStore
from delayq.share import Share
from delayq.transport.bell import Bell

WATCH_S = 0.2
"""How often a standby asks whether the holder's connection is still there."""
SHOW_S = 5.0
"""How often it tries again in any case, and so shows those who look that it stands by."""
_RENEWED_S = 0.1
"""By how much longer a lease lasts, at least, if it was renewed: more than two looks may differ."""
YIELD_S = 2.0
"""How long a consumer that was asked to pass on lets others go first."""


class Standby:
    """Waits for one lease, for a consumer called `role`.

    :param share: tells whether the lane of that number is for this consumer
    :param own: whether the lease is of the consumer's own name, which nobody else should have
    """

    def __init__(
        self,
        store: LeaseStore,
        vacancy: Bell,
        role: str,
        observe: Observer,
        *,
        share: Share,
        lane: int = 0,
        own: bool = False,
    ) -> None:
        self._store = store
        self._vacancy = vacancy
        self._role = role
        self._observe = observe
        self._share = share
        self._lane = lane
        self._own = own
        self._seen = "", 0.0
        """The last holder of it that was seen, and until when its lease lasted, unless renewed."""

    async def wait(self, key: str) -> tuple[Lease, str]:
        """Wait for the lease at `key`; return it, and why it could be had.

        Stopped in the middle of a try, it still returns the lease if the try succeeded: so that a
        lease is never left behind. With it goes a place of the share.
        """
        self._store.new_term()
        why, told = "free", ""
        dead: Held | None = None
        anyway = False
        try:
            while True:
                found = await self._try(key, dead, anyway=anyway)
                if isinstance(found, Lease):
                    return found, why
                anyway = found is None and not await self._share.room()
                if found is None:
                    continue
                if self._store.is_former_self(found):
                    why, dead = "connection gone", found
                    continue
                if found.holder != told:
                    self._observe(StoodBy(self._role, found.holder, found.epoch))
                    told = found.holder
                if self._own:
                    self._suspect(found)
                why = await self._watch(found)
                dead = found if why == "connection gone" else None
                if dead:
                    self._share.lose(dead.name)
        except anyio.get_cancelled_exc_class():
            self._share.give_up(self._lane)
            if told:
                with anyio.move_on_after(1, shield=True), suppress(ServerError):
                    await self._store.leave()
            raise

    def _suspect(self, held: Held) -> None:
        """Tell that somebody else has our name, once: if a lease that we saw was renewed since."""
        holder, ends_at = self._seen
        self._seen = held.holder, mono_s() + held.expires_in_s
        if holder == held.holder and self._seen[1] > ends_at + _RENEWED_S:
            self._observe(NameTaken(self._role, holder))
            self._own = False

    async def _try(self, key: str, dead: Held | None, *, anyway: bool) -> Lease | Held | None:
        """Take the lease if the lane is for us; else only look, and return None if it is free."""
        take = self._share.claim(self._lane, anyway=anyway)
        found = await outlast(
            lambda: uncut(lambda: self._store.acquire(key, dead, take=take)),
            self._role,
            self._observe,
        )
        if not isinstance(found, Lease):
            self._share.give_up(self._lane)
        return found

    async def let_another(self, key: str) -> None:
        """Wait until another holds the lease at `key`, but not for long: there may be none."""
        with anyio.move_on_after(YIELD_S):
            while not await outlast(lambda: self._store.holder(key), self._role, self._observe):  # noqa: ASYNC110 - the event is another process's
                await anyio.sleep(YIELD_S / 100)

    async def _watch(self, held: Held) -> str:
        """Wait until it is worth trying for the lease again; return the reason."""
        ends_at = mono_s() + min(held.expires_in_s, SHOW_S)
        while (left_s := ends_at - mono_s()) > 0:
            if await self._vacancy.wait(min(WATCH_S, left_s)):
                return "released"
            gone = await outlast(
                lambda: self._store.gone([held.connection]), self._role, self._observe
            )
            if gone:
                return "connection gone"
        return "expired"
