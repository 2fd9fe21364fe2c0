"""A server of verify's own: killed, and started again on what it kept."""

from pathlib import Path

from delayq.verify.server import OwnServer, flushing
from tests.servers import program

_HALF = (
    b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$4\r\nre"
)
"""What a server leaves in its file that is killed as it writes what a script did."""


async def test_half_of_what_a_script_did_never_comes_back(tmp_path: Path) -> None:
    server = OwnServer(tmp_path / "server", flushing("always"), Path(program()))
    await server.start()
    try:
        await server.say("SET", "whole", 1)
        await server.kill()
        [log] = tmp_path.rglob("*.aof")  # noqa: ASYNC240 - of a folder of its own
        with log.open("ab") as file:
            file.write(_HALF)
        for _ in range(2):
            await server.start()
            assert await server.say("KEYS", "*") == ["whole"]
            await server.say("EVAL", "redis.call('SET', 'whole', 2) redis.call('INCR', 'whole')", 0)
            await server.kill()
        await server.start()
        assert await server.say("GET", "whole") == "3"
    finally:
        await server.close()
