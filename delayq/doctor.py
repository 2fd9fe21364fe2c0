"""The doctor: looks at a server and its queues, and says what is wrong and what would mend it.

It changes nothing: what it tries is read, or aimed at a key that nobody has.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from redis.asyncio import Redis

from delayq import scripts
from delayq.browse import Browser, Stats, stats, together
from delayq.connection import clock_offset_ms
from delayq.errors import ServerError, ServerRefused, ServerUnreachable
from delayq.fitness import OLDEST_VERSION, product
from delayq.keys import GROUP, LaneKeys
from delayq.record import number
from delayq.retry import Retry
from delayq.transport.cluster import primaries

Level = Literal["ok", "warning", "problem"]

LATE_MS = 5_000
"""Something due for longer and still scheduled: no poller is running; or ready: no consumer is."""
CLOCKS_APART_MS = 1_000
_NEARLY_FULL = 0.8
_RUN = "`python -m delayq run MODULE:APP`"
_SURVEYED = 100
"""Pending messages that are looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    """The server, or a queue's name."""
    said: str
    remedy: str = ""


Findings = AsyncIterator[Finding]

_TRIES: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("TIME", ("TIME",), "due times cannot be compared: nothing works"),
    ("CLIENT ID", ("CLIENT ID",), "a consumer that dies is noticed only when its lease runs out"),
    (
        "CLIENT LIST",
        ("CLIENT LIST", "ID", "1"),
        "a consumer that dies is noticed only when its lease runs out",
    ),
    ("CLIENT SETNAME", ("CLIENT SETNAME", "delayq-operator"), "connections bear no names"),
    ("INFO", ("INFO", "server"), "version and settings of the server are not checked"),
    ("HGETALL", ("HGETALL", "{key}"), "queues of the namespace cannot be listed"),
    ("EVAL", ("EVAL", "return 1", "0"), "no script can be sent: nothing works"),
    ("EVALSHA", ("EVALSHA", "0" * 40, "0"), "no script can be run: nothing works"),
    ("XINFO", ("XINFO STREAM", "{key}"), "consumers do not find the dead, and lists fail"),
    ("XPENDING", ("XPENDING", "{key}", GROUP), "what is pending cannot be seen"),
    ("XREAD", ("XREAD", "STREAMS", "{key}", "0"), "pollers and consumers cannot wait for the bell"),
    ("XRANGE", ("XRANGE", "{key}", "-", "+", "COUNT", "1"), "messages cannot be listed"),
)
_VITAL = ("TIME", "EVAL", "EVALSHA", "XREAD")


async def examine_server(client: Redis, namespace: str) -> Findings:
    """Look at version, eviction, persistence and clock of each primary, and at permissions.

    :raises ServerUnreachable: if there is no answer
    """
    for name, primary in await primaries(client):
        async for finding in _examined(primary):
            yield replace(finding, about=name)
    async for finding in _permissions(client, LaneKeys(namespace, "doctor").stream):
        yield finding


async def _examined(primary: Any) -> Findings:
    with suppress(ServerRefused):  # the permissions tell of it
        about = await scripts.command(primary, "INFO")
        for look in (_version, _eviction, _memory, _persistence, _role):
            yield look(about)
    with suppress(ServerRefused):
        yield _clock(await clock_offset_ms(primary))


def _version(about: Mapping[str, Any]) -> Finding:
    version, said = str(about["redis_version"]), " ".join(product(about))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        return Finding("problem", "server", f"{said} is too old", "6.2 or newer is needed")
    return Finding("ok", "server", said)


def _eviction(about: Mapping[str, Any]) -> Finding:
    policy = about.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("ok", "server", "nothing is evicted: maxmemory-policy is noeviction")
    said = f"maxmemory-policy is {policy}: at maxmemory messages are lost"
    return Finding("problem", "server", said, "CONFIG SET maxmemory-policy noeviction")


