"""The lease as a value, and where it is kept.

                      acquire: the epoch grows
      ┌──────────┐ ─────────────────────────────▶ ┌────────┐ ──┐ renew:
      │ standing │                                │ active │   │ trusted anew
      │    by    │ ◀───────────────────────────── └────────┘ ◀─┘
      └──────────┘   release · refused · trust ends    ▲ │
            │                                          │ ▼
            └── the holder's connection is gone ──▶ taken over, iff epoch and connection are as seen

**Trust.** A holder may act until ``renewal sent + ttl − margin`` on its own monotonic clock. The
server counts the ttl from when the renewal *arrived*, which is later, so trust always ends first;
the margin is the time to cancel a handler. Whoever acts longer (frozen, then woken) is refused by
the server: every call carries the epoch, and only the current one changes anything. Taking over
too early is therefore safe, and costs at most a repeated message.

**Who has one.** In an ordered queue the lane has one lease, and its holder is the active consumer.
Where consumers compete, each holds a lease of its own name; others may take what is pending for it
when that lease is over. So one fence, one renewal and one way to be dead serve both.

Source of the fencing token: Martin Kleppmann, "How to do distributed locking", 2016.
"""

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from delayq import scripts
from delayq.clock import mono_s
from delayq.keys import LaneKeys, own_name_of
from delayq.transport.anchor import UNKNOWN, Anchor


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder sees it."""

    key: str
    holder: str
    """The consumer's name in the group: its own name, `@`, the epoch."""
    epoch: int
    ttl_s: float
    trusted_until: float
    """Monotonic seconds."""

    @property
    def margin_s(self) -> float:
        """How long before the server trust ends here."""
        return self.ttl_s / 10

    @property
    def renew_at(self) -> float:
        """When to renew it, in monotonic seconds: a third of the ttl after the last call was sent.

        So one that was answered late, of which little trust is left, is renewed at once.
        """
        return self.trusted_until + self.margin_s - self.ttl_s * 2 / 3

    @property
    def ttl_ms(self) -> int:
        """The ttl, as the server wants it."""
        return round(self.ttl_s * 1000)

    def renewed(self, sent_at: float) -> "Lease":
        """Return this lease, extended by a call that was sent at `sent_at` and answered."""
        return replace(self, trusted_until=sent_at + self.ttl_s - self.margin_s)


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as somebody else sees it."""

    holder: str
    epoch: int
    connection: str
    expires_in_s: float

    @property
    def name(self) -> str:
        """The holder's own name, without its epoch."""
        return own_name_of(self.holder)


def renew_blocking(client: Any, lease: Lease, connection: str) -> Lease:
    """Extend a lease from a thread, naming the connection that it named.

    :raises LeaseLost: if it is over; it is never made again
    :raises ServerError: if the server did not answer, or refused
    """
    sent_at = mono_s()
    scripts.run_blocking(client, "renew", [lease.key], (lease.epoch, lease.ttl_ms, connection))
    return lease.renewed(sent_at)


