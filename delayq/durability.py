"""Durability: what a publish waits for, how a server is asked for that, and what it answers."""

from typing import Any, Literal, get_args

from delayq.errors import CannotConfirm, DelayqError, InvalidMessage, NotConfirmed, ServerRefused

Durability = Literal["memory", "replicated", "fsynced"]
"""In the primary's memory; in that of a replica, too; or in the primary's file, flushed to disk.

That it is flushed is what the server says: with `appendfsync everysec` some say it too early.
"""

_KNOWN: tuple[Durability, ...] = get_args(Durability)
_ASK: dict[Durability, tuple[object, ...]] = {
    "replicated": ("WAIT", 1),
    "fsynced": ("WAITAOF", 1, 0),
}
_TICK_S = 0.2
"""A wait at the server ends with the server's next tick, some 0.1 s late: so it is told this much
less."""
LEAST_S = 0.25
"""With less time left it is not worth asking whether what was written is confirmed."""


def chosen(given: Durability | None, default: Durability) -> Durability:
    """Return the durability that is asked for.

    :raises InvalidMessage: if there is no such one
    """
    if given is None:
        return default
    if given not in _KNOWN:
        raise InvalidMessage(f"durability: one of {', '.join(_KNOWN)} (got {given!r})")
    return given


def ask(durability: Durability, within_s: float) -> tuple[object, ...]:
    """Return the command that blocks until what its connection wrote is confirmed.

    :param within_s: how long that may take
    """
    return (*_ASK[durability], max(1, round((within_s - _TICK_S) * 1000)))


def lacking(durability: Durability, answer: Any) -> DelayqError | None:
    """Return what is wrong if `answer` to that command confirms nothing."""
    if isinstance(answer, Exception):
        return _refused(durability, str(answer))
    confirmed = answer if durability == "replicated" else answer[0]
    if confirmed:
        return None
    return NotConfirmed(
        f"not {durability} in time; it may be there all the same, "
        "and a repeat with the same id is safe, and waits again"
    )


def _refused(durability: Durability, said: str) -> DelayqError:
    cause: dict[str, tuple[type[DelayqError], str]] = {
        "unknown command": (CannotConfirm, "the server has no WAITAOF: Redis 7.2 or Valkey has"),
        "appendonly": (CannotConfirm, "appendonly is off at the server: set appendonly yes"),
        "permission": (ServerRefused, said),
    }
    kind, why = next((cause[word] for word in cause if word in said), (CannotConfirm, said))
    return kind(f"durability {durability}: {why}; what was published is there, in memory")
