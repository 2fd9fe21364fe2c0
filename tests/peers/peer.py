"""A peer: what the head of its adapter says, the environment it needs, and its processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from tests.peers.pipe import Pipe

ADAPTERS = Path(__file__).parent / "adapters"
ROOT = ADAPTERS.parents[2]
SLACK_S = 60.0
"""How much longer than asked for a publishing process may take before it is ended."""


class Unavailable(Exception):
    """The peer cannot be run here; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A peer by the name of its adapter."""

    name: str
    title: str
    pins: tuple[str, ...]
    """What is installed for it, by pip or npm, the peer first. None: it runs where this runs."""
    settings: str
    """How it is set, beside its defaults."""
    words: str
    """What it does more or less than others."""
    is_node: bool = False

    @property
    def version(self) -> str:
        """The version that is measured."""
        if not self.pins:
            return version("delayq" if self.name == "delayq" else "redis")
        return self.pins[0].replace("==", "@").rpartition("@")[2]


def read_peer(path: Path) -> Peer:
    """Read the head of an adapter: TOML in comments, as PEP 723 has it.

    :raises ValueError: if the file has no such head
    """
    mark = "//" if path.suffix == ".cjs" else "#"
    lines = path.read_text().splitlines()
    try:
        end = lines.index(f"{mark} ///")
    except ValueError:
        raise ValueError(f"{path.name}: no head that ends with `{mark} ///`") from None
    head = tomllib.loads("\n".join(line.removeprefix(mark).strip() for line in lines[1:end]))
    said = {name: " ".join(text.split()) for name, text in head["tool"]["peers"].items()}
    return Peer(path.stem, pins=tuple(head["dependencies"]), is_node=mark == "//", **said)


def all_peers() -> dict[str, Peer]:
    """Return all peers by name: first the limit, then delayq, then the others."""
    paths = [p for p in sorted(ADAPTERS.iterdir()) if p.suffix in {".py", ".cjs"}]
    peers = [read_peer(path) for path in paths if path.stem != "__init__"]
    peers.sort(key=lambda peer: (peer.name != "raw", peer.name != "delayq", peer.name))
    return {peer.name: peer for peer in peers}


def install(peer: Peer, venvs: Path) -> list[str]:
    """Make a peer's environment, if it is not there as pinned. Return how to start its adapter.

    :raises Unavailable: if that fails
    """
    if not peer.pins:
        return [sys.executable, "-m", "tests.peers.speak", peer.name]
    home = venvs / peer.name
    stamp = home / "pins.json"
    if not (stamp.exists() and json.loads(stamp.read_text()) == list(peer.pins)):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _make(peer, home)
        stamp.write_text(json.dumps(peer.pins))
    if peer.is_node:
        return ["node", str(ADAPTERS / f"{peer.name}.cjs")]
    return [str(home / "bin" / "python"), "-m", "tests.peers.speak", peer.name]


def _make(peer: Peer, home: Path) -> None:
    if peer.is_node:
        commands = [["npm", "install", "--silent", "--no-audit", "--no-fund", *peer.pins]]
        (home / "package.json").write_text("{}")
    else:
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.pins]
        commands = [[sys.executable, "-m", "venv", str(home)], pip]
    for command in commands:
        try:
            subprocess.run(command, cwd=home, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise Unavailable(f"{command[0]}: {said.strip().splitlines()[-1]}") from error


@dataclass
class Stage:
    """Where a peer plays: how its adapter is started, on which server, with its logs where."""

    command: list[str]
    url: str
    folder: Path
    venvs: Path

    def ask(self, *words: object, within_s: float) -> dict[str, Any]:
        """Have the adapter do something, and return what it says of it.

        :raises Unavailable: if it fails, or takes longer than `within_s` and some slack
        """
        command = [*self.command, *(str(word) for word in words)]
        with (self.folder / "log").open("w") as log:
            process = self._start(command, log, subprocess.PIPE)
            try:
                said, _ = process.communicate(timeout=within_s + SLACK_S)
            except subprocess.TimeoutExpired:
                said = ""
            finally:
                _end(process)
        if process.returncode or not said:
            raise Unavailable(f"{' '.join(command[-4:])}: {self.last_words()}")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    @contextmanager
    def consuming(
        self, every: int = 1, *, holds: bool = False
    ) -> Iterator[tuple["subprocess.Popen[str]", Pipe]]:
        """Run a consumer process, and whatever belongs to it, for the length of the block."""
        with Pipe(self.folder) as pipe, (self.folder / "log").open("w") as log:
            process = self._start(
                [*self.command, "consume"],
                log,
                subprocess.DEVNULL,
                PEERS_PIPE=str(pipe.path),
                PEERS_EVERY=str(every),
                PEERS_HOLD=str(int(holds)),
            )
            try:
                yield process, pipe
            finally:
                _end(process)

    def last_words(self) -> str:
        """Return the last line that the peer's process logged."""
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no answer in time"

    def _start(
        self, command: list[str], log: IO[str], out: int, **variables: str
    ) -> "subprocess.Popen[str]":
        given = {
            "PEERS_URL": self.url,
            "NODE_PATH": str(self.venvs / "bullmq" / "node_modules"),
            "PYTHONWARNINGS": "ignore",
        }
        # A session of its own: all of its processes can be killed as one.
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | given | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process and its children as `kill -9` does."""
    kill(process)
    if process.stdout:
        process.stdout.close()
    process.wait()


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
