"""From the words of a command line, and the environment, to the settings of a command."""

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from typing import get_args

from dotenv import dotenv_values
from pydantic_settings import CliApp, CliPositionalArg

from delayq.errors import UsageError
from delayq.settings import ENV_FILE, PREFIX, Settings, unreadable

_PLACED = get_args(CliPositionalArg[str])[1]
"""How pydantic-settings marks a field that has a place of its own."""


def read(kind: type[Settings], flags: Sequence[str], known: Iterable[type[Settings]]) -> Settings:
    """Read the settings of a command.

    :param known: all settings that there are: a variable that is none of theirs is a mistake
    :raises UsageError: if there is such a variable, or the file of settings is no text
    :raises SettingsError: if a flag is not understood
    :raises ValidationError: if a value is wrong
    """
    variables = {PREFIX + name.upper() for settings in known for name in _variables(settings)}
    try:
        _check_variables(variables)
        settings: Settings = CliApp.run(kind, cli_args=_quoted(kind, flags))
    except UnicodeDecodeError as error:
        raise UsageError(unreadable(error)) from None
    return settings


def positional(settings: type[Settings]) -> set[str]:
    """Return the fields of a command that stand at a place of their own, and are no variables."""
    fields = settings.model_fields.items()
    return {name for name, field in fields if _PLACED in field.metadata}


def _variables(settings: type[Settings]) -> list[str]:
    return [name for name in settings.model_fields if name not in positional(settings)]


def _check_variables(known: set[str]) -> None:
    for name in sorted({*os.environ, *dotenv_values(ENV_FILE)}):
        if name.startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`python -m delayq --help` leads to them"
            source = "" if name in os.environ else f" (in the file {ENV_FILE})"
            raise UsageError(f"{name}{source}: no such setting; {hint}")


def _quoted(kind: type[Settings], flags: Sequence[str]) -> list[str]:
    """Quote the values of flags that may be repeated: else a comma in one would part it."""
    fields = kind.model_fields.items()
    repeated = {f"--{name.replace('_', '-')}" for name, f in fields if f.annotation == list[str]}
    quoted: list[str] = []
    for before, flag in zip(["", *flags], flags, strict=False):
        name, is_set, value = flag.partition("=")
        if before in repeated:
            quoted.append(json.dumps(flag))
        elif name in repeated and is_set:
            quoted.append(f"{name}={json.dumps(value)}")
        else:
            quoted.append(flag)
    return quoted
