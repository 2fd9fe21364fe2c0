"""Parking: the keys of a lane that wait for a message of theirs which failed.

A failed message goes to the schedule, and its key is parked: the other messages of that key follow
it there as they are met. There they are held: not due before those ahead of them are settled, each
of which lets the next few come. Who waits is kept in the order of the key, by the places at which
the messages first came to the stream. Where they are meanwhile, on the schedule or back in the
stream, and in which order they come, does not matter: a message may pass when it is the first of
those that wait, and else goes back. With the last one the key is free. Redis keeps all of that, and
decides; the one active consumer has a copy of what is waited for, to know which messages to ask
about.
"""

from delayq.delivered import ParkAnswer
from delayq.message import Message
from delayq.pending import Pending


class Parking:
    """The parked keys, as the active consumer knows them."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._blockers: dict[str, str] = {}
        """Parked keys, to the id of what they wait for; '' to ask who may pass."""
        self._strayed: dict[str, str] = {}
        """Keys whose blocker was not on the schedule, to the first message that found it so."""

    async def load(self) -> None:
        """Learn which keys the consumers before this one parked.

        :raises ServerError: if the server did not answer, or refused
        """
        self._blockers = await self._pending.parked()

    def knows(self, message: Message) -> bool:
        """Tell whether its key is parked."""
        return message.key is not None and message.key in self._blockers

    def blocker(self, message: Message) -> str | None:
        """Return the id of what this message may have to wait for, None if it need not wait."""
        blocker = self._blockers.get(message.key) if message.key is not None else None
        return None if blocker == message.id else blocker

    def park(self, message: Message) -> None:
        """Have the messages of its key wait for this one. One without a key nobody waits for."""
        if message.key is not None:
            self._blockers[message.key] = message.id
            self._strayed.pop(message.key, None)

    async def free(self, message: Message) -> None:
        """Have the messages of its key wait for this one no more: ask who may pass, if any waits.

        :raises ServerError: if the server did not answer, or refused
        """
        if self.knows(message):
            assert message.key is not None  # noqa: S101 - it is known
            self._blockers[message.key] = ""
            self._strayed.pop(message.key, None)
            if not await self._pending.is_parked(message.key):
                del self._blockers[message.key]

    def looks(self, message: Message) -> bool:
        """Tell whether this message is to look for what it waits for; one of its key is enough."""
        return message.key is not None and self._strayed.get(message.key) in {None, message.id}

    def looked_for(self, message: Message) -> bool:
        """Tell whether what this message waits for was looked for in the whole stream.

        When it is not on the schedule it may be in the stream, behind the message that waits for
        it, which then goes behind all that is there. If that one is met again, it was nowhere:
        another program took it away.
        """
        return message.key is not None and self._strayed.get(message.key) == message.id

    def heard(self, message: Message, found: ParkAnswer) -> bool:
        """Hear what `Pending.park` answered; tell whether the message may be handled."""
        assert message.key is not None  # noqa: S101 - it waits for one of its key
        match found:
            case ParkAnswer.KEY_WAITS_NO_MORE:
                del self._blockers[message.key]
            case ParkAnswer.PARKED_BLOCKER_ASTRAY:
                self._strayed.setdefault(message.key, message.id)
            case ParkAnswer.PARKED:
                self._strayed.pop(message.key, None)
            case ParkAnswer.MAY_PASS:
                self._blockers[message.key] = ""
                self._strayed.pop(message.key, None)
        return found in {ParkAnswer.KEY_WAITS_NO_MORE, ParkAnswer.MAY_PASS}
