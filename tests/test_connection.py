"""Servers that will do, and servers that will not; and the embedded one."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from redis import exceptions as redis_errors

from delayq import (
    Consumer,
    Poller,
    Queue,
    Server,
    ServerUnreachable,
    check,
    embedded,
    fitness,
)
from delayq.errors import InvalidFolder, ServerReadOnly, ServerRefused, ServerTooOld
from delayq.scripts import command
from tests.conftest import Client
from tests.servers import RealServer

OWNER = """
import anyio, sys
from delayq import embedded
async def own():
    async with embedded() as url:
        print(url, flush=True)
        await anyio.sleep_forever()
anyio.run(own)
"""


async def test_a_server_that_will_do_has_no_warnings(server: Server) -> None:
    assert await check(server) == []


async def test_an_eviction_policy_is_warned_of(server: Server, client: Client) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in (await check(server))[0]
    finally:
        await client.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(ServerUnreachable, match=r"redis://me:\*\*\*@127.0.0.1:1/0"):
        await check(Server("redis://me:se:cr@et@127.0.0.1:1/0"))


@pytest.mark.parametrize("one_connection", [False, True])
async def test_a_lost_reply_is_told_and_nothing_is_sent_again_unasked(
    tmp_path: Path, *, one_connection: bool
) -> None:
    asked = 0

    async def lose_reply(stream: anyio.abc.SocketStream) -> None:
        nonlocal asked
        async with stream:
            while b"GET" not in (received := await stream.receive()):
                await stream.send(b"+OK\r\n" * max(1, received.count(b"*")))
            asked += 1

    listener = await anyio.create_unix_listener(tmp_path / "s")
    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, lose_reply)
        server = Server(f"unix://{tmp_path}/s")
        async with server.client(one_connection=one_connection) as client:
            with pytest.raises(ServerUnreachable):
                await command(client, "GET", "key")
        assert asked == 1
        serving.cancel_scope.cancel()


async def test_a_wrong_password_is_told(server: Server, client: Client) -> None:
    await client.acl_setuser("guarded", enabled=True, passwords=["+right"], commands=["+@all"])
    with pytest.raises(ServerRefused, match="invalid"):
        await check(Server(f"{server.url}?username=guarded&password=wrong"))


async def test_a_server_that_is_too_old_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "OLDEST_VERSION", (99, 0))
    with pytest.raises(ServerTooOld, match=r"6\.2 or newer"):
        await check(server)


async def test_a_replica_is_told() -> None:
    replica = RealServer("--replicaof", "127.0.0.1", "1")
    try:
        await replica.start()
        with pytest.raises(ServerReadOnly, match="read-only replica"):
            await check(Server(replica.url))
    finally:
        replica.close()


async def test_the_embedded_server_is_private_and_leaves_nothing() -> None:
    async with embedded() as url:
        folder = Path(url.removeprefix("unix://")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        async with Server(url).client() as client:
            info = await client.info("server")
            assert info["tcp_port"] == 0
    assert not folder.exists()


async def test_the_embedded_server_has_read_its_folder_when_it_is_there(tmp_path: Path) -> None:
    data, slowly = tmp_path / "data", ("--key-load-delay", "1000")
    async with embedded(data) as url, Server(url).client() as client:
        for n in range(200):
            await client.set(f"key {n}", n)
    before = (data / "server.log").read_text()
    async with embedded(data, slowly):
        now = (data / "server.log").read_text().removeprefix(before)
        assert "Ready to accept connections" in now


async def test_the_embedded_server_keeps_what_is_in_a_folder(tmp_path: Path) -> None:
    for seen in (None, "kept"):
        async with embedded(tmp_path / "data") as url, Server(url).client() as client:
            assert await client.get("key") == seen
            await client.set("key", "kept")


async def test_the_embedded_server_ends_with_an_owner_that_is_killed() -> None:
    owner = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    url = owner.stdout.readline().strip()
    folder = Path(url.removeprefix("unix://")).parent
    async with Server(url).client() as client:
        pid = (await client.info("server"))["process_id"]
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    with anyio.fail_after(10):
        while folder.exists() or _runs(pid):
            await anyio.lowlevel.checkpoint()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="did not start"):
        async with embedded(tmp_path, ["--maxmemory", "nonsense"]):
            raise AssertionError


async def test_a_folder_is_served_once(tmp_path: Path) -> None:
    async with embedded(tmp_path):
        with pytest.raises(InvalidFolder, match="a server is running"):
            async with embedded(tmp_path):
                raise AssertionError


async def test_of_two_servers_started_on_one_folder_at_once_one_is_refused(tmp_path: Path) -> None:
    refused = []

    async def serve() -> None:
        try:
            async with embedded(tmp_path):
                await anyio.sleep_forever()
        except InvalidFolder as error:
            refused.append(error)
            starting.cancel_scope.cancel()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as starting:
            starting.start_soon(serve)
            starting.start_soon(serve)
    assert len(refused) == 1


async def test_a_start_that_is_cut_short_leaves_no_server(tmp_path: Path) -> None:
    for _ in range(3):
        with anyio.fail_after(10), anyio.move_on_after(0):
            async with embedded(tmp_path):
                raise AssertionError
    async with embedded(tmp_path):
        pass


async def test_a_consumer_that_is_refused_says_so(server: Server, queue: Queue) -> None:
    async def handle(_body: object, _context: object) -> None:
        raise NotImplementedError

    refusing = Server(f"{server.url}?username=nobody&password=wrong")
    for role in (Consumer(refusing, queue, handle, name="c1"), Poller(refusing, queue)):
        with pytest.raises(ServerRefused):
            await role.run()


async def test_a_folder_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for data in (tmp_path / "file" / "x", tmp_path / ("x" * 120)):
        with pytest.raises(InvalidFolder, match="--data: "):
            async with embedded(data):
                raise AssertionError


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_connection_that_is_closed_while_it_is_written_to_says_so(server: Server) -> None:
    async with server.client(one_connection=True) as client:
        await client.ping()
        connection: Any = client.connection
        said: list[str] = []

        async def send() -> None:
            try:
                await connection.send_packed_command([b"x" * 50_000_000])
            except redis_errors.ConnectionError as error:
                said.append(str(error))

        async with anyio.create_task_group() as sending:
            sending.start_soon(send)
            await anyio.lowlevel.checkpoint()
            await connection.disconnect(nowait=True)
        assert said == ["closed while it was written to"]


@pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], scope="module")
async def test_a_connection_that_was_closed_says_so_on_uvloop_too(real_server: RealServer) -> None:
    async with Server(real_server.url).client(one_connection=True) as client:
        await client.ping()
        connection: Any = client.connection
        connection._writer.transport.abort()
        with pytest.raises(redis_errors.ConnectionError, match="closed before"):
            await connection.send_packed_command([b"x"])
        assert await client.ping()
