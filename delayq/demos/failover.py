"""Ordered failover, shown.

Two consumers of one ordered queue: one is active, the other stands by. The supervisor ends the
active one in turn by kill, stall and stop; each time the standby takes over all that is pending,
in order, and the old one, restarted, is told that another is active.
"""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import anyio

from delayq import logs
from delayq.clock import mono_s
from delayq.consumer import Consumer
from delayq.demos.picture import Turn, timeline
from delayq.demos.report import Takeover, Verdict
from delayq.demos.stage import Say, Stage, role_name, stage, told_of_any
from delayq.events import (
    Acked,
    Ended,
    Event,
    LeaseEnded,
    Published,
    Refused,
    Released,
    Stalled,
    StoodBy,
    TookOver,
)
from delayq.handling import Context
from delayq.keys import own_name_of
from delayq.producer import Producer
from delayq.retry import Retry
from delayq.settings import FailoverSettings
from delayq.supervisor import Role, Supervisor

CAUSES = ("kill", "stall", "stop")
_STEADY_MESSAGES = 10
"""Messages that a consumer handles before it is ended."""
_REST_S = 0.4
"""How long an ended consumer stays away: long enough to be seen."""
_GIVE_UP_S = 30.0


async def run(settings: FailoverSettings, say: Say) -> Verdict:
    """Play the demo, or one role of it, and judge it.

    :raises ServerError: if the server will not do
    """
    alone = settings.only is not None
    patient = Retry(max_deliveries=None) if settings.no_ack else Retry()
    async with stage(settings, "failover", ordering="strict", alone=alone, retry=patient) as on:
        demo = _Failover(settings, on)
        await on.play(demo)
        on.report.published = len(on.tape.of(Published))
        if on.report.handlings and not settings.json_verdict:
            end_s = max((h.at_s for h in on.report.handlings), default=mono_s())
            say(timeline(demo.turns(), on.report.handlings, on.began_s, end_s, on.columns))
            for takeover in on.report.takeovers:
                say(_narrated(takeover))
            if demo.cut_short:
                say(f"{demo.cut_short}: give it more --messages")
        return on.report.failover_verdict(
            len(on.tape.of(Refused)), acknowledged=not settings.no_ack
        )


