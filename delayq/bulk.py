"""Bulk publishing: many messages by few calls, in their order within each lane."""

from collections.abc import Callable, Sequence

import anyio

from delayq.caller import Callers
from delayq.clock import mono_s
from delayq.errors import DelayqError, NotConfirmed
from delayq.message import new_ids
from delayq.outbox import Send, batches
from delayq.outgoing import Outgoing, Receipt, plain


class Bulk:
    """Messages on their way, and what became of each; `limited` is as for `batches`.

    :param messages: a text is a body alone, checked: it becomes a message when its batch is sent,
        so that Python's garbage collector finds few objects alive
    :param callers: who makes the calls
    :param patience_s: how long each call is tried, the server being away
    """

    def __init__(
        self,
        messages: Sequence[Outgoing | str],
        callers: Callers,
        patience_s: float,
        *,
        limited: bool = False,
    ) -> None:
        self._messages = messages
        self._callers = callers
        self._patience_s = patience_s
        self._ids = new_ids(len(messages))
        self._limited = limited
        self._receipts: dict[int, Receipt] = {}
        self._failures: list[DelayqError] = []

    async def send(self, lanes: Sequence[Send], route: Callable[[Outgoing], int]) -> None:
        """Send each message to its lane, to several lanes at once.

        :param lanes: of each what sends messages by one call, all of them or none
        :param route: tells the lane of a message
        """
        if len(lanes) == 1:
            await self._send_lane(range(len(self._messages)), lanes[0])
            return
        places: dict[int, list[int]] = {}
        for place in range(len(self._messages)):
            places.setdefault(route(self._message(place)), []).append(place)
        async with anyio.create_task_group() as sending:
            for lane, of_lane in places.items():
                sending.start_soon(self._send_lane, of_lane, lanes[lane])

    def receipts(self) -> list[Receipt]:
        """Return a receipt for each message, in their order.

        :raises DelayqError: if one was refused: the first refusal, and how many were accepted
        """
        for failure in self._failures:
            accepted, total = len(self._receipts), len(self._messages)
            were = "confirmed" if isinstance(failure, NotConfirmed) else "accepted"
            raise type(failure)(f"{failure}; {accepted} of {total} were {were}") from failure
        return [self._receipts[place] for place in range(len(self._messages))]

    def _message(self, place: int) -> Outgoing:
        given = self._messages[place]
        return plain(given, self._ids[place]) if isinstance(given, str) else given

    async def _send_lane(self, places: Sequence[int], send: Send) -> None:
        with self._callers.one() as caller:
            for batch in batches(map(self._message, places), limited=self._limited):
                sent, places = places[: len(batch)], places[len(batch) :]
                try:
                    answers = await send(batch, caller.call(), mono_s() + self._patience_s)
                except DelayqError as error:
                    self._failures.append(error)
                    return
                for place, answer in zip(sent, answers, strict=True):
                    if isinstance(answer, DelayqError):
                        self._failures.append(answer)
                        return
                    self._receipts[place] = answer