def _memory(about: Mapping[str, Any]) -> Finding:
    limit, used = int(about.get("maxmemory", 0)), int(about.get("used_memory", 0))
    if not limit:
        return Finding("ok", "server", f"{used / 1e6:.0f} MB are used; there is no maxmemory")
    said = f"{used / limit:.0%} of maxmemory are used"
    if used < limit * _NEARLY_FULL:
        return Finding("ok", "server", said)
    level: Level = "warning" if used < limit else "problem"
    said += "; at 100% publishing is refused, and what is there is still handled"
    return Finding(level, "server", said, "consume, purge, or CONFIG SET maxmemory")


def _persistence(about: Mapping[str, Any]) -> Finding:
    if int(about.get("aof_enabled", 0)):
        if about.get("aof_last_write_status", "ok") != "ok":
            said = "the last write of the append-only file failed"
            return Finding("problem", "server", said, "look at the server's log and at its disk")
        return Finding(
            "ok", "server", "append-only: a crash loses what appendfsync allows, 1 s at most"
        )
    said = "not append-only: a crash loses what came since the last snapshot, or all without one"
    return Finding("warning", "server", said, "set appendonly yes")


def _role(about: Mapping[str, Any]) -> Finding:
    if about.get("role") == "slave":
        return Finding("problem", "server", "this is a read-only replica", "give the primary's URL")
    return Finding("ok", "server", "this is a primary")


def _clock(offset_ms: float) -> Finding:
    said = f"the server's clock is {round(offset_ms):+} ms from this host's"
    if abs(offset_ms) < CLOCKS_APART_MS:
        return Finding("ok", "server", said)
    remedy = "let both follow NTP; due times are the server's, deliver_at is yours"
    return Finding("warning", "server", said, remedy)


async def _permissions(client: Redis, key: str) -> Findings:
    refused = False
    for name, words, cost in _TRIES:
        try:
            await scripts.command(client, *(key if word == "{key}" else word for word in words))
        except ServerRefused:
            refused = True
            level: Level = "problem" if name in _VITAL else "warning"
            yield Finding(level, "server", f"{name} is not permitted: {cost}", f"permit {name}")
        except ServerUnreachable:
            raise
        except ServerError:
            pass  # it may be called; there is nothing at the key
    if not refused:
        yield Finding("ok", "server", "this user may do what the roles need")


async def examine_queue(client: Redis, lanes: Sequence[LaneKeys]) -> Findings:
    """Look at one queue, as one group sees it: keys, schedule, lease and consumers of each lane.

    :raises ServerUnreachable: if there is no answer
    """
    counted, good = [], True
    for keys in lanes:
        try:
            findings = [finding async for finding in _types(client, keys)]
            if not findings:  # else nothing can be counted
                counted.append(await stats(client, keys))
                findings = await _problems(client, keys, counted[-1])
        except ServerRefused as error:
            said = f"it cannot be looked at: {error}"
            findings = [Finding("warning", keys.full_name, said, "permit what the server refused")]
        for finding in findings:
            good = False
            about = f"{keys.full_name}, lane {keys.lane}" if len(lanes) > 1 else keys.full_name
            yield replace(finding, about=about)
    if good:
        yield _in_order(lanes[0].full_name, together(counted))


def _in_order(name: str, found: Stats) -> Finding:
    counts = f"{found.scheduled} scheduled, {found.ready} ready, {found.pending} pending"
    return Finding("ok", name, f"{counts}, {found.dead} dead")


async def _problems(client: Redis, keys: LaneKeys, found: Stats) -> list[Finding]:
    return [
        *_schedule(keys.full_name, found),
        *_unread(keys.full_name, found),
        *_lane(keys.full_name, found),
        *[finding async for finding in _expiry(client, keys)],
        *[finding async for finding in _epoch(client, keys, found)],
        *[finding async for finding in _consumers(client, keys, found)],
        *[finding async for finding in _deliveries(client, keys)],
    ]


