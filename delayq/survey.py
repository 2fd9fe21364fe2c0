"""The survey of the consumers that compete: one looks for dead ones, for all of them.

So what it costs grows with their number, not with its square. Whoever comes first when it is time
looks; so a death is followed within a second, whoever died.
"""

from delayq import scripts
from delayq.anchor import UNKNOWN
from delayq.errors import GroupMissing
from delayq.lanes import at_once
from delayq.lease import Lease, LeaseStore
from delayq.queue import Queue

SURVEY_S = 0.8
"""How often one of them looks whether another died."""
_AT_ONCE = 8
"""Leases asked for at once: on a Cluster each takes a connection meanwhile."""


class Survey:
    """Looks for dead consumers of one lane."""

    def __init__(self, queue: Queue, store: LeaseStore) -> None:
        self._queue = queue
        self._store = store

    async def turn(self, lease: Lease) -> float:
        """Tell whether the holder of `lease` is to look now: 0, or seconds until somebody may.

        :raises LeaseLost: if the lease is over; nothing changed
        :raises ServerError: if the server did not answer, or refused
        """
        keys = [lease.key, self._queue.keys.survey]
        args = [lease.epoch, lease.holder, round(SURVEY_S * 1000)]
        return int(await scripts.run(self._queue.client, "survey", keys, args)) / 1000

    async def dead(self, lease: Lease) -> dict[str, str]:
        """Tell which others are dead: each with its closed connection, or '' if its lease is over.

        :raises ServerError: if the server did not answer, or refused
        """
        others = await self.others(lease)
        gone = await self._store.gone(others.values())
        return {name: c for name, c in others.items() if not c or c in gone}

    async def others(self, lease: Lease) -> dict[str, str]:
        """Tell for the other consumers of the group their connection; '' where the lease is over.

        :raises ServerError: if the server did not answer, or refused
        """
        client, keys = self._queue.client, self._queue.keys
        try:
            rows = await scripts.command(client, "XINFO CONSUMERS", keys.stream, keys.group)
        except GroupMissing:
            return {}
        names = [row["name"] for row in rows if row["name"] != lease.holder]
        others = dict[str, str]()
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            others |= zip(some, await at_once(self._connection, some), strict=True)
        return others

    async def _connection(self, holder: str) -> str:
        key = self._queue.keys.lease(holder.rpartition("@")[0])
        ask = ("HMGET", key, "holder", "connection")
        found, connection = await scripts.command(self._queue.client, *ask)
        return connection or UNKNOWN if found == holder else ""
