"""Real servers for tests: the embedded one, or the program that TEST_REDIS_SERVER names."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import anyio

from delayq.embedded import find_program


def program() -> str:
    return os.environ.get("TEST_REDIS_SERVER") or find_program()


class RealServer:
    """A server that can be killed, stopped for a while, and started again on the same data."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dq-")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = Path(self._folder.name) / "s"
        self.url = f"unix://{self.socket}"

    def command(self) -> list[str]:
        """Return what is run."""
        debug = ("--enable-debug-command", "yes") if _knows_debug_option() else ()
        where = ("--unixsocket", str(self.socket), "--dir", self._folder.name)
        return [program(), "--port", "0", *where, "--save", "", *debug, *self._options]

    async def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = self.command()
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, stdout=quiet, stderr=quiet
        )
        with anyio.fail_after(10):
            while not await self._answers():
                assert self._process.poll() is None, f"{command} ended"

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_unix(self.socket) as connection:
                await connection.send(b"PING\r\n")
                return (await connection.receive()).startswith((b"+PONG", b"-NOAUTH"))
        except (OSError, anyio.EndOfStream):
            await anyio.lowlevel.checkpoint()
            return False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """Have it answer nothing, and keep its connections."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.running:
            self.kill()
        self._folder.cleanup()


def _knows_debug_option() -> bool:
    said = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True)
    version = said.stdout.split("v=")[1].split(".")
    return int(version[0]) >= 7
