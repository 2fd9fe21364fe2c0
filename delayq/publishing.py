"""The call of publish.lua: how messages are accepted, and for how long that is tried."""

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.caller import Call
from delayq.clock import as_argument, mono_s
from delayq.connection import outlast
from delayq.durability import Durability, ask, lacking
from delayq.errors import BacklogFull, DelayqError, ServerUnreachable
from delayq.events import Event, Unreachable
from delayq.keys import LaneKeys
from delayq.outbox import Answer
from delayq.outgoing import Outgoing, Receipt, due_ms

PROMOTE_LIMIT = 64
"""Messages moved by one script at most: about a ms of the server's time, among a million."""
ID_WINDOW_MS = 60_000
"""How long a publish repeated with the same id is known to be one message."""


_SLACK_S = 0.1
"""By how much later than its patience is over a try may end."""


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
    call: Call,
    *,
    until_s: float = 0.0,
) -> list[Answer]:
    """Publish messages by one script.

    :param call: which of its caller's; made again with the same one, it adds nothing
    :param until_s: when they are to be as durable as was asked, in monotonic seconds
    :return: for each message its receipt, or why it was refused
    :raises ServerError: if the server did not answer, or refused
    """
    if len(messages) == 1 and _may_be_simple(terms, messages[0], call):
        now_ms = await _publish_one(client, keys, messages[0], call)
        if now_ms is not None:
            return [Receipt(messages[0].id, now_ms, duplicate=False)]
    answer, failure = await _publish(client, keys, terms, messages, call, until_s=until_s)
    if not answer:
        call.renew()
        answer, failure = await _publish(client, keys, terms, messages, call, until_s=until_s)
    answers = _answers(keys.queue, terms, messages, answer)
    return answers if failure is None else [_failed(each, failure) for each in answers]


def _may_be_simple(terms: Terms, message: Outgoing, call: Call) -> bool:
    """Tell whether publish_one.lua may do, as far as is known here.

    Not where others promote what is due: until they have, it would not, call after call.
    """
    plain = terms.now_ms is None and terms.max_backlog is None and terms.durability == "memory"
    simple = plain and terms.promote > 0
    return simple and not message.told and not message.delayed and call.number > 1


def _publish_one(
    client: Redis, keys: LaneKeys, message: Outgoing, call: Call
) -> Awaitable[int | None]:
    fields = message.fields
    named = ("body", fields) if isinstance(fields, str) else fields
    args = (call.caller, call.number, ID_WINDOW_MS, message.id, *named)
    return scripts.run(client, "publish_one", keys.publishing_one, args)


async def _publish(
    client: Redis,
    keys: LaneKeys,
    terms: Terms,
    messages: Sequence[Outgoing],
    call: Call,
    *,
    until_s: float,
) -> tuple[Sequence[Any], DelayqError | None]:
    """Return what publish.lua answers, and what it lacks in durability."""
    args = _arguments(terms, call, messages)
    if terms.durability == "memory":
        return await scripts.run(client, "publish", keys.publishing, args), None
    within_s = until_s - mono_s()
    asked = ask(terms.durability, within_s)
    answer, confirmed = await scripts.run_confirmed(
        client, "publish", keys.publishing, args, ask=asked, timeout_s=within_s
    )
    return answer, lacking(terms.durability, confirmed)


def _arguments(terms: Terms, call: Call, messages: Sequence[Outgoing]) -> list[object]:
    """Return what publish.lua takes: the terms, and of each message id, head and fields."""
    limit = terms.max_backlog
    args: list[object] = [
        as_argument(terms.now_ms),
        call.caller,
        call.number,
        terms.promote,
        ID_WINDOW_MS,
        terms.dedup_window_ms,
        limit or 0,
        terms.whole + (0 if terms.durability == "memory" else 2),
    ]
    # Which of them a full queue had room for is known, if the call is made again, by their ids.
    told = "i" if limit else ""
    for message_id, known_by, when, size, fields, _ in messages:
        head = _head(when, size, known_by or told)
        if isinstance(fields, str):
            args += (message_id, head, fields)
        else:
            args += (message_id, head, *fields)
    return args


@lru_cache(maxsize=1_024)  # most messages have that of others
def _head(when: str, size: int, told: str) -> str:
    return f"{when} {size} {told}"


def _answers(
    queue: str, terms: Terms, messages: Sequence[Outgoing], answer: Sequence[Any]
) -> list[Answer]:
    now_ms, limit, durability = int(answer[0]), terms.max_backlog, terms.durability
    due = {when: due_ms(when, now_ms) for when in {message.when for message in messages}}
    answers: list[Answer] = [
        Receipt(message_id, due[when], False, durability)  # noqa: FBT003
        for message_id, _, when, _, _, _ in messages
    ]
    for at in range(1, len(answer), 4):
        place, message_id, known_ms, status = answer[at : at + 4]
        answers[place - 1] = (
            BacklogFull(f"{queue}: the backlog is at its limit of {limit} messages")
            if status == 2
            else Receipt(message_id, int(known_ms), duplicate=True, durability=durability)
        )
    return answers


def _failed(answer: Answer, failure: DelayqError) -> DelayqError:
    """Return what became of one message of those that were not confirmed: an error of its own."""
    if isinstance(answer, DelayqError):
        return answer
    return type(failure)(f"{answer.id}: {failure}")  # the id, which a repeat needs


async def patiently(
    client: Redis | None, call: Callable[[], Awaitable[Any]], until_s: float, role: str
) -> Any:
    """Make a call that is safe to repeat, again and again while it is unanswered.

    :param client: what it goes through, if that may end it in time; else None
    :param until_s: how long, in monotonic seconds; it is made once, if that is now
    :raises ServerUnreachable: if no answer came
    """
    left_s, said = until_s - mono_s(), "no answer in time"
    # The first try needs no timer where it ends in time by itself: that costs more than its answer.
    if left_s <= 0 or getattr(client, "ends_calls_within_s", math.inf) <= left_s + _SLACK_S:
        try:
            return await call()
        except ServerUnreachable as error:
            if left_s <= 0:
                raise
            said = str(error)
    return await _until(until_s, call, role, said)


async def _until(until_s: float, call: Callable[[], Awaitable[Any]], role: str, said: str) -> Any:
    """Make a call until then; `said` is what it met before."""

    def heard(event: Event) -> None:
        nonlocal said
        if isinstance(event, Unreachable):
            said = event.error

    with anyio.move_on_after(until_s - mono_s()):
        return await outlast(call, role, heard)
    raise ServerUnreachable(said)
