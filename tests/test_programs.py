"""delayq inside programs that exist: a web application, and plain asyncio."""

import asyncio
import importlib
import time
from datetime import timedelta
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from delayq import (
    App,
    Context,
    InvalidMessage,
    NotOpen,
    RetryLater,
    Server,
    ServerError,
    ServerUnreachable,
)
from delayq.events import Event
from tests.conftest import Client
from tests.servers import RealServer


@pytest.fixture
def sample(server: Server, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("DELAYQ_REDIS_URL", server.url)
    module = importlib.import_module("tests.sample.web")
    return importlib.reload(module)


async def test_a_web_application_publishes_and_handles(client: Client, sample: ModuleType) -> None:
    web: FastAPI = sample.web
    transport = httpx.ASGITransport(web)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as browser,
    ):
        began = time.monotonic()
        late = await browser.post("/reminders?delay_s=0.3", json={"text": "later"})
        now = await browser.post("/reminders", json={"text": "now"})
        wrong = await browser.post("/reminders", json={"other": 1})
        assert (late.status_code, now.status_code, wrong.status_code) == (202, 202, 422)
        assert late.json()["id"] != now.json()["id"]
        with anyio.fail_after(10):
            while len(sample.handled) < 2:
                await anyio.lowlevel.checkpoint()
        assert time.monotonic() - began >= 0.3
    assert sample.handled == ["now", "later"]
    assert await client.xlen("web:{reminders:0}:stream") == 0


def test_a_plain_program_opens_its_app_twice(real_server: RealServer) -> None:
    app = App(redis_url=real_server.url, namespace="plain")
    jobs = app.queue("jobs", int)
    handled: list[int] = []
    more = asyncio.Event()

    @jobs.handler()
    async def handle(job: int, _context: Context) -> None:
        handled.append(job)
        more.set()

    async def publish(first: int) -> None:
        for number in range(first, first + 50):
            await jobs.publish(number)

    async def main() -> None:
        for opening in range(2):
            with pytest.raises(NotOpen):
                await jobs.publish(1)
            with pytest.raises(NotOpen):
                await app.start()
            async with app:
                await app.start()
                starts = (opening * 100, opening * 100 + 50)
                await asyncio.gather(*(publish(start) for start in starts))
                with pytest.raises(NotOpen, match="open already"):
                    await app.__aenter__()
                while len(handled) < 100 * (opening + 1):
                    more.clear()
                    await more.wait()
        assert sorted(handled) == list(range(200))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_an_app_serves_one_event_loop_after_the_other(real_server: RealServer) -> None:
    app = App(redis_url=real_server.url, namespace="loops")
    jobs = app.queue("jobs", int)

    async def main() -> str:
        async with app:
            return (await jobs.publish(1)).id

    assert asyncio.run(main()) != asyncio.run(main())


async def test_an_app_whose_server_is_away_at_the_start_says_so() -> None:
    real = RealServer("--appendonly", "no")
    app = App(redis_url=real.url)
    app.queue("jobs")
    async with app:
        with pytest.raises(ServerUnreachable):
            await app.start()
    real.close()


async def test_an_app_that_only_publishes_waits_for_a_server_that_comes() -> None:
    real = RealServer("--appendonly", "no")
    app = App(redis_url=real.url)
    jobs = app.queue("jobs")
    answers: list[Any] = []

    async def publish() -> None:
        answers.append(await jobs.publish(1))

    async with app, anyio.create_task_group() as publishing:
        publishing.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        await real.start()
    assert not answers[0].duplicate
    real.close()


async def test_an_error_in_the_body_ends_what_was_started(server: Server, client: Client) -> None:
    app = App(redis_url=server.url, namespace="failing")
    jobs = app.queue("jobs")

    @jobs.handler()
    async def handle(_job: Any, _context: Context) -> None:
        raise NotImplementedError

    with pytest.raises(ServerError, match="mine"):
        async with app:
            await app.start()
            raise ServerError("mine")
    with anyio.fail_after(5):
        while len(await client.client_list()) > 2:
            await anyio.lowlevel.checkpoint()


async def _handle(_body: Any, _context: Context) -> None:
    pass


def test_no_queue_takes_the_place_of_the_poller_of_another() -> None:
    app = App(redis_url="redis://shop")
    for name in ("orders", "orders.poller"):
        app.queue(name).handler()(_handle)
    assert len(app.roles("p1")) == 4


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"batch": 1_001}, {"time_limit_s": 0}, {"time_limit_s": -1}]
)
def test_a_wrong_option_of_a_handler_is_refused_where_it_is_declared(
    options: dict[str, Any],
) -> None:
    orders = App(redis_url="redis://shop").queue("orders")
    with pytest.raises(ValueError, match=next(iter(options))):
        orders.handler(**options)


@pytest.mark.parametrize("handler", [lambda: None, lambda _body: None, lambda _a, _b, _c: None, 3])
def test_what_cannot_be_called_as_a_handler_is_refused_where_it_is_declared(handler: Any) -> None:
    orders = App(redis_url="redis://shop").queue("orders")
    with pytest.raises(TypeError, match="handler: a function of two parameters"):
        orders.handler()(handler)


@pytest.mark.parametrize(
    ("given", "options"), [("retry: a Retry is needed", {"retry": 5}), ("body", {"body": "strict"})]
)
def test_what_is_no_option_of_a_queue_is_refused_where_it_is_declared(
    given: str, options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=given):
        App(redis_url="redis://shop").queue("orders", **options)


@pytest.mark.parametrize("delay_ms", [-1, 0.5, "5", timedelta(seconds=5), None])
def test_what_is_no_delay_of_whole_milliseconds_is_refused(delay_ms: Any) -> None:
    with pytest.raises(InvalidMessage, match="delay_ms: whole ms"):
        RetryLater(delay_ms)


async def test_an_observer_that_fails_is_told_and_ends_nothing(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(event: Event) -> None:
        raise RuntimeError(f"{type(event).__name__} is not counted")

    app = App(redis_url=server.url, namespace="watched", observe=observe)
    queue = app.queue("orders")
    handled = anyio.Event()

    @queue.handler()
    async def handle(_body: Any, _context: Context) -> None:
        handled.set()

    async with app:
        await app.start()
        await queue.publish(1)
        with anyio.fail_after(10):
            await handled.wait()
    assert await client.xlen(queue.keys.stream) == 0
    assert "RuntimeError: Acked is not counted" in caplog.text


async def test_in_a_program_warnings_go_to_its_own_log(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        async with App(redis_url=server.url) as app:
            await app.start()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
    assert [record.name for record in caplog.records] == ["delayq"]
    assert "allkeys-lru" in caplog.text