class LeaseStore:
    """Leases of one lane, for one consumer: its incarnation has a nonce, its death a sign."""

    def __init__(self, anchor: Anchor, keys: LaneKeys, name: str, ttl_s: float) -> None:
        self._anchor = anchor
        self._keys = keys
        self._name = name
        self._ttl_s = ttl_s
        self._nonce = secrets.token_hex(8)
        self.connection = UNKNOWN
        """Our connection, for the lease to name."""
        self._terms = 0

    def new_term(self) -> None:
        """Want a lease anew: one that we held before is somebody else's now, even if it lasts."""
        self._nonce = secrets.token_hex(8)
        self._terms += 1

    def is_former_self(self, held: Held) -> bool:
        """Tell whether a lease was held by one of our name that ended before we began.

        Its connection is ours: a process has one, and a name once. Later on it may be our own,
        which we lost trust in: then what it handled may go on in a thread.
        """
        same = held.name == self._name and held.connection == self.connection != UNKNOWN
        return same and self._terms == 1

    async def acquire(
        self, key: str, dead: Held | None = None, *, take: bool = True
    ) -> Lease | Held | None:
        """Take the lease at `key` if it is free, or held as it was when its holder died.

        Repeated after a lost reply it answers the same.

        :param take: False to look only
        :return: None if it could be taken, and was only looked at
        :raises ServerError: if the server did not answer, or refused
        """
        self.connection = await self._anchor.identity()
        sent_at = mono_s()
        args = (
            self._name,
            self._nonce,
            self.connection,
            round(self._ttl_s * 1000),
            dead.epoch if dead else "",
            dead.connection if dead else "",
            int(take),
            "",
        )
        keys = [key, self._keys.epoch, self._keys.standby]
        answer = await self._anchor.run("acquire", keys, args)
        if answer[0]:
            epoch = int(answer[1])
            if await self.moved():  # see `renew`; to repeat it names our connection of now
                return await self.acquire(key, dead, take=take)
            return Lease(key, f"{self._name}@{epoch}", epoch, self._ttl_s, 0).renewed(sent_at)
        if len(answer) == 1:
            return None
        holder, held_epoch, connection, expires_ms = answer[1:]
        # Another program may have taken the expiry away: then look again before long.
        expires_in_s = expires_ms / 1000 if expires_ms >= 0 else 1.0
        return Held(holder, int(held_epoch), connection, expires_in_s)

    async def renew(self, lease: Lease) -> Lease:
        """Extend a lease, and name the connection it dies with.

        :raises LeaseLost: if it is over; it is never made again
        :raises ServerError: if the server did not answer, or refused
        """
        await self.moved()
        while True:
            sent_at = mono_s()
            args = (lease.epoch, lease.ttl_ms, self.connection)
            await self._anchor.run("renew", [lease.key], args)
            # Cut while this waited behind other calls, it was made anew for them: others may see
            # that what the lease names is gone.
            if not await self.moved():
                return lease.renewed(sent_at)

    async def release(self, lease: Lease) -> bool:
        """Give a lease back, and wake whoever stands by.

        :return: False if it was lost before
        :raises ServerError: if the server did not answer, or refused
        """
        keys = [lease.key, self._keys.stream, self._keys.vacancy]
        args = (lease.epoch, self._keys.group, lease.holder)
        return bool(await self._anchor.run("release", keys, args))

    async def leave(self) -> None:
        """Stand by no more.

        :raises ServerError: if the server did not answer, or refused
        """
        await self._anchor.command("ZREM", self._keys.standby, self._name)

    async def holder(self, key: str) -> str | None:
        """Tell who holds the lease at `key`.

        :raises ServerError: if the server did not answer, or refused
        """
        holder: str | None = await self._anchor.command("HGET", key, "holder")
        return holder

    async def handover_asked(self, lease: Lease) -> bool:
        """Tell whether somebody asked the holder of `lease` to pass on.

        :raises ServerError: if the server did not answer, or refused
        """
        epoch, asked = await self._anchor.command("HMGET", lease.key, "epoch", "handover")
        return bool(asked) and epoch == str(lease.epoch)

    async def moved(self) -> bool:
        """Tell whether our connection is another one than it was.

        :raises ServerError: if the server did not answer
        """
        before, self.connection = self.connection, await self._anchor.identity()
        return before != self.connection

    @contextmanager
    def heeded(self, look: Callable[[], None]) -> Iterator[None]:
        """Have `look` called when our connection ends: then ask `moved` at once."""
        self._anchor.lost.add(look)
        try:
            yield
        finally:
            self._anchor.lost.discard(look)

    async def gone(self, connections: Collection[str]) -> set[str]:
        """Tell which of the connections are proved to be closed.

        :raises ServerError: if the server did not answer
        """
        return await self._anchor.gone(connections)
