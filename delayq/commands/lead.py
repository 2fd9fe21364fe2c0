"""The commands for who is active in an ordered queue: who, handover, resume."""

from dataclasses import asdict

from delayq.active import Active
from delayq.commands.look import opened, queue_of
from delayq.commands.settings import HandoverSettings, ResumeSettings, WhoSettings
from delayq.commands.table import Answer, moment, printable, span


async def run_who(settings: WhoSettings) -> Answer:
    """Tell who is active, and who stands by; or which consumers compete."""
    async with opened(settings) as client:
        queue = queue_of(client, settings, settings.queue)
        active, consumers = await queue.who(), (await queue.stats()).consumers
    value = {"active": asdict(active) if active else None, "consumers": consumers}
    if active:
        return Answer(_told(active), value)
    if consumers:
        rows = [f"{name}: {count} pending" for name, count in consumers.items()]
        return Answer("\n".join(["nobody holds the lane; consumers:", *rows]), value)
    return Answer("nobody is active", value, ok=False)


async def run_handover(settings: HandoverSettings) -> Answer:
    """Ask the active consumer to pass on, and tell who took over."""
    async with opened(settings) as client:
        queue = queue_of(client, settings, settings.queue)
        before = await queue.who()
        if before is None:
            return Answer("nobody is active", {"from": None, "to": None}, ok=False)
        after = await queue.handover(settings.wait_ms / 1000)
    value = {"from": before.name, "to": after.name if after else None}
    if after is None:
        return Answer(f"{before.name} has not passed on yet", value, ok=False)
    if after.name == before.name:
        return Answer(f"{before.name} goes on: nobody stood by", value, ok=False)
    return Answer(f"{before.name} passed on to {after.name}, epoch {after.epoch}", value)


async def run_resume(settings: ResumeSettings) -> Answer:
    """Have a halted lane go on."""
    async with opened(settings) as client:
        queue = queue_of(client, settings, settings.queue)
        message_id = await queue.resume(skip=settings.skip)
    if message_id is None:
        return Answer("it is not halted", {"resumed": None}, ok=False)
    how = "past" if settings.skip else "with"
    return Answer(f"goes on {how} {printable(message_id)}", {"resumed": message_id})


def _told(active: Active) -> str:
    since = f"{moment(active.since_ms)}, {span(active.now_ms - active.since_ms)} ago"
    standby = ", ".join(active.standby) or "nobody"
    return f"active    {active.name}, epoch {active.epoch}, since {since}\nstand by  {standby}"
