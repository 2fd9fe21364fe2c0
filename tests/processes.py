"""delayq as a user runs it: commands in processes of their own."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from delayq.cli import main

BASE = [sys.executable, "-m", "delayq"]


def clean_environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DELAYQ_")}
    return kept | variables


FORKS = multiprocessing.get_context("forkserver")
"""Makes processes that have imported what each command imports; that is most of what one costs."""
FORKS.set_forkserver_preload(["__main__", "delayq.cli"])


def run(
    *words: str, cwd: str | None = None, typed: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process of its own; `typed` is what it reads."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("in", "out", "err")]
        files[0].write_bytes(os.fsencode(typed))
        given = (words, cwd or folder, clean_environment(**variables), *files)
        process = FORKS.Process(target=_command, args=given)
        process.start()
        process.join(60)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(words, 60)
        status = process.exitcode
        process.close()
        assert status is not None
        return subprocess.CompletedProcess(words, status, *(path.read_text() for path in files[1:]))


def run_anew(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in an interpreter of its own: it has imported nothing before."""
    return subprocess.run(
        [*BASE, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean_environment(**variables),
    )


def _command(
    words: tuple[str, ...], cwd: str, environment: Mapping[str, str], *files: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - what it was is closed in a fork
    sys.argv = [BASE[-1], *words]
    sys.exit(main())


def verdict(said: str) -> dict[str, Any]:
    """Read the JSON object on the last line of stdout."""
    parsed: dict[str, Any] = json.loads(said.splitlines()[-1])
    return parsed


class Running:
    """A command that runs beside the test, whose log lines the test waits for."""

    def __init__(self, *words: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [*BASE, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(DELAYQ_LOG_FORMAT="json", DELAYQ_LOG_LEVEL="debug", **variables),
        )
        self.out = ""
        self._lines: list[dict[str, Any]] = []
        self._more = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._more:
                parsed = line.startswith("{")
                self._lines.append(json.loads(line) if parsed else {"event": line})
                self._more.notify_all()
        with self._more:
            self._closed = True
            self._more.notify_all()

    def logged(self, event: str, after: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line, and return it."""
        wanted = fields | {"event": event}

        def found() -> dict[str, Any] | None:
            since = self._lines[after:]
            return next((line for line in since if wanted.items() <= line.items()), None)

        with self._more:
            told = self._more.wait_for(lambda: found() or self._closed, timeout=30)
            line = found()
            assert told, f"{wanted} was not logged; there is {self._lines[-5:]}"
            assert line, f"{wanted} was not logged; there is {self._lines[-5:]}"
            return line

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in list(self._lines))

    @property
    def end(self) -> int:
        return len(self._lines)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> dict[str, Any]:
        """Wait for the end; return the verdict."""
        assert self.process.stdout
        self.out = self.process.stdout.read()
        self.process.wait(timeout=30)
        return verdict(self.out) if self.out.strip().endswith("}") else {}

    def ended(self) -> None:
        """Wait until nobody holds the command's stderr: neither it, nor a process that it began."""
        self._reader.join(30)
        assert not self._reader.is_alive()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()


@contextmanager
def running(*words: str, **variables: str) -> Iterator[Running]:
    command = Running(*words, **variables)
    try:
        yield command
    finally:
        command.close()
