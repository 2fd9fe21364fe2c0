"""Runs the scripts in `lua/`, and turns what the server refuses into our errors: the one place.

Each file is one transition; its header tells keys, arguments, answer and cost. A script is sent by
its hash, and whole only where the server does not know it (`SCRIPT FLUSH`, restart, failover).
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from delayq.errors import (
    DelayqError,
    GroupMissing,
    LeaseLost,
    ScriptFailed,
    ServerOutOfMemory,
    ServerReadOnly,
    ServerRefused,
    ServerUnreachable,
)
from delayq.exchange import exchange

PRELUDE = ("call", "known", "entry", "groups", "schedule", "parking", "settling")
"""Files of what scripts share; each uses what stands before it, and in those before it."""
_DEFINED = re.compile(r"^local (?:function )?(\w+)", re.M)
_COMMENT = re.compile(r"--.*")
_WORD = re.compile(r"\w+")
_SAID_CHARS = 500


def _load() -> dict[str, str]:
    files = resources.files("delayq") / "lua"
    shared = [(files / "prelude" / f"{name}.lua").read_text("utf-8") for name in PRELUDE]
    parts = [part.rstrip("\n") for text in shared for part in text.split("\n\n")]
    texts = {
        f.name.removesuffix(".lua"): f.read_text("utf-8") for f in files.iterdir() if f.is_file()
    }
    return {name: composed(parts, text) for name, text in texts.items()}


def composed(parts: Sequence[str], text: str) -> str:
    """Put before a script what it uses of the prelude, and no more: each call makes it anew.

    :param parts: of the prelude, each defining one name; they use what stands before them
    """
    used, words = list[str](), _words(text)
    for part in reversed(parts):
        defined = _DEFINED.search(part)
        if defined and defined[1] in words:
            used.insert(0, f"{part}\n\n")
            words |= _words(part)
    return "".join([*used, text])


def _words(text: str) -> set[str]:
    return set(_WORD.findall(_COMMENT.sub("", text)))


def _hashes(sources: dict[str, str]) -> dict[str, str]:
    """Return by what EVALSHA names each script."""
    return {name: hashlib.sha1(text.encode()).hexdigest() for name, text in sources.items()}  # noqa: S324 - it says so


_SOURCES = _load()
_HASHES = _hashes(_SOURCES)

Keys = Sequence[str]
Around = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Given a script's name and its call, makes the call, and what is to be done before and after."""

_KINDS: dict[type[Exception], type[DelayqError]] = {
    redis_errors.AuthenticationError: ServerRefused,
    redis_errors.AuthorizationError: ServerRefused,
    redis_errors.NoPermissionError: ServerRefused,
    redis_errors.OutOfMemoryError: ServerOutOfMemory,
    redis_errors.ReadOnlyError: ServerReadOnly,
    redis_errors.ClusterDownError: ServerUnreachable,  # or a primary of it is
    redis_errors.TryAgainError: ServerUnreachable,
}
THEIRS = (redis_errors.RedisError, redis_errors.RedisClusterException, OSError)
"""What redis-py raises."""
# What redis-py has no class for keeps its first word, in a script before Redis 7 further inside.
_WORDS = re.compile(
    r"\b(LEASELOST|NOGROUP|no such key|WRONGKEY|OOM|READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN"
    r"|TRYAGAIN|NOPERM|ACL failure|The user executing the script|NOAUTH|WRONGPASS|MISCONF"
    r"|NOREPLICAS|UNBLOCKED|non local key|same key slot|Cluster mode is not enabled)\b"
)
_PASSING = (
    *("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS"),
    "UNBLOCKED",  # a primary became a replica
    "non local key",  # its slot moves, and a key was deleted by the script that asks for it
)
_ERRORS: dict[str, type[DelayqError]] = {
    "LEASELOST": LeaseLost,
    "NOGROUP": GroupMissing,
    "no such key": GroupMissing,
    "OOM": ServerOutOfMemory,
    "READONLY": ServerReadOnly,
    "NOPERM": ServerRefused,
    "ACL failure": ServerRefused,
    "The user executing the script": ServerRefused,
    "NOAUTH": ServerRefused,
    "WRONGPASS": ServerRefused,
    "Cluster mode is not enabled": ServerRefused,
    "same key slot": ScriptFailed,
} | dict.fromkeys(_PASSING, ServerUnreachable)


class _Seams:
    """Where `delayq.verify` gets between; empty in every other process."""

    keys: Callable[[Keys], Keys] | None = None
    around: Around | None = None


