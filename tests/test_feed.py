"""The feed: it fetches while what came before is read and handled."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from delayq import Retry, Server, scripts
from delayq.body import Codec
from delayq.queue import Ordering
from tests.conftest import KEYS, Client, MakeQueue
from tests.roles import publish, troupe


class Noted(Codec[Any]):
    """Notes what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Any] = []

    def decode(self, text: str) -> Any:
        self.read.append(text)
        return super().decode(text)


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_what_came_is_read_and_handled_when_the_next_call_is_on_its_way(
    server: Server, make_queue: MakeQueue, ordering: Ordering
) -> None:
    codec, read_before, handled_meanwhile = Noted(), list[int](), list[int]()
    queue = make_queue(ordering, codec=codec)
    async with troupe(server, queue) as t:

        async def around(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
            if name == "fetch":
                read_before.append(len(codec.read))
                if len(read_before) == 2:
                    with anyio.move_on_after(10):
                        await t.begins(4)
                    handled_meanwhile.append(len(t.handled))
            return await call()

        await publish(queue, *range(10))
        scripts.interpose(around)
        try:
            await t.active("c1", concurrency=10, batch=5)
            await t.settled(10)
        finally:
            scripts.interpose(None)
        assert read_before[:2] == [0, 0]
        assert handled_meanwhile == [5]
        assert t.bodies == list(range(10))


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_a_last_delivery_is_held_back_from_those_that_came_and_are_not_read(
    server: Server, client: Client, make_queue: MakeQueue, ordering: Ordering
) -> None:
    queue, answers = make_queue(ordering, Retry(max_deliveries=2)), list[Any]()

    async def around(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "fetch":
            answers.append(answer)
        return answer

    await publish(queue, *range(5))
    await client.xadd(KEYS.stream, {"body": "5", "deliveries": "1"})
    async with troupe(server, queue) as t:
        scripts.interpose(around)
        try:
            await t.active("c1", concurrency=10, batch=5)
            await t.settled(6)
        finally:
            scripts.interpose(None)
    assert [(len(new), held_back) for _, held_back, _, new in answers[:2]] == [(5, 0), (0, 1)]
    assert t.bodies == list(range(6))
