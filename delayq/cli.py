"""The commands. Each is a settings model; here alone things are printed and exit statuses made.

Exit status: 0 ok, 1 it is not so (a verdict, or what was asked for is not there), 2 usage or
settings, 3 server unreachable or refusing.
"""

import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import anyio
import pydantic
from pydantic_settings import SettingsError

from delayq import logs
from delayq.arguments import positional, read
from delayq.bench.run import run as run_measurements
from delayq.bench.settings import BenchSettings
from delayq.clock import mono_s
from delayq.commands import settings as operators
from delayq.commands.change import (
    question,
    run_cancel,
    run_dead_purge,
    run_drop_group,
    run_publish,
    run_purge,
    run_redrive,
    run_reschedule,
)
from delayq.commands.diagnose import run_doctor
from delayq.commands.lanes import run_lanes
from delayq.commands.lead import run_handover, run_resume, run_who
from delayq.commands.look import run_dead_list, run_list, run_show, run_stats
from delayq.commands.run import run_app
from delayq.commands.table import Answer
from delayq.demos import delay, failover
from delayq.demos.report import Verdict
from delayq.embedded import embedded
from delayq.errors import (
    DelayqError,
    InvalidCursor,
    InvalidFolder,
    InvalidMessage,
    InvalidName,
    InvalidSettings,
    LanesDiffer,
    ServerError,
    UsageError,
    alone,
)
from delayq.settings import (
    AppSettings,
    DelaySettings,
    FailoverSettings,
    RunSettings,
    ServerSettings,
    Settings,
    said,
)
from delayq.supervisor import LAST_RESORT_S, leave, signalled
from delayq.terminal import agreed, whole_input
from delayq.verify.page import page
from delayq.verify.run import run as verify
from delayq.verify.settings import VerifySettings

OK, NOT_OK, USAGE, SERVER = 0, 1, 2, 3
_USAGE_ERRORS = (
    InvalidCursor,
    InvalidFolder,
    InvalidMessage,
    InvalidName,
    InvalidSettings,
    LanesDiffer,
)


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


async def run_bench(settings: BenchSettings) -> int:
    """Measure delayq beside the raw loops."""
    report = await run_measurements(settings)
    print(report.as_json() if settings.json_output else report.as_text(), flush=True)
    return OK


async def run_verify(settings: VerifySettings) -> int:
    """Break things, and check what happened."""
    outcome = await verify(settings)
    if settings.report is not None:
        settings.report.mkdir(parents=True, exist_ok=True)
        (settings.report / "report.html").write_text(page(outcome), "utf-8")
    print(outcome.as_json() if settings.json_verdict else outcome.as_text(), flush=True)
    return OK if outcome.ok else NOT_OK


async def _run_app(settings: RunSettings) -> int:
    await run_app(settings)
    return OK


def _answering(act: Callable[[Any], Awaitable[Answer]]) -> Callable[[Any], Awaitable[int]]:
    """Make a command of what gives an answer: it asks first where need be, and prints."""

    async def run(settings: operators.OperatorSettings) -> int:
        if isinstance(settings, operators.ConfirmedSettings) and (
            asked := await question(settings)
        ):
            if not sys.stdin.isatty():
                raise UsageError(f"{asked} There is no terminal to ask on: give --yes")
            if not agreed(asked):
                return _failed(NOT_OK, "nothing was done")
        answer = await act(settings)
        print(answer.as_json if settings.json_output else answer.text, flush=True)
        return OK if answer.ok else NOT_OK

    return run


async def _publish(settings: operators.PublishSettings) -> Answer:
    return await run_publish(settings, whole_input() if settings.body == "-" else settings.body)


COMMANDS = (
    Command(("run",), RunSettings, _run_app),
    Command(("run-demo", "delay"), DelaySettings, run_delay),
    Command(("run-demo", "failover"), FailoverSettings, run_failover),
    Command(("server",), ServerSettings, run_server),
    Command(("verify",), VerifySettings, run_verify),
    Command(("publish",), operators.PublishSettings, _answering(_publish)),
    Command(("stats",), operators.StatsSettings, _answering(run_stats)),
    Command(("list",), operators.ListSettings, _answering(run_list)),
    Command(("show",), operators.ShowSettings, _answering(run_show)),
    Command(("cancel",), operators.CancelSettings, _answering(run_cancel)),
    Command(("reschedule",), operators.RescheduleSettings, _answering(run_reschedule)),
    Command(("purge",), operators.PurgeSettings, _answering(run_purge)),
    Command(("dead", "list"), operators.DeadListSettings, _answering(run_dead_list)),
    Command(("dead", "redrive"), operators.RedriveSettings, _answering(run_redrive)),
    Command(("dead", "purge"), operators.DeadPurgeSettings, _answering(run_dead_purge)),
    Command(("who",), operators.WhoSettings, _answering(run_who)),
    Command(("handover",), operators.HandoverSettings, _answering(run_handover)),
    Command(("resume",), operators.ResumeSettings, _answering(run_resume)),
    Command(("lanes",), operators.LanesSettings, _answering(run_lanes)),
    Command(("drop-group",), operators.DropGroupSettings, _answering(run_drop_group)),
    Command(("doctor",), operators.DoctorSettings, _answering(run_doctor)),
    Command(("bench",), BenchSettings, run_bench),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    places: set[str] = set()
    try:
        if words == ["--version"]:
            print(f"delayq {version('delayq')}")
            return OK
        command, flags = _command(words)
        if command is None:
            print(_usage())
            return OK
        places = positional(command.settings)
        settings = read(command.settings, flags, [AppSettings, *(c.settings for c in COMMANDS)])
        logs.configure(settings.log_level, settings.log_format)
        return _run(command, settings, own_process=argv is None)
    except (UsageError, SettingsError) as error:
        return _failed(USAGE, str(error).removeprefix("error parsing CLI: "))
    except pydantic.ValidationError as error:
        return _failed(USAGE, *(said(problem, places) for problem in error.errors()))
    except (DelayqError, ExceptionGroup) as error:
        cause = alone(error)
        if isinstance(cause, _USAGE_ERRORS):
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
    faster = {"use_uvloop": find_spec("uvloop") is not None}
    status = anyio.run(command.act, settings, backend_options=faster)
    if own_process and command.act is _run_app:
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
    raise UsageError(_no_such(words))


def _no_such(words: list[str]) -> str:
    given = " ".join(word for word in words[:2] if not word.startswith("-")) or words[0]
    behind = [c.words[1] for c in COMMANDS if len(c.words) > 1 and c.words[0] == words[0]]
    if given == words[0] and behind:
        *others, last = behind
        return f"{given}: {', '.join(others)} or {last} is needed behind it"
    if behind:
        return f"{given}: no such command; {words[0]} has: {', '.join(behind)}"
    known = ", ".join(" ".join(command.words) for command in COMMANDS)
    return f"{given}: no such command; there are: {known}"


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
