"""The survey of the consumers that compete: one looks for dead ones, for all of them.

So what it costs grows with their number, not with its square. Whoever comes first when it is time
looks; so a death is followed within a second, whoever died.
"""

from collections.abc import Sequence

from delayq import scripts
from delayq.keys import own_name_of
from delayq.lanes import at_once
from delayq.lease import Lease, LeaseStore
from delayq.queue import Queue
from delayq.transport.anchor import UNKNOWN

SURVEY_S = 0.9
"""How often one of them looks whether another died."""
_AT_ONCE = 8
"""Leases asked for at once: on a Cluster each takes a connection meanwhile."""


class Survey:
    """Looks for dead consumers of one lane."""

    def __init__(self, queue: Queue, store: LeaseStore) -> None:
        self._queue = queue
        self._store = store

    async def turn(self, lease: Lease) -> tuple[float, list[str]]:
        """Tell in how many seconds somebody may look, and 0 if the holder of `lease` is to.

        :return: and the other consumers of the group, if it is to
        :raises LeaseLost: if the lease is over; nothing changed
        :raises ServerError: if the server did not answer, or refused
        """
        keys = [lease.key, self._queue.keys.survey, self._queue.keys.stream]
        args = [lease.epoch, lease.holder, round(SURVEY_S * 1000), self._queue.keys.group]
        wait_ms, *names = await scripts.run(self._queue.client, "survey", keys, args)
        return int(wait_ms) / 1000, names

    async def look(self, lease: Lease) -> tuple[float, dict[str, str]]:
        """Look for dead consumers, if it is the turn of the holder of `lease`.

        :return: seconds until somebody may look, 0 if this one did; and those that are dead, each
            with its closed connection, or '' if its lease is over
        :raises LeaseLost: if the lease is over; nothing changed
        :raises ServerError: if the server did not answer, or refused
        """
        wait_s, names = await self.turn(lease)
        if wait_s:
            return wait_s, {}
        found = await self.connections(names)
        gone = await self._store.gone(found.values())
        return 0, {name: c for name, c in found.items() if not c or c in gone}

    async def connections(self, names: Sequence[str]) -> dict[str, str]:
        """Tell the connection that each consumer names in its lease; '' where that is over.

        :raises ServerError: if the server did not answer, or refused
        """
        found = dict[str, str]()
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            found |= zip(some, await at_once(self._connection, some), strict=True)
        return found

    async def _connection(self, holder: str) -> str:
        key = self._queue.keys.lease(own_name_of(holder))
        ask = ("HMGET", key, "holder", "connection")
        found, connection = await scripts.command(self._queue.client, *ask)
        return connection or UNKNOWN if found == holder else ""