def rewrite(text: Callable[[str, str], str], keys: Callable[[Keys], Keys]) -> None:
    """Have this process run other texts, with other keys, from now on.

    :param text: given a script's name and text, returns the text to run
    :param keys: given the keys of a call, returns those to call with
    """
    _SOURCES.update({name: text(name, source) for name, source in _SOURCES.items()})
    _HASHES.update(_hashes(_SOURCES))
    _Seams.keys = keys


def interpose(around: Around | None) -> None:
    """Have `around` make every call of a script by this process, but those of `run_blocking`.

    :param around: None for nobody
    """
    _Seams.around = around


def run(client: Redis, name: str, keys: Keys, args: Sequence[object]) -> Awaitable[Any]:
    """Run one script, when it is awaited, and return its answer.

    :raises LeaseLost: if the script is fenced and its epoch is not the current one
    :raises ServerUnreachable: if no answer came; the script may have been carried out
    :raises ServerError: if the server refused it for another cause
    """
    send = client.execute_command
    if _Seams.around is not None:
        return _Seams.around(name, lambda: _run(send, name, keys, args))
    return _run(send, name, keys, args)


async def run_confirmed(
    client: Redis,
    name: str,
    keys: Keys,
    args: Sequence[object],
    *,
    ask: Sequence[object],
    timeout_s: float,
) -> tuple[Any, Any]:
    """Run one script, and ask on its connection whether what was written is confirmed.

    :param ask: a command that blocks until it is, for `timeout_s` at most
    :return: the script's answer, and the command's: an error, if it was refused
    :raises DelayqError: as `run` does
    """

    def send(*words: object) -> Awaitable[Any]:
        return exchange(client, keys[0], words, ask, timeout_s)

    if _Seams.around is not None:
        both: tuple[Any, Any] = await _Seams.around(name, lambda: _run(send, name, keys, args))
    else:
        both = await _run(send, name, keys, args)
    return both


async def _run(send: Any, name: str, keys: Keys, args: Sequence[object]) -> Any:
    rest = _rest(keys, args)
    try:
        try:
            return await send("EVALSHA", _HASHES[name], *rest)
        except redis_errors.NoScriptError:
            return await send("EVAL", _SOURCES[name], *rest)
    except THEIRS as error:
        raise translated(error) from error


def _rest(keys: Keys, args: Sequence[object]) -> tuple[object, ...]:
    if _Seams.keys is not None:
        keys = _Seams.keys(keys)
    return (len(keys), *keys, *args)


def run_blocking(client: Any, name: str, keys: Keys, args: Sequence[object]) -> Any:
    """Run one script as `run` does, by a client that is not async, in a thread that may wait.

    :raises DelayqError: as `run` does
    """
    rest = _rest(keys, args)
    try:
        try:
            return client.execute_command("EVALSHA", _HASHES[name], *rest)
        except redis_errors.NoScriptError:
            return client.execute_command("EVAL", _SOURCES[name], *rest)
    except THEIRS as error:
        raise translated(error) from error


async def command(client: Redis, *words: object, **parsing: bool) -> Any:
    """Run one command that may be repeated: it reads, or changes nothing the second time.

    :param parsing: options for the parsers of redis-py

    :raises ServerUnreachable: if no answer came
    :raises ServerError: if the server refused it
    """
    execute: Any = client.execute_command
    try:
        return await execute(*words, **parsing)
    except THEIRS as error:
        raise translated(error) from error


async def wire(client: Any) -> Any:
    """Return the connection that a client's calls go over, made if there is none.

    :raises ServerUnreachable: if it cannot be made
    :raises ServerError: if the server refused it
    """
    try:
        return await client.wire()
    except THEIRS as error:
        raise translated(error) from error


def translated(error: Exception) -> DelayqError:
    """Return the error of ours that says what `error` of redis-py means."""
    text = str(error)[:_SAID_CHARS] or type(error).__name__
    if isinstance(error, redis_errors.AskError):  # which a client of a Cluster follows
        return ServerRefused(f"this is a node of a Cluster: give a redis+cluster:// URL ({text})")
    for theirs, ours in _KINDS.items():
        # What fails while a connection is made comes wrapped.
        if isinstance(error, theirs) or isinstance(error.__cause__, theirs):
            return ours(text)
    if word := _WORDS.search(text):
        return _ERRORS.get(word.group(), ScriptFailed)(text)
    if isinstance(error, redis_errors.ResponseError):
        return ScriptFailed(text)
    return ServerUnreachable(text)
