"""The command that asks the doctor."""

from dataclasses import asdict

from delayq.commands.look import names_of, opened, queue_of
from delayq.commands.settings import DoctorSettings
from delayq.commands.table import Answer, printable
from delayq.doctor import Finding, examine_queue, examine_server
from delayq.errors import InvalidName, ScriptFailed, ServerRefused
from delayq.keys import GROUP, LaneKeys
from delayq.queue import Queue

_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}


async def run_doctor(settings: DoctorSettings) -> Answer:
    """Check the server, and one queue or all."""
    async with opened(settings) as client:
        findings = [finding async for finding in examine_server(client, settings.namespace)]
        try:
            names = await names_of(client, settings, settings.queue)
        except ServerRefused:
            names = []  # told above
        for name in names:
            try:
                queue = await queue_of(client, settings, name)
            except InvalidName as error:
                said = f"among the queues' names: {error}"
                findings.append(Finding("warning", "server", said, "HDEL it from the registry"))
                continue
            for lanes in await _seen_by_each_group(queue):
                findings += [finding async for finding in examine_queue(client, lanes)]
    ok = all(finding.level != "problem" for finding in findings)
    text = "\n".join(_line(finding) for finding in findings)
    return Answer(text, {"ok": ok, "findings": [asdict(f) for f in findings]}, ok)


async def _seen_by_each_group(queue: Queue) -> list[list[LaneKeys]]:
    try:
        names = dict.fromkeys([GROUP, *await queue.groups()])
    except (ScriptFailed, ServerRefused):
        names = {GROUP: None}  # what is wrong is found below
    return [[lane.keys for lane in queue.seen_by(name).every_lane] for name in names]


def _line(finding: Finding) -> str:
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return printable(f"{_MARKS[finding.level]}{finding.about}: {finding.said}{remedy}")
