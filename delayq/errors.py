"""delayq's errors, one sentence each; and how an error is put into words."""

from collections.abc import Iterator
from contextlib import contextmanager


class DelayqError(Exception):
    """Base of all errors of delayq."""


class InvalidMessage(DelayqError, ValueError):
    """Raised when a message, or one of its options, breaks a limit; nothing was written."""


class InvalidSettings(DelayqError, ValueError):
    """Raised when a setting is wrong; each is named with its variable."""


class UsageError(DelayqError):
    """Raised when a command was called in a way that cannot work."""


class InvalidName(DelayqError, ValueError):
    """Raised when a namespace, queue, group or consumer name cannot stand in a key."""


class LanesDiffer(DelayqError, ValueError):
    """Raised when a queue is declared with another number of lanes than others use it with."""


class GroupInUse(DelayqError):
    """Raised when a group is to be taken away, and consumers of it may still run."""


class InvalidFolder(DelayqError, ValueError):
    """Raised when the embedded server cannot keep its messages in the folder it was told."""


class InvalidCursor(DelayqError, ValueError):
    """Raised when a list is to go on after something that is no cursor of it."""


class MalformedEntry(DelayqError):
    """Raised when a stream entry or a scheduled body is not a message."""


class NewerFormat(MalformedEntry):
    """Raised when an entry was written by a newer delayq than this one."""


class BacklogFull(DelayqError):
    """Raised when a publish would bring the queue's backlog over its limit; nothing was written."""


class NotOpen(DelayqError):
    """Raised when an app is used outside `async with app`, or opened twice."""


class LeaseLost(DelayqError):
    """Raised when a call needs a lease that its caller does not hold any more; nothing changed."""


class ServerError(DelayqError):
    """Base of the errors that the server, or the way to it, is the cause of."""


class ServerUnreachable(ServerError):
    """Raised when no answer came: server away, restarting, loading, or the network cut.

    Whether the call was carried out is not known; every transition is safe to repeat.
    """


class ServerReadOnly(ServerUnreachable):
    """Raised when a replica was reached; it may yet be promoted, so this is worth repeating."""


class ServerRefused(ServerError):
    """Raised when the server will not take us: wrong password, a missing permission, no TLS."""


class ServerTooOld(ServerError):
    """Raised when the server is older than Redis 6.2."""


class ServerOutOfMemory(ServerError):
    """Raised when the server is at `maxmemory` and refused a publish; nothing was written."""


class NotConfirmed(ServerError):
    """Raised when what was published was not confirmed to be as durable as was asked, in time.

    It may be there, and stay; a repeat with the same id adds none, and waits again.
    """


class CannotConfirm(ServerError):
    """Raised when a server cannot confirm what was asked for: too old, or not append-only.

    What was published is there, as in memory as its queue's other messages.
    """


class ServerMissing(ServerError):
    """Raised when no URL is set, and there is no server program to embed, or none may be."""


class ScriptFailed(ServerError):
    """Raised when a script met what it cannot work on, such as a key of the wrong type."""


class GroupMissing(ScriptFailed):
    """Raised when the stream or its consumer group is gone; creating it again mends that."""


def alone(error: BaseException) -> BaseException:
    """Return what a group of errors holds, if that is one error; else the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def text_of(error: BaseException) -> str:
    """Return what an error says; of one that a user wrote that may fail, or be no text."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001 - the message of a message's error is worth no crash
        return "it cannot be said"


def named(error: BaseException) -> str:
    """Return an error's class and what it says, as a traceback's last line does."""
    return f"{type(error).__name__}: {text_of(error)}"


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let out what `alone` finds in a group: whoever calls need not know that tasks are inside."""
    try:
        yield
    except ExceptionGroup as errors:
        raise alone(errors) from None
