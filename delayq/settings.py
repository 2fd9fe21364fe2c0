"""Settings: each a flag of the command line and a variable `DELAYQ_…` of the same name.

What is given as a flag comes first, then the environment, then a file `.env` in the working
folder. Names end in their unit. Nothing that is wrong is silently replaced.
"""

import os
import re
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliPositionalArg, SettingsConfigDict

from delayq.connection import Server
from delayq.errors import InvalidSettings
from delayq.keys import checked_name

PREFIX = "DELAYQ_"
ENV_FILE = ".env"
_HOST_CHARS = 64


S = TypeVar("S", bound="Settings")


def checked(value: str | None) -> str | None:
    """Return a name, if it can stand in a key.

    :raises ValueError: if it cannot
    """
    return value if value is None else checked_name("name", value)


def checked_url(value: str | None) -> str | None:
    """Return a URL, if it can be understood.

    :raises ValueError: if it cannot
    """
    return Server(value).url if value else None


def own_name() -> str:
    """Return a name for this process: its host and process id.

    One longer than Linux allows counts from its end, where those of replicas differ.
    """
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[-_HOST_CHARS:]
    return f"{host}-{os.getpid()}"


class Settings(BaseSettings):
    """What every command needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_show_env_vars=True,
        cli_exit_on_error=False,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged"
    )
    log_format: Literal["human", "json"] = Field("human", description="How log lines are written")


class ServerSettings(Settings):
    """Run the embedded server in the foreground, and print the DELAYQ_REDIS_URL to use."""

    model_config = SettingsConfigDict(cli_prog_name="python -m delayq server")

    data: Path | None = Field(
        None, description="Folder to keep messages in, append-only; none: in memory alone"
    )
    appendfsync: Literal["always", "everysec", "no"] = Field(
        "everysec", description="With --data: when the append-only file is flushed to disk"
    )


class DemoSettings(Settings):
    """What both demos need."""

    model_config = SettingsConfigDict(cli_shortcuts={"json-verdict": "json"})

    redis_url: str | None = Field(
        None, description="Server, as redis://, rediss:// or unix://; none: an embedded one"
    )
    namespace: str = Field("delayq", description="First part of every key")
    seed: int = Field(1, description="Seed of everything that is random")
    name: str | None = Field(
        None, description="With --only: name of this role; none: role, host and process id"
    )
    plain: bool = Field(False, description="Log lines instead of the live view")
    json_verdict: bool = Field(False, description="Verdict as one JSON object, the last line")

    _checked_name = field_validator("namespace", "name")(checked)
    _checked_url = field_validator("redis_url")(checked_url)


class AppSettings(Settings):
    """What an app needs."""

    redis_url: str | None = Field(
        None,
        description="Server: redis[s]://, unix://, redis[s]+cluster:// or redis[s]+sentinel://",
    )
    namespace: str = Field("delayq", description="First part of every key")
    name: str | None = Field(None, description="Name of this process; none: host and process id")
    lease_ttl_ms: int = Field(10_000, ge=300, le=600_000, description="Life of a lease, ms")
    grace_ms: int = Field(
        10_000, ge=0, le=3_600_000, description="Time that handlers get to end at a stop, ms"
    )

    _checked_name = field_validator("namespace", "name")(checked)
    _checked_url = field_validator("redis_url")(checked_url)


def load(kind: type[S], **given: Any) -> S:
    """Read settings from the environment and `.env`, but for those that are given.

    :raises InvalidSettings: if one is wrong
    """
    try:
        return kind(**given)
    except ValidationError as error:
        told = [said(problem, flags=False) for problem in error.errors()]
        raise InvalidSettings("; ".join(told)) from None
    except UnicodeDecodeError as error:
        raise InvalidSettings(unreadable(error)) from None


def unreadable(error: UnicodeDecodeError) -> str:
    """Say that the file of settings cannot be read."""
    return f"{ENV_FILE}: it is not written in UTF-8: {error}"


def said(problem: Any, places: Collection[str] = (), *, flags: bool = True) -> str:
    """Say what is wrong with which setting, or with which argument that is told by its place."""
    field = ".".join(str(part) for part in problem["loc"])
    flag = f"--{field.replace('_', '-')}, " if flags else ""
    named = f"{flag}{PREFIX}{field.upper()}"
    if field in places:
        named = field.replace("_", "-").upper()
    text = problem["msg"].removeprefix("Value error, ")
    shown = "" if field == "redis_url" else f" (got {problem['input']!r})"
    return f"{named}: {text}{shown}"


class RunSettings(Settings):
    """Run an app: the consumers and pollers of its queues that have a handler."""

    model_config = SettingsConfigDict(cli_prog_name="python -m delayq run")

    target: CliPositionalArg[str] = Field(description="The app, as module:name")


class DelaySettings(DemoSettings):
    """Show the delay queue: corrupted messages are delayed, corrected when due, and handled."""

    model_config = SettingsConfigDict(cli_prog_name="python -m delayq run-demo delay")

    only: Literal["producer", "consumer", "poller"] | None = Field(
        None, description="Run one role alone, against the Redis of DELAYQ_REDIS_URL"
    )
    messages: int = Field(80, ge=1, le=1_000_000, description="Messages to publish")
    interval_ms: int = Field(80, ge=0, le=60_000, description="Time between messages, ms")
    corrupted_share: float = Field(0.5, ge=0, le=1, description="Part that is corrupted, 0 to 1")
    delay_ms: int = Field(1_000, ge=0, le=86_400_000, description="Delay of the corrupted, ms")
    pollers: int = Field(1, ge=1, le=16, description="Delay pollers, side by side")


class FailoverSettings(DemoSettings):
    """Show ordered failover: the active consumer is killed, stalled and stopped in turn."""

    model_config = SettingsConfigDict(cli_prog_name="python -m delayq run-demo failover")

    only: Literal["producer", "consumer"] | None = Field(
        None, description="Run one role alone, against the Redis of DELAYQ_REDIS_URL"
    )
    messages: int = Field(120, ge=1, le=1_000_000, description="Messages to publish")
    interval_ms: int = Field(50, ge=0, le=60_000, description="Time between messages, ms")
    handle_ms: int = Field(60, ge=0, le=60_000, description="Time that handling one takes, ms")
    lease_ttl_ms: int = Field(2_000, ge=300, le=600_000, description="Life of a lease, ms")
    kills: int = Field(
        3, ge=0, le=100, description="How often the active one is ended: kill, stall, stop in turn"
    )
    no_ack: bool = Field(False, description="Acknowledge nothing: each next one starts anew")
