"""The delay queue, shown.

A producer writes messages, some of them corrupted. A consumer handles the good ones, and sends the
corrupted ones, with a delay, to the schedule. A poller takes what is due, corrects it, and puts it
back on the stream.
"""

import random
import zlib
from collections.abc import Iterator
from typing import Any

import anyio

from delayq.consumer import Consumer
from delayq.demos.report import Verdict
from delayq.demos.stage import Say, Stage, role_name, stage, told_of_any
from delayq.distribution import histogram
from delayq.events import Acked, Corrected, DeadLettered, Event, Published, Retried
from delayq.handling import Context
from delayq.message import Message
from delayq.poller import Poller
from delayq.producer import Producer
from delayq.retry import RetryLater
from delayq.settings import DelaySettings
from delayq.supervisor import Role, Supervisor

_QUIET_S = 15.0
"""With nothing handled for so long, and no delay running, the demo gives up waiting."""
_LATENESS = "lateness: how long after its due time each delayed message was handled"


def bodies(settings: DelaySettings) -> Iterator[dict[str, Any]]:
    """Yield the messages: a text and its checksum, which does not fit where it is corrupted."""
    dice = random.Random(settings.seed)  # noqa: S311 - a demo that can be repeated
    for number in range(1, settings.messages + 1):
        text = f"message {number}"
        checksum = zlib.crc32(text.encode())
        corrupted = dice.random() < settings.corrupted_share
        yield {"number": number, "text": text[::-1] if corrupted else text, "crc": checksum}


def is_corrupted(body: dict[str, Any]) -> bool:
    """Tell whether a body's checksum does not fit its text."""
    return bool(zlib.crc32(body["text"].encode()) != body["crc"])


async def correct(message: Message) -> dict[str, Any]:
    """Put the text right: the hook `on_due`.

    :raises ValueError: if the checksum does not fit then either
    """
    mended = {**message.body, "text": message.body["text"][::-1]}
    if is_corrupted(mended):
        raise ValueError("the checksum does not fit")
    return mended


async def run(settings: DelaySettings, say: Say) -> Verdict:
    """Play the demo, or one role of it, and judge it.

    :raises ServerError: if the server will not do
    """
    alone = settings.only is not None
    async with stage(settings, "delay", ordering="none", alone=alone, on_due=correct) as on:
        demo = _Delay(settings, on)
        await on.play(demo)
        delayed = {event.id for event in on.tape.of(Retried)}
        if on.report.handlings and not settings.json_verdict:
            say(histogram(_LATENESS, on.report.lateness_ms(delayed)))
        on.report.published = len(on.tape.of(Published))
        corrected = sum(len(event.ids) for event in on.tape.of(Corrected))
        return on.report.delay_verdict(delayed, corrected)


class _Delay:
    def __init__(self, settings: DelaySettings, on: Stage) -> None:
        self._settings = settings
        self._on = on
        names = [f"poller-{at + 1}" for at in range(settings.pollers)]
        only = settings.only
        self._names = [role_name(settings, only)] if only else ["consumer", *names, "producer"]
        # One source for all lives of the producer: restarted, it goes on where it was.
        self._bodies = bodies(settings)
        self.title = f"delay queue: {settings.messages} messages, delay {settings.delay_ms} ms"

    async def script(self, supervisor: Supervisor) -> None:
        """Start the roles, and wait until every message is acknowledged."""
        for name in self._names:
            supervisor.spawn(name, lambda name=name: self._role(name))  # type: ignore[misc]
        if self._settings.only == "producer":
            await supervisor.finished(self._names[0])
        elif self._settings.only:
            await anyio.sleep_forever()
        else:
            await self._until_done()

    async def handle(self, body: dict[str, Any], context: Context) -> None:
        """Handle a good message; send a corrupted one to the schedule."""
        if is_corrupted(body):
            raise RetryLater(self._settings.delay_ms)
        self._on.record(body["number"], context)

    def lines(self) -> list[str]:
        """Draw the live view."""
        tape = self._on.tape
        stats, now_ms = self._on.stats, self._on.now_ms()
        countdowns = "  ".join(f"{max(0, due - now_ms) / 1000:.1f}s" for due in stats.next_due_ms)
        acked = sum(len(event.ids) for event in tape.of(Acked))
        corrected = sum(len(event.ids) for event in tape.of(Corrected))
        return [
            f"published {len(tape.of(Published)):>4}   handled {acked:>4}   "
            f"delayed {len(tape.of(Retried)):>4}   corrected {corrected:>4}",
            "",
            f"stream    {stats.ready:>3} ready  {'▪' * min(50, stats.ready)}",
            f"pending   {stats.pending:>3}        {'▪' * min(50, stats.pending)}",
            f"schedule  {stats.scheduled:>3}        due in  {countdowns}",
            "",
            *self._on.last_events(_told),
        ]

    def _role(self, name: str) -> Role:
        on, settings = self._on, self._settings
        kind = settings.only or name.partition("-")[0]
        if kind == "producer":
            interval_s = settings.interval_ms / 1000
            return Producer(
                on.server,
                on.queue,
                self._bodies,
                interval_s=interval_s,
                name=name,
                observe=on.tape,
            )
        if kind == "consumer":
            return Consumer(on.server, on.queue, self.handle, name=name, observe=on.tape)
        return Poller(on.server, on.queue, name=name, observe=on.tape)

    async def _until_done(self) -> None:
        tape, settings = self._on.tape, self._settings
        settled = 0
        while settled < settings.messages:
            place = tape.end
            with anyio.move_on_after(_QUIET_S + settings.delay_ms / 1000) as waiting:
                await tape.until(
                    Event, after=place, where=lambda e: isinstance(e, Acked | DeadLettered)
                )
            if waiting.cancelled_caught:
                return
            settled = sum(len(e.ids) for e in tape.of(Acked)) + len(tape.of(DeadLettered))


def _told(event: Event) -> str | None:
    match event:
        case Retried(id=message_id, delay_ms=delay_ms):
            return f"{message_id} is corrupted: delayed by {delay_ms} ms"
        case Corrected(role=role, ids=ids):
            return f"{', '.join(ids)} due: corrected by {role}, back on the stream"
        case _:
            return told_of_any(event)
