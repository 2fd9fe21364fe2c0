"""Bulk publishing: many messages by few calls, in their order within each lane."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from delayq.errors import DelayqError, NotConfirmed
from delayq.outbox import Answer, batches
from delayq.outgoing import Outgoing, Receipt

Send = Callable[[Sequence[Outgoing]], Awaitable[list[Answer]]]
"""Sends messages to one lane by one call: all of them or none."""


class Bulk:
    """Messages on their way, and what became of each; `limited` is as for `batches`."""

    def __init__(self, messages: Sequence[Outgoing], *, limited: bool = False) -> None:
        self._messages = messages
        self._limited = limited
        self._receipts: dict[int, Receipt] = {}
        self._failures: list[DelayqError] = []

    async def send(self, lanes: Sequence[Send], route: Callable[[Outgoing], int]) -> None:
        """Send each message to its lane, to several lanes at once.

        :param route: tells the lane of a message
        """
        if len(lanes) == 1:
            await self._send_lane(range(len(self._messages)), lanes[0])
            return
        places: dict[int, list[int]] = {}
        for place, message in enumerate(self._messages):
            places.setdefault(route(message), []).append(place)
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

    async def _send_lane(self, places: Sequence[int], send: Send) -> None:
        for batch in batches([self._messages[place] for place in places], limited=self._limited):
            sent, places = places[: len(batch)], places[len(batch) :]
            try:
                answers = await send(batch)
            except DelayqError as error:
                self._failures.append(error)
                return
            for place, answer in zip(sent, answers, strict=True):
                if isinstance(answer, DelayqError):
                    self._failures.append(answer)
                    return
                self._receipts[place] = answer