class _Failover:
    def __init__(self, settings: FailoverSettings, on: Stage) -> None:
        self._settings = settings
        self._on = on
        self._handler_started = anyio.Event()
        # One source for all lives of the producer: restarted, it goes on where it was.
        self._bodies = ({"number": at + 1} for at in range(settings.messages))
        self.cut_short = ""
        on.report.ends = settings.kills
        how = "nothing is acknowledged" if settings.no_ack else f"{settings.kills} ends"
        self.title = f"ordered failover: {settings.messages} messages, {how}"

    async def script(self, supervisor: Supervisor) -> None:
        """Play the story, or one role of it."""
        only = self._settings.only
        if only:
            name = role_name(self._settings, only)
            supervisor.spawn(name, lambda: self._role(only, name))
            await (supervisor.finished(name) if only == "producer" else anyio.sleep_forever())
            return
        with anyio.move_on_after(self._longest_s()):
            await self._story(supervisor)

    async def _story(self, supervisor: Supervisor) -> None:
        tape = self._on.tape
        active, standby = "consumer-1", "consumer-2"
        supervisor.spawn("producer", lambda: self._role("producer", "producer"))
        supervisor.spawn(active, lambda: self._role("consumer", "consumer-1"))
        took_over = await tape.until(TookOver, active)
        supervisor.spawn(standby, lambda: self._role("consumer", "consumer-2"))
        await tape.until(StoodBy, standby)
        for cause in islice(cycle(CAUSES), self._settings.kills):
            if not await self._in_the_middle(took_over.epoch):
                shown = len(self._on.report.takeovers)
                self.cut_short = (
                    f"the messages ran out after {shown} of {self._settings.kills} ends"
                )
                break
            took_over = await self._end(supervisor, cause, active, standby)
            active, standby = standby, active
        await self._all_handled(took_over.epoch)

    async def _end(self, supervisor: Supervisor, cause: str, active: str, standby: str) -> TookOver:
        """End the active consumer, watch the standby take over, and bring the old one back."""
        tape, stall_s = self._on.tape, self._settings.lease_ttl_ms / 1000 + 1
        place, ended_s = tape.end, mono_s()
        if cause == "kill":
            await supervisor.kill(active)
        elif cause == "stall":
            supervisor.stall(active, stall_s)
        else:
            await supervisor.stop(active)
            released = (at for at, e in tape.heard[place:] if isinstance(e, Released))
            ended_s = next(released, ended_s)
        took_over = await tape.until(TookOver, standby, after=place)
        await self._first_handled(took_over, active, cause, ended_s)
        if cause == "stall":
            await tape.until(LeaseEnded, active, after=place)
        else:
            await anyio.sleep(_REST_S)
            await supervisor.restart(active)
        await tape.until(StoodBy, active, after=place)
        return took_over

    async def handle(self, body: dict[str, Any], context: Context) -> None:
        """Handle a message: that takes a while."""
        self._on.record(body["number"], context)
        self._handler_started.set()
        self._handler_started = anyio.Event()
        await anyio.sleep(self._settings.handle_ms / 1000)

    async def _in_the_middle(self, epoch: int) -> bool:
        """Wait until a term is steady and a handler has begun; False if the messages ran out."""
        wanted = _STEADY_MESSAGES
        with anyio.move_on_after(_GIVE_UP_S):
            while wanted:
                if self._count(epoch) == self._settings.messages:
                    return False
                await self._handler_started.wait()
                wanted -= self._on.report.handlings[-1].epoch == epoch
        return not wanted

    def _count(self, epoch: int) -> int:
        """Count what was handled: without acknowledging, each term begins anew."""
        report = self._on.report
        if self._settings.no_ack:
            return sum(handling.epoch == epoch for handling in report.handlings)
        return report.handled

    async def _first_handled(
        self, took_over: TookOver, source: str, cause: str, ended_s: float
    ) -> None:
        while True:
            started = self._handler_started
            terms = (h for h in self._on.report.handlings if h.epoch == took_over.epoch)
            if first := next(terms, None):
                break
            await started.wait()
        takeover = Takeover(
            cause,
            source,
            took_over.role,
            took_over.epoch,
            sum(took_over.reclaimed.values()),
            round((first.at_s - ended_s) * 1000, 1),
        )
        self._on.report.takeovers.append(takeover)
        if not self._on.live:
            logs.tell("takeover", first_message=first.number, told=_narrated(takeover))

    async def _all_handled(self, epoch: int) -> None:
        """Wait until all is acknowledged; without acknowledging, until the last term saw it all."""
        messages, tape = self._settings.messages, self._on.tape
        while True:
            started, place = self._handler_started, tape.end
            if self._settings.no_ack:
                if self._count(epoch) == messages:
                    return
                await started.wait()
            else:
                if sum(len(event.ids) for event in tape.of(Acked)) >= messages:
                    return
                await tape.until(Acked, after=place)

    def lines(self) -> list[str]:
        """Draw the live view."""
        on = self._on
        states = {turn.consumer: turn for turn in self.turns()}
        consumers = [
            f"{'▶' if turn.state == 'active' else ' '} {name:<12} {turn.state:<8}"
            f" {'epoch ' + str(turn.epoch) if turn.state == 'active' else ''}"
            for name, turn in sorted(states.items())
        ]
        numbers = [f"{h.consumer[-1]}:{h.number}" for h in on.report.handlings[-12:]]
        return [
            *consumers,
            "",
            f"stream    {on.stats.ready:>3} ready  {'▪' * min(50, on.stats.ready)}",
            f"pending   {on.stats.pending:>3}        {'▪' * min(50, on.stats.pending)}",
            f"handled   {on.report.handled:>3}        {' '.join(numbers)}",
            "",
            *on.last_events(_told),
        ]

    def turns(self) -> Iterator[Turn]:
        """Tell from the tape when each consumer was what."""
        for at_s, event in self._on.tape.heard:
            match event:
                case TookOver(role=role, epoch=epoch):
                    yield Turn(role, at_s, "active", epoch)
                case StoodBy(role=role):
                    yield Turn(role, at_s, "standby")
                case Stalled(role=role):
                    yield Turn(role, at_s, "stalled")
                case Released(role=role):
                    yield Turn(role, at_s, "stopped")
                case Ended(role=role, how=how) if role != "producer":
                    yield Turn(role, at_s, how)

    def _role(self, kind: str, name: str) -> Role:
        on, settings = self._on, self._settings
        if kind == "producer":
            interval_s = settings.interval_ms / 1000
            return Producer(
                on.server, on.queue, self._bodies, interval_s=interval_s, name=name, observe=on.tape
            )
        return Consumer(
            on.server,
            on.queue,
            self.handle,
            name=name,
            lease_ttl_s=settings.lease_ttl_ms / 1000,
            batch=1,
            acknowledge=not settings.no_ack,
            observe=on.tape,
        )

    def _longest_s(self) -> float:
        s = self._settings
        terms = s.kills + 1 if s.no_ack else 1
        per_message_ms = s.interval_ms + s.handle_ms * terms
        return _GIVE_UP_S + (s.messages * per_message_ms + s.kills * 4 * s.lease_ttl_ms) / 1000


def _narrated(takeover: Takeover) -> str:
    t = takeover
    verb = {"kill": "killed", "stall": "stalled", "stop": "stopped"}[t.cause]
    return (
        f"{t.source} {verb}: {t.target} goes on after {t.ms:.1f} ms, epoch {t.epoch}, "
        f"{t.reclaimed} pending reclaimed"
    )


def _told(event: Event) -> str | None:
    match event:
        case TookOver(role=role, why=why, reclaimed=reclaimed, deleted=deleted):
            owners = ", ".join(
                f"{n} pending of {own_name_of(name)}" for name, n in reclaimed.items()
            )
            left = ", deleted it" if deleted else ""
            return f"{role} is active ({why}): reclaimed {owners or 'nothing'}{left}"
        case StoodBy(role=role, holder=holder):
            return f"{role} stands by: {own_name_of(holder)} is active"
        case Refused(role=role, operation=operation):
            return f"{role} woke too late: its {operation} was refused"
        case Stalled(role=role, seconds=seconds):
            return f"{role} stalls for {seconds:.1f} s"
        case Released(role=role):
            return f"{role} hands over"
        case _:
            return told_of_any(event)
