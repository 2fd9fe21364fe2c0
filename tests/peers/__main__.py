"""`python -m tests.peers`: run the peers one after the other, and print their figures."""

import argparse
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import redis
from anyio.from_thread import start_blocking_portal

from delayq import embedded
from tests.peers.course import PARTS, Bounds, Course, Figures
from tests.peers.peer import Peer, Stage, Unavailable, all_peers, install
from tests.peers.table import Row, raw_drain, report


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what is wrong ends it with status 2."""
    peers, default = all_peers(), Bounds()
    parser = argparse.ArgumentParser(
        prog="python -m tests.peers",
        description="Measure delayq and its peers on one server, each in an environment of its own,"
        " which is made when it is first used. The raw loop runs always, for the ratios.",
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(peers)}; all")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--parts", default=",".join(PARTS), help="of the course; %(default)s")
    parser.add_argument(
        "--venvs",
        type=Path,
        default=Path("~/.cache/delayq-peers").expanduser(),
        metavar="DIR",
        help="folder of the environments; %(default)s",
    )
    for name, value in vars(default).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(value), default=value, help="%(default)s")
    given = parser.parse_args(words)
    given.parts = given.parts.split(",")
    for what, known in (("peers", peers), ("parts", PARTS)):
        if unknown := set(getattr(given, what)) - set(known):
            parser.error(f"{what}: {', '.join(sorted(unknown))}: none of {', '.join(known)}")
    for name in vars(default):
        if getattr(given, name) <= 0:
            parser.error(f"--{name.replace('_', '-')}: more than 0 (got {getattr(given, name)})")
    return given


@contextmanager
def server() -> Iterator[str]:
    """Run the embedded server on a TCP port of the loopback, which every peer can speak to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--port", str(port), "--bind", "127.0.0.1")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded(options=options)),
    ):
        yield f"redis://127.0.0.1:{port}/0"


def run(peer: Peer, url: str, given: argparse.Namespace, bounds: Bounds) -> Row:
    """Run one peer over the course; a peer that fails does not end the run."""
    begun = time.monotonic()
    figures: Figures = {}
    why_not = None
    try:
        command = install(peer, given.venvs)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            stage = Stage(command, url, Path(folder), given.venvs)
            for of_part in Course(peer, stage, bounds).run(given.parts):
                figures |= of_part
    except Unavailable as reason:
        why_not = str(reason)
    took_s = time.monotonic() - begun
    print(f"{peer.title}: {why_not or 'done'} in {took_s:.0f} s", file=sys.stderr, flush=True)
    return Row(peer, figures, why_not)


def about(url: str) -> dict[str, object]:
    """Say where and when this was measured."""
    told = redis.Redis.from_url(url).info("server")
    assert isinstance(told, dict)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "server": f"{told.get('server_name', 'redis')} "
        f"{told.get('valkey_version', told['redis_version'])}, loopback TCP",
        "Python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Run what was asked for, and print it."""
    given = arguments(words)
    bounds = Bounds(**{name: getattr(given, name) for name in vars(Bounds())})
    peers = all_peers()
    names = given.peers or list(peers)
    with server() as url:
        where = about(url)
        rows = [run(peer, url, given, bounds) for n, peer in peers.items() if n in {"raw", *names}]
    if given.json:
        raw_per_s = raw_drain(rows)
        values = [row.as_value(raw_per_s) for row in rows]
        print(json.dumps({"about": where, "bounds": vars(bounds), "peers": values}))
    else:
        print(report(rows, bounds, where))


if __name__ == "__main__":
    main()