async def _types(client: Redis, keys: LaneKeys) -> Findings:
    streams = (keys.stream, keys.dead, keys.bell, keys.vacancy)
    hashes = (keys.bodies, keys.dedup, keys.parked, keys.halted, keys.lease())
    sets = (keys.schedule, keys.recent, keys.waiting, keys.standby, keys.members)
    expected = dict.fromkeys(keys.all, "string") | dict.fromkeys(streams, "stream")
    expected |= dict.fromkeys(hashes, "hash") | dict.fromkeys(sets, "zset")
    for key, kind in expected.items():
        found = await scripts.command(client, "TYPE", key)
        if found not in ("none", kind):
            said = f"{key} is a {found}, not a {kind}: another program wrote it"
            yield Finding("problem", keys.full_name, said, f"look at it, then DEL {key}")


def _schedule(name: str, found: Stats) -> list[Finding]:
    late_ms = found.now_ms - found.next_due_ms[0] if found.next_due_ms else 0
    if late_ms <= LATE_MS:
        return []
    said = f"due for {late_ms / 1000:.0f} s and still scheduled: no poller is running"
    return [Finding("problem", name, said, f"run a Poller of this queue: {_RUN}")]


def _unread(name: str, found: Stats) -> list[Finding]:
    late_ms = found.oldest_ms or 0
    if found.consumers or not found.ready or late_ms <= LATE_MS:
        return []
    said = f"ready for {late_ms / 1000:.0f} s and not fetched: no consumer is running"
    remedy = f"run a Consumer of this queue: {_RUN}"
    if "/" in name:
        remedy = f"run a Consumer of this group: {_RUN}; or `python -m delayq drop-group`"
    return [Finding("problem", name, said, remedy)]


def _lane(name: str, found: Stats) -> list[Finding]:
    findings = []
    if found.halted is not None:
        said = f"halted at {found.halted.id}: {found.halted.reason}"
        findings.append(
            Finding("problem", name, said, "mend the cause, then `python -m delayq resume`")
        )
    if found.parked:
        said = f"{found.parked} keys wait for a message that failed"
        findings.append(
            Finding("warning", name, said, "`list` the scheduled ones; cancel or promote")
        )
    return findings


async def _expiry(client: Redis, keys: LaneKeys) -> Findings:
    lasting = (keys.stream, keys.schedule, keys.bodies, keys.arrival, keys.dead, keys.epoch)
    for key in lasting:
        if await scripts.command(client, "PTTL", key) >= 0:
            said = f"{key} expires, and its messages with it"
            yield Finding("problem", keys.full_name, said, f"PERSIST {key}")


async def _epoch(client: Redis, keys: LaneKeys, found: Stats) -> Findings:
    last = number(await scripts.command(client, "GET", keys.epoch))
    if last is not None and last > found.now_ms + CLOCKS_APART_MS:
        apart_s = (last - found.now_ms) / 1000
        said = f"the last epoch is {apart_s:.0f} s ahead: the server's clock stepped back"
        yield Finding(
            "warning", keys.full_name, said, "mend the clock: what is scheduled comes late"
        )


async def _consumers(client: Redis, keys: LaneKeys, found: Stats) -> Findings:
    for consumer, pending in found.consumers.items():
        name, _, epoch = consumer.rpartition("@")
        if not (name and epoch.isdecimal()):
            said = f"{consumer} is no consumer of delayq, and {pending} messages are pending for it"
            remedy = "end it; a takeover, or a consumer's survey, takes what it holds"
            yield Finding("warning", keys.full_name, said, remedy)
        elif pending and consumer != found.holder:
            holder = await scripts.command(client, "HGET", keys.lease(name), "holder")
            if holder != consumer:
                said = f"{pending} messages are pending for {consumer}, which has no lease"
                yield Finding("warning", keys.full_name, said, "run a consumer: it takes them over")


async def _deliveries(client: Redis, keys: LaneKeys) -> Findings:
    most = Retry().max_deliveries or 0
    page = await Browser(client, keys).list("pending", _SURVEYED)
    often = [record for record in page.records if record.deliveries > most]
    if often:
        worst = max(often, key=lambda record: record.deliveries)
        said = f"{worst.id} was delivered {worst.deliveries} times and is not settled"
        remedy = "its handler fails or crashes each time: look at the logs, or set max_deliveries"
        yield Finding("warning", keys.full_name, said, remedy)
