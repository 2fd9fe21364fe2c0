"""Parking: the keys of a lane that wait for a message of theirs which failed.

A failed message goes to the schedule, and its key is parked: the other messages of that key follow
it there as they are met, each behind the one before, so that all come back in order. Redis keeps
the parked keys, and the one active consumer a copy. The key is free again when the message is
acknowledged, becomes a dead letter, or is cancelled: in the same step at the server.
"""

from delayq.message import Message
from delayq.pending import Pending


class Parking:
    """The parked keys, as the active consumer knows them."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._blockers: dict[str, str] = {}
        self._strayed: dict[str, str] = {}
        """Keys whose blocker was found nowhere, and the message that waited for it then."""

    async def load(self) -> None:
        """Learn which keys the consumers before this one parked.

        :raises ServerError: if the server did not answer, or refused
        """
        self._blockers = await self._pending.parked()

    def blocker(self, message: Message) -> str | None:
        """Return the id of the message that this one must wait for."""
        blocker = self._blockers.get(message.key) if message.key is not None else None
        return None if blocker == message.id else blocker

    def is_blocker(self, message: Message) -> bool:
        """Tell whether others of its key wait for this message."""
        return message.key is not None and self._blockers.get(message.key) == message.id

    def park(self, message: Message) -> None:
        """Have the messages of its key wait for this one. One without a key nobody waits for."""
        if message.key is not None:
            self._blockers[message.key] = message.id

    def free(self, message: Message) -> None:
        """Have the messages of its key wait no more."""
        if message.key is not None:
            self._blockers.pop(message.key, None)
            self._strayed.pop(message.key, None)

    def strayed(self, message: Message) -> bool:
        """Hear that the message this one waits for is not scheduled; tell whether it is lost.

        The first time it may be in the stream, after this one, which now goes behind it. Met a
        second time, this one has come after it: then foreign hands took it away.
        """
        assert message.key is not None  # noqa: S101 - it waits for one of its key
        lost = self._strayed.get(message.key) == message.id
        self._strayed[message.key] = message.id
        return lost
