"""What a process holds open: one link for all roles of an app, whatever its queues and lanes."""

from datetime import timedelta
from typing import TypeVar

import anyio

from delayq import App, Context, Server
from delayq.consumer import Consumer
from delayq.events import Acked, Ended, Event, Ticked, TookOver
from delayq.tape import Tape
from tests.conftest import Client

E = TypeVar("E", bound=Event)


def app_of(server: Server, tape: Tape, queues: int, lanes: int) -> App:
    app = App(redis_url=server.url, namespace="test", observe=tape)
    for number in range(queues):
        queue = app.queue(f"q{number}", int, ordering="strict", lanes=lanes)

        @queue.handler()
        async def handle(body: int, context: Context) -> None:
            pass

    return app


async def times(tape: Tape, kind: type[E], count: int) -> None:
    """Wait until there are so many events of a kind."""
    await tape.until(kind, where=lambda _: len(tape.of(kind)) >= count)


async def all_acked(tape: Tape, count: int) -> None:
    await tape.until(Acked, where=lambda _: sum(len(a.ids) for a in tape.of(Acked)) == count)


async def test_queues_and_lanes_share_the_connections_of_their_process(
    server: Server, client: Client
) -> None:
    tape = Tape()
    app = app_of(server, tape, queues=5, lanes=8)
    async with app:
        await app.start()
        await times(tape, TookOver, 40)
        mine = [c for c in await client.client_list() if c["name"] == app.name]
        assert 3 <= len(mine) <= 6, "for calls, for leases, and up to four that wait"
        for queue in app.queues.values():
            for n in range(20):
                await queue.publish(n, key=str(n))
        await all_acked(tape, 100)


async def test_recurring_functions_share_the_connections_of_their_process(
    server: Server, client: Client
) -> None:
    tape = Tape()
    app = app_of(server, tape, queues=1, lanes=1)
    for number in range(8):
        app.every(timedelta(hours=1), name=f"hourly{number}")(lambda _tick, _context: None)
    before = len(await client.client_list())
    async with app:
        await app.start()
        await times(tape, Ticked, 8)
        assert len(await client.client_list()) - before <= 6


async def test_a_role_that_crashed_takes_over_from_its_former_self_at_once(
    server: Server,
) -> None:
    tape = Tape()
    app = app_of(server, tape, queues=1, lanes=1)
    async with app:
        await app.start()
        await tape.until(TookOver)
        members = app.supervisor._members.values()
        [role] = [member.role for member in members if isinstance(member.role, Consumer)]

        async def crash() -> None:
            raise RuntimeError("no")

        role.seats[0]._service._turn = crash  # type: ignore[method-assign, union-attr]
        with anyio.fail_after(5):  # its lease would last for 10
            await app.queues["q0"].publish(1)
            assert (await tape.until(Ended)).how == "crashed"
            await times(tape, TookOver, 2)
            await all_acked(tape, 1)
