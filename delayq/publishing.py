"""The call of publish.lua: how messages are accepted, and for how long that is tried."""

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.durability import Durability, ask, lacking
from delayq.errors import BacklogFull, DelayqError, ServerUnreachable
from delayq.events import Event, Unreachable
from delayq.keys import LaneKeys
from delayq.outbox import Answer
from delayq.outgoing import Outgoing, Receipt

PROMOTE_LIMIT = 128
"""Messages moved by one script at most: a few ms of the server's time."""
DEDUP_WINDOW_MS = 60_000
"""How long a publish repeated with the same id is known to be one message."""


class Terms(NamedTuple):
    """On which terms messages are accepted."""

    now_ms: int | None
    """Instead of the server's time."""
    promote: int
    """Due messages to promote first; 0: none, and go past them; -1: none, and wait behind them."""
    dedup_window_ms: int
    max_backlog: int | None
    whole: bool
    """All of the messages or none."""
    durability: Durability = "memory"
    """What is waited for."""


async def publish(
    client: Redis,
    keys: LaneKeys,
    terms: Terms,
    messages: Sequence[Outgoing],
    call: str,
    *,
    within_s: float = 0.0,
) -> list[Answer]:
    """Publish messages by one script.

    :param call: an id of this call; made again with the same one, it adds nothing
    :param within_s: how long it may take until they are as durable as was asked
    :return: for each message its receipt, or why it was refused
    :raises ServerError: if the server did not answer, or refused
    """
    args = _arguments(terms, call, messages)
    if terms.durability == "memory":
        answer = await scripts.run(client, "publish", _touched(keys), args)
        return _answers(keys.queue, terms, messages, answer)
    asked = ask(terms.durability, within_s)
    answer, confirmed = await scripts.run_confirmed(
        client, "publish", _touched(keys), args, ask=asked, timeout_s=within_s
    )
    answers = _answers(keys.queue, terms, messages, answer)
    failure = lacking(terms.durability, confirmed)
    return answers if failure is None else [_failed(each, failure) for each in answers]


def _arguments(terms: Terms, call: str, messages: Sequence[Outgoing]) -> list[object]:
    """Return what publish.lua takes: the terms, and of each message id, head and fields."""
    limit = terms.max_backlog
    args: list[object] = [
        "" if terms.now_ms is None else terms.now_ms,
        call,
        terms.promote,
        DEDUP_WINDOW_MS,
        terms.dedup_window_ms,
        limit or 0,
        terms.whole + (0 if terms.durability == "memory" else 2),
    ]
    # Which of them a full queue had room for is known, if the call is made again, by their ids.
    told = "i" if limit else ""
    heads: dict[tuple[Any, ...], str] = {}  # most messages of a call have the same
    for message in messages:
        how = message[1:4]
        head = heads.get(how)
        if head is None:
            head = f"{message.when} {message.size} {message.told or told}"
            heads[how] = head
        args += (message.id, head, *message.fields)
    return args


def _answers(
    queue: str, terms: Terms, messages: Sequence[Outgoing], answer: Sequence[Any]
) -> list[Answer]:
    now, *others = answer
    now_ms, limit, durability = int(now), terms.max_backlog, terms.durability
    answers: list[Answer] = [Receipt(m.id, m.due_ms(now_ms), False, durability) for m in messages]  # noqa: FBT003
    for place, message_id, due_ms, status in zip(*[iter(others)] * 4, strict=True):
        answers[place - 1] = (
            BacklogFull(f"{queue}: the backlog is at its limit of {limit} messages")
            if status == 2
            else Receipt(message_id, int(due_ms), duplicate=True, durability=durability)
        )
    return answers


def _failed(answer: Answer, failure: DelayqError) -> DelayqError:
    """Return what became of one message of those that were not confirmed: an error of its own."""
    if isinstance(answer, DelayqError):
        return answer
    return type(failure)(f"{answer.id}: {failure}")  # the id, which a repeat needs


@lru_cache
def _touched(k: LaneKeys) -> tuple[str, ...]:
    return (k.stream, k.schedule, k.bodies, k.arrival, k.dead, k.bell, k.recent, k.dedup)


async def patiently(
    client: Redis | None, call: Callable[[], Awaitable[Any]], patience_s: float, role: str
) -> Any:
    """Make a call that is safe to repeat, again and again for `patience_s` while it is unanswered.

    :param client: what it goes through, if that may end it in time; else None

    :raises ServerUnreachable: if no answer came
    """
    until_s, said = mono_s() + patience_s, f"no answer within {patience_s} s"

    def heard(event: Event) -> None:
        nonlocal said
        if isinstance(event, Unreachable):
            said = event.error

    # The first try needs no timer where it ends in time by itself: that costs more than its answer.
    if patience_s <= 0 or getattr(client, "ends_calls_within_s", math.inf) <= patience_s:
        try:
            return await call()
        except ServerUnreachable as error:
            if patience_s <= 0:
                raise
            said = str(error)
    with anyio.move_on_after(until_s - mono_s()):
        return await outlast(call, role, heard)
    raise ServerUnreachable(said)
