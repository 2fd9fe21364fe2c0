"""The commands. Each is a settings model; here alone things are printed and exit statuses made.

Exit status: 0 ok, 1 the verdict is not ok, 2 usage or settings, 3 server unreachable or refusing.
"""

import difflib
import importlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import anyio
import pydantic
from dotenv import dotenv_values
from pydantic_settings import CliApp, SettingsError

from delayq import logs
from delayq.app import App
from delayq.clock import mono_s
from delayq.demos import delay, failover
from delayq.demos.report import Verdict
from delayq.embedded import embedded
from delayq.errors import (
    DelayqError,
    InvalidFolder,
    InvalidMessage,
    InvalidName,
    ServerError,
    alone,
)
from delayq.settings import (
    ENV_FILE,
    PREFIX,
    AppSettings,
    DelaySettings,
    FailoverSettings,
    RunSettings,
    ServerSettings,
    Settings,
    said,
)
from delayq.supervisor import LAST_RESORT_S, leave, signalled

OK, NOT_OK, USAGE, SERVER = 0, 1, 2, 3


class UsageError(DelayqError):
    """Raised when a command was called in a way that cannot work."""


@dataclass(frozen=True)
class Command:
    """A command: its words, its settings, and what it does; it returns an exit status."""

    words: tuple[str, ...]
    settings: type[Settings]
    act: Callable[[Any], Awaitable[int]]


async def run_delay(settings: DelaySettings) -> int:
    """Run the delay demo."""
    _check_only(settings)
    return _told(settings, await delay.run(settings, say=print))


async def run_failover(settings: FailoverSettings) -> int:
    """Run the failover demo."""
    _check_only(settings)
    return _told(settings, await failover.run(settings, say=print))


async def run_server(settings: ServerSettings) -> int:
    """Run the embedded server until a signal comes."""
    options = () if settings.data is None else ("--appendfsync", settings.appendfsync)
    async with embedded(settings.data, options) as url:
        print(f"export DELAYQ_REDIS_URL='{url}'", flush=True)
        logs.tell("serving until Ctrl-C", kept_in=str(settings.data or "memory"))
        await signalled()
    return OK


async def run_app(settings: RunSettings) -> int:
    """Run an app until a signal comes."""
    app = _app(settings.target)
    if app.settings.redis_url is None:
        raise UsageError("run: set DELAYQ_REDIS_URL; `python -m delayq server` tells one")
    if not any(queue.handled for queue in app.queues.values()):
        raise UsageError(f"run: {settings.target} has no queue with a handler")
    if app.observe is logs.log_trouble:
        app.observe = logs.log_event
    logs.tell("running until Ctrl-C", app=settings.target, name=app.settings.name)
    await app.run()
    return OK


def _app(target: str) -> App:
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise UsageError(f"run: {target!r} is not module:name, such as shop:app")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise UsageError(f"run: there is no module {error.name}") from error
        raise
    app = getattr(module, name, None)
    if not isinstance(app, App):
        raise UsageError(f"run: {name} in {module_name} is not an App")
    return app


COMMANDS = (
    Command(("run",), RunSettings, run_app),
    Command(("run-demo", "delay"), DelaySettings, run_delay),
    Command(("run-demo", "failover"), FailoverSettings, run_failover),
    Command(("server",), ServerSettings, run_server),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words == ["--version"]:
            print(f"delayq {version('delayq')}")
            return OK
        command, flags = _command(words)
        if command is None:
            print(_usage())
            return OK
        settings = _settings(command, flags)
        logs.configure(settings.log_level, settings.log_format)
        return _run(command, settings, own_process=argv is None)
    except (UsageError, SettingsError) as error:
        return _failed(USAGE, str(error).removeprefix("error parsing CLI: "))
    except pydantic.ValidationError as error:
        return _failed(USAGE, *(said(problem) for problem in error.errors()))
    except (DelayqError, ExceptionGroup) as error:
        cause = alone(error)
        if isinstance(cause, InvalidFolder | InvalidMessage | InvalidName):
            return _failed(USAGE, str(cause))
        if isinstance(cause, ServerError):
            return _failed(SERVER, str(cause))
        raise
    except KeyboardInterrupt:
        return _failed(NOT_OK, "interrupted")
    except BrokenPipeError:
        # Whoever read us is gone: nothing can be said any more.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return NOT_OK


def _run(command: Command, settings: Settings, *, own_process: bool) -> int:
    status = anyio.run(command.act, settings)
    if own_process and command.act is run_app:
        _leave_threads_behind(status)
    return status


def _leave_threads_behind(status: int) -> None:
    """End though a handler runs in a thread that outlived its grace: Python would wait for it."""
    ends_at = mono_s() + LAST_RESORT_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0, ends_at - mono_s()))
            if thread.is_alive():
                leave(status)


def _command(words: list[str]) -> tuple[Command | None, list[str]]:
    if not words or words[0] in ("-h", "--help"):
        return None, []
    for command in COMMANDS:
        size = len(command.words)
        if tuple(words[:size]) == command.words:
            return command, words[size:]
    if words[-1] in ("-h", "--help"):
        return None, []
    known = ", ".join(" ".join(command.words) for command in COMMANDS)
    given = " ".join(word for word in words[:2] if not word.startswith("-")) or words[0]
    raise UsageError(f"{given}: no such command; there are: {known}")


def _settings(command: Command, flags: list[str]) -> Settings:
    every: list[type[Settings]] = [AppSettings, *(command.settings for command in COMMANDS)]
    known = {PREFIX + field for settings in every for field in _names(settings)}
    for name in sorted({*os.environ, *dotenv_values(ENV_FILE)}):
        if name.startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`python -m delayq --help` leads to them"
            source = "" if name in os.environ else f" (in the file {ENV_FILE})"
            raise UsageError(f"{name}{source}: no such setting; {hint}")
    settings: Settings = CliApp.run(command.settings, cli_args=flags)
    return settings


def _names(settings: type[Settings]) -> list[str]:
    return [name.upper() for name in settings.model_fields]


def _check_only(settings: DelaySettings | FailoverSettings) -> None:
    if settings.name and not settings.only:
        raise UsageError("--name: it names a role that runs alone: give --only too")
    if settings.only and not settings.redis_url:
        raise UsageError(
            "--only: the roles must share a Redis: set DELAYQ_REDIS_URL; "
            "`python -m delayq server` runs one and tells its URL"
        )


def _told(settings: DelaySettings | FailoverSettings, verdict: Verdict) -> int:
    print(verdict.as_json() if settings.json_verdict else verdict.as_text(), flush=True)
    return OK if verdict.ok else NOT_OK


def _failed(status: int, *lines: str) -> int:
    for line in lines:
        print(f"delayq: {line}", file=sys.stderr)
    return status


def _usage() -> str:
    rows = []
    for command in COMMANDS:
        summary = (command.settings.__doc__ or "").splitlines()[0]
        rows.append(f"  {' '.join(command.words):<20}{summary}")
    head = "usage: python -m delayq COMMAND [--help] [--FLAG …]"
    return "\n".join([head, "", *rows])
