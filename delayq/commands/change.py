"""The commands that change: publish, cancel, reschedule, purge, and those for dead letters."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from delayq.commands.look import no_group, opened, opened_queue, queue_of
from delayq.commands.settings import (
    CancelSettings,
    ConfirmedSettings,
    DeadPurgeSettings,
    DropGroupSettings,
    LetterSettings,
    PublishSettings,
    PurgeSettings,
    RedriveSettings,
    RescheduleSettings,
)
from delayq.commands.table import Answer, moment, printable
from delayq.dead import Redriven
from delayq.durability import Durability
from delayq.errors import GroupInUse, InvalidMessage, NotConfirmed
from delayq.queue import Queue
from delayq.transport.cluster import replicas


async def run_publish(settings: PublishSettings, text: str) -> Answer:
    """Publish one message, its body as JSON.

    :raises InvalidMessage: if the body is no JSON, or a part breaks a limit
    """
    if not text:
        raise InvalidMessage("body: none is given, and the standard input is empty")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"body: {error}: JSON is needed; quote a string twice") from None
    async with opened(settings) as client:
        queue = await queue_of(client, settings, settings.queue)
        async with _explained(queue, settings.durability):
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


@asynccontextmanager
async def _explained(queue: Queue, durability: Durability) -> AsyncIterator[None]:
    """Say of a publish that no replica confirmed that there is none, if the server tells so."""
    try:
        yield
    except NotConfirmed as error:
        if durability != "replicated" or await replicas(queue.client) != 0:
            raise
        raise NotConfirmed(f"{error}; the server has no replica") from error


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
    return Answer(said, asdict(done), ok=_met(settings, done.moved))


async def run_dead_purge(settings: DeadPurgeSettings) -> Answer:
    """Delete dead letters."""
    age_s = settings.older_than
    async with opened_queue(settings) as queue:
        count = await queue.dead.purge(
            ids=settings.ids or None,
            reason=settings.reason,
            older_than_ms=None if age_s is None else round(age_s * 1000),
        )
    return Answer(f"{count} deleted", {"deleted": count}, ok=_met(settings, count))


def _met(settings: LetterSettings, count: int) -> bool:
    """Tell whether there were letters, where some were named by their ids or their reason."""
    return count > 0 or not (settings.ids or settings.reason)


async def run_drop_group(settings: DropGroupSettings) -> Answer:
    """Take a group away."""
    name = f"{settings.queue}/{settings.group_name}"
    value = {"queue": settings.queue, "group": settings.group_name}
    async with opened_queue(settings) as queue:
        try:
            dropped = await queue.seen_by(settings.group_name).drop()
        except GroupInUse as error:
            return Answer(printable(str(error)), value | {"dropped": False}, ok=False)
        if not dropped:
            raise no_group("GROUP-NAME", queue, settings.group_name, await queue.groups())
    return Answer(f"{name} is dropped", value | {"dropped": True})


async def question(settings: ConfirmedSettings) -> str | None:
    """Return what is to be asked before it is done; None if nothing is.

    :raises UsageError: if the queue is not there, or it has no such group
    """
    if settings.yes:
        return None
    async with opened_queue(settings) as queue:
        if isinstance(settings, DropGroupSettings):
            group = queue.seen_by(settings.group_name)
            return _question(settings) if await group.is_there() else None
    return _question(settings)


def _question(settings: ConfirmedSettings) -> str | None:
    match settings:
        case RedriveSettings():
            if not settings.ids and settings.reason is None:
                return f"Send all dead letters of {settings.full_name} again?"
        case PurgeSettings():
            return f"Delete all {settings.state} messages of {settings.full_name}?"
        case DropGroupSettings():
            what = f"the group {settings.group_name} of {settings.queue}"
            return f"Drop {what}, with its retries and dead letters?"
        case LetterSettings():
            which = "" if settings.reason is None else f" whose reason is {settings.reason}"
            return f"Delete dead letters of {settings.full_name}{which}?"
    return None
