"""The consumer: handles the messages of a queue, in those of its lanes that are for it.

Whether it is the one active consumer of an ordered lane, or one of many that compete, is the
queue's `ordering`. What it does in one lane is its `Seat` there.
"""

from functools import partial

import anyio

from delayq.clock import mono_s
from delayq.connection import Server, outlast
from delayq.events import Observer, in_lane
from delayq.handling import Handler, Handling, check_handler
from delayq.keys import MAX_NAME, checked_name
from delayq.logs import guarded, log_trouble
from delayq.queue import Queue
from delayq.seat import Duty, Seat
from delayq.share import ATTEND_S, Members, Share
from delayq.stop import Stop
from delayq.transport.link import Link

MAX_CONSUMER_NAME = 4 * MAX_NAME
"""Characters: an app makes it of the names of queue, group and process."""
_LEAVE_S = 1.0
"""How long leaving may take: whoever does not is soon seen no more."""

_LIMITS = {
    "lease_ttl_s": (0.1, 86_400),
    "batch": (1, 1_000),
    "concurrency": (1, 100_000),
    "time_limit_s": (0.001, 86_400),
}


def check_limits(**given: float | None) -> None:
    """Check numbers that a consumer is given, by name.

    :raises ValueError: if one is out of range
    """
    for name, value in given.items():
        least, most = _LIMITS[name]
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name}: {least} to {most} (got {value})")


class Consumer:
    """Handles the messages of one queue, in all of its lanes, as `name`.

    Consumers of an ordered queue share its lanes: each is active in as many as the others are, and
    stands by for the rest.

    :param lease_ttl_s: after how long without a sign of life another may take over
    :param batch: messages fetched at once from a lane, at most
    :param concurrency: messages of a lane handled at once: where consumers compete, or order is by
        key; strict: always one
    :param time_limit_s: how long handling a message may take; then it has failed
    :param acknowledge: False leaves everything pending, so that the next consumer starts from the
        first message again; only in an ordered queue
    :raises InvalidName: if `name` cannot stand in a key
    :raises ValueError: if a number is out of range
    :raises TypeError: if the handler cannot be called
    """

    def __init__(
        self,
        server: Server,
        queue: Queue,
        handler: Handler,
        *,
        name: str,
        lease_ttl_s: float = 10.0,
        batch: int = 100,
        concurrency: int = 10,
        time_limit_s: float | None = None,
        acknowledge: bool = True,
        observe: Observer = log_trouble,
    ) -> None:
        self.name = checked_name("consumer", name, MAX_CONSUMER_NAME)
        check_limits(
            lease_ttl_s=lease_ttl_s,
            batch=batch,
            concurrency=concurrency,
            time_limit_s=time_limit_s,
        )
        check_handler(handler)
        if not (acknowledge or queue.ordered):
            raise ValueError("acknowledge: only an ordered queue can go without")
        self._server = server
        self._queue = queue
        self._handler = handler
        self._concurrency = 1 if queue.ordering == "strict" else concurrency
        self._time_limit_s = time_limit_s
        # A message may only be fetched beside others if one more delivery is left to it.
        batch = 1 if queue.retry.max_deliveries == 1 else batch
        self._duty = Duty(self.name, server, queue.lanes, lease_ttl_s, batch, acknowledge)
        self._observe = guarded(observe)
        self._share = Share(self.name, queue.lanes)
        self._shares = queue.ordered and queue.lanes > 1
        self._stop = Stop()
        self._thaws_at = 0.0
        self.seats: tuple[Seat, ...] = ()
        """One for each lane, once it runs."""

    async def run(self) -> None:
        """Stand by and serve until stopped.

        :raises LanesDiffer: if others use the queue with another number of lanes
        :raises ServerError: if the server refuses; while it is merely away, this waits for it
        """
        async with self._server.link(self.name) as link:
            queue = self._queue.bound_to(link.client)
            members = Members(link.client, queue.keys, self.name)
            with self._stop.cuts():
                await outlast(queue.register, self.name, self._observe)
                if self._shares:
                    await self._look(members)
            self.seats = tuple(self._seat(lane, link) for lane in queue.every_lane)
            async with anyio.create_task_group() as serving:
                for seat in self.seats:
                    serving.start_soon(seat.run)
                if self._shares:
                    serving.start_soon(self._attend, members)
                elif self._stop.asked:
                    self._stop_seats()

    def stop(self) -> None:
        """Finish what is in hand, hand over, and return from `run`."""
        self._stop.ask()
        if not self._shares:
            self._stop_seats()

    def freeze(self, seconds: float) -> None:
        """Behave as a frozen process does, for tests and demonstrations. See `Term.freeze`."""
        self._thaws_at = mono_s() + seconds
        for seat in self.seats:
            seat.freeze(seconds)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but wait, in each lane."""
        return all(seat.idle for seat in self.seats)

    @property
    def holders(self) -> dict[int, str]:
        """The lanes it is active in, with the name under which messages are pending for it."""
        return {seat.lane: seat.holder for seat in self.seats if seat.holder}

    def _seat(self, lane: Queue, link: Link) -> Seat:
        handling = Handling(self._handler, self._concurrency, self._time_limit_s)
        observe = in_lane(self._observe, lane.keys.lane, self._queue.lanes)
        return Seat(self._duty, lane, handling, link, share=self._share, observe=observe)

    def _stop_seats(self) -> None:
        for seat in self.seats:
            seat.stop()

    # -- sharing --

    async def _attend(self, members: Members) -> None:
        """Take part in sharing until stopped; then leave, and hand over: others know at once."""
        with self._stop.cuts():
            excess, due_s = 0, mono_s() + ATTEND_S
            while True:
                await self._share.doubted(due_s - mono_s())
                await anyio.sleep(max(0, self._thaws_at - mono_s()))
                await self._look(members)
                if mono_s() >= due_s:
                    excess, due_s = self._pass_on(excess), mono_s() + ATTEND_S
        with anyio.move_on_after(_LEAVE_S):
            await outlast(members.leave, self.name, self._observe)
        self._stop_seats()

    async def _look(self, members: Members) -> None:
        told = tuple(self._share.dead)
        takes_part = not any(seat.hangs for seat in self.seats)  # it leaves its lanes to others
        call = partial(members.attend, told, takes_part=takes_part)
        self._share.see(await outlast(call, self.name, self._observe), told)

    def _pass_on(self, before: int) -> int:
        """Pass on lanes that are above the quota now, and were at the last look.

        :return: how many are above it still: those are new
        """
        held = [seat for seat in self.seats if seat.settled]
        excess = max(0, len(held) - self._share.quota)
        passed = min(before, excess)
        for seat in held[len(held) - passed :]:
            seat.pass_on()
        return excess - passed
