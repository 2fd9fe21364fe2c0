"""Logs by structlog, to stderr; and the one place that turns an event into a line.

Lines bear ids and counts, never bodies, and never a URL with a password.
"""

import dataclasses
import logging
import re
import sys
from typing import Any

import structlog

from delayq.errors import named
from delayq.events import (
    Acked,
    CorrectionFailed,
    DeadLettered,
    Ended,
    Event,
    Halted,
    HandlersHang,
    LaneFailed,
    LeaseEnded,
    LoopBlocked,
    NameTaken,
    NewerFound,
    Observer,
    Promoted,
    Published,
    Refused,
    Retried,
    Stalled,
    Ticked,
    Unreachable,
)

_QUIET = (Acked, Published, Promoted, Ticked)
_LOUD = (
    Refused,
    LeaseEnded,
    Unreachable,
    LaneFailed,
    HandlersHang,
    CorrectionFailed,
    DeadLettered,
    Stalled,
    Halted,
    LoopBlocked,
    NameTaken,
    NewerFound,
)


def configure(level: str, form: str) -> None:
    """Write log lines of at least `level` to stderr, "human" or "json"."""
    human = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=14)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            human if form == "human" else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def log_event(event: Event) -> None:
    """Log an event: its name in words, its fields as they are."""
    level = logging.DEBUG if isinstance(event, _QUIET) else logging.INFO
    if _is_trouble(event):
        level = logging.WARNING
    structlog.get_logger().log(level, _words(event), **_fields(event))


def log_trouble(event: Event) -> None:
    """Warn of an event that tells of trouble, by the standard library's logger "delayq".

    What a role does that was given no observer: so that nothing goes wrong in silence.
    """
    if _is_trouble(event):
        _warn_plainly(_words(event), _fields(event))


def warn_at_once(event: Event) -> None:
    """Warn of an event from a thread: of a loop that is blocked nobody else can tell."""
    warn(_words(event), **_fields(event))


def _is_trouble(event: Event) -> bool:
    failed = isinstance(event, Retried) and bool(event.error)
    crashed = isinstance(event, Ended) and event.how == "crashed"
    return isinstance(event, _LOUD) or failed or crashed


def _words(event: Event) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()


def guarded(observe: Observer) -> Observer:
    """Return an observer that warns where `observe` fails: it must not end what it watches."""

    def observed(event: Event) -> None:
        try:
            observe(event)
        except Exception as error:  # noqa: BLE001 - it is the user's
            warn("observer failed", of=type(event).__name__, error=named(error))

    return observed


def warn(text: str, **fields: Any) -> None:
    """Warn: in a command by its log, in a user's program by the logger of `log_trouble`."""
    if structlog.is_configured():
        structlog.get_logger().warning(text, **fields)
    else:
        _warn_plainly(text, fields)


def tell(text: str, **fields: Any) -> None:
    """Log what a command has to say that is no event."""
    structlog.get_logger().info(text, **fields)


def _warn_plainly(text: str, fields: dict[str, Any]) -> None:
    told = " ".join(f"{name}={value!r}" for name, value in fields.items())
    logging.getLogger("delayq").warning("%s: %s" if told else "%s%s", text, told)


def _fields(event: Event) -> dict[str, Any]:
    pairs = ((f.name, getattr(event, f.name)) for f in dataclasses.fields(event))
    return {name: value for name, value in pairs if value not in ("", None)}
