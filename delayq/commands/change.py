"""The commands that change: publish, cancel, reschedule, purge, and those for dead letters."""

import json
from dataclasses import asdict
from typing import Any

import anyio

from delayq.commands.look import opened_queue
from delayq.commands.settings import (
    CancelSettings,
    ConfirmedSettings,
    DeadPurgeSettings,
    LetterSettings,
    PublishSettings,
    PurgeSettings,
    RedriveSettings,
    RescheduleSettings,
)
from delayq.commands.table import Answer, moment, printable
from delayq.dead import Redriven
from delayq.errors import InvalidMessage


async def run_publish(settings: PublishSettings, stdin: Any) -> Answer:
    """Publish one message, its body perhaps from `stdin`.

    :raises InvalidMessage: if the body is no JSON, or a part breaks a limit
    """
    text = settings.body
    if text == "-":
        text = (await anyio.to_thread.run_sync(stdin.buffer.read)).decode(errors="surrogateescape")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"body: {error}: JSON is needed; quote a string twice") from None
    async with opened_queue(settings) as queue:
        receipt = await queue.publish(
            body,
            durability=settings.durability,
            delay=settings.delay,
            deliver_at=settings.deliver_at,
            key=settings.key,
            id=settings.id,
            dedup_id=settings.dedup_id,
            headers=settings.headers,
        )
    was = "was there already" if receipt.duplicate else "accepted"
    held = "" if receipt.durability == "memory" else f", {receipt.durability}"
    said = f"{printable(receipt.id)} {was}{held}, due {moment(receipt.due_ms)}"
    return Answer(said, receipt._asdict())


async def run_cancel(settings: CancelSettings) -> Answer:
    """Take a message off the schedule."""
    async with opened_queue(settings) as queue:
        done = await queue.cancel(settings.message_id, key=settings.key)
    return _done(settings.message_id, "cancelled", done=done)


async def run_reschedule(settings: RescheduleSettings) -> Answer:
    """Give a scheduled message another due time.

    :raises InvalidMessage: if no time is given, or both
    """
    if settings.delay is None and settings.deliver_at is None:
        raise InvalidMessage("--delay, --deliver-at: give one of them; --delay 0 is now")
    async with opened_queue(settings) as queue:
        done = await queue.reschedule(
            settings.message_id,
            delay=settings.delay,
            deliver_at=settings.deliver_at,
            key=settings.key,
        )
    return _done(settings.message_id, "rescheduled", done=done)


def _done(message_id: str, what: str, *, done: bool) -> Answer:
    said = what if done else "is not scheduled, or not any more"
    return Answer(f"{printable(message_id)} {said}", {"id": message_id, what: done}, done)


async def run_purge(settings: PurgeSettings) -> Answer:
    """Delete all messages of a state."""
    async with opened_queue(settings) as queue:
        count = await queue.purge(settings.state)
    return Answer(f"{count} deleted", {"deleted": count})


async def run_redrive(settings: RedriveSettings) -> Answer:
    """Send dead letters again."""
    pages = [Redriven()]
    async with opened_queue(settings) as queue:
        await queue.dead.redrive(
            ids=settings.ids or None,
            reason=settings.reason,
            rate=settings.rate,
            on_page=pages.append,
        )
    done = pages[-1]
    rest = f"; {done.not_redrivable} hold no message and stay" if done.not_redrivable else ""
    said = f"{done.moved} sent again, behind what is ready now and later ones of their key{rest}"
    return Answer(said, asdict(done))


async def run_dead_purge(settings: DeadPurgeSettings) -> Answer:
    """Delete dead letters."""
    age_s = settings.older_than
    async with opened_queue(settings) as queue:
        count = await queue.dead.purge(
            ids=settings.ids or None,
            reason=settings.reason,
            older_than_ms=None if age_s is None else round(age_s * 1000),
        )
    return Answer(f"{count} deleted", {"deleted": count})


def question(settings: ConfirmedSettings) -> str | None:
    """Return what is to be asked before it is done; None if nothing is."""
    match settings:
        case _ if settings.yes:
            return None
        case RedriveSettings() if not settings.ids and settings.reason is None:
            return f"Send all dead letters of {settings.queue} again?"
        case RedriveSettings():
            return None
        case PurgeSettings():
            return f"Delete all {settings.state} messages of {settings.queue}?"
        case LetterSettings():
            return f"Delete dead letters of {settings.queue}?"
    return None
