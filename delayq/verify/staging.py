"""Sets the stage of a run: a server, proxies before it, and players that do not live yet."""

import random
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from delayq import logs
from delayq.connection import Server
from delayq.errors import UsageError
from delayq.events import unobserved
from delayq.fitness import check
from delayq.retry import OnFailure
from delayq.transport.address import parsed
from delayq.verify.faults import FAMILIES, Breaking, Need, possible
from delayq.verify.log import Log
from delayq.verify.part import Kind, Part
from delayq.verify.players import Player
from delayq.verify.proxy import Proxy, before, is_plain
from delayq.verify.replicated import Replicated
from delayq.verify.server import OwnNode, OwnServer, flushing, own_cluster, own_sentinels
from delayq.verify.settings import VerifySettings
from delayq.verify.stage import Stage

POLICIES: tuple[OnFailure, ...] = ("block", "park", "dead_letter", "halt")
_REMEDIES = {
    "network": "no proxy can stand before rediss://, nor before several servers",
    "cut": "one server is needed",
    "server": "leave DELAYQ_REDIS_URL unset, and --topology, so that it is one of its own",
    "primary": "give --topology cluster, or sentinel",
    "slot": "give --topology cluster",
} | dict.fromkeys(
    ("flush", "memory", "stall"), "one server is needed; give --disruptive, if nobody else uses it"
)

Patch = tuple[str, str] | None


def chosen(settings: VerifySettings) -> dict[str, Breaking]:
    """Return the faults that are to be done, by name.

    :raises UsageError: if one was asked for that cannot be done
    """
    if settings.redis_url is not None and settings.topology != "server":
        raise UsageError("--topology: only of servers of its own: leave DELAYQ_REDIS_URL unset")
    replicated = settings.redis_url is not None or settings.topology != "server"
    if settings.durability == "replicated" and not replicated:
        raise UsageError("--durability: a replica is needed: give --topology cluster, or sentinel")
    if settings.durability == "fsynced" and settings.flushes == "none":
        raise UsageError("--durability: a file is needed: give --fsync always, or everysec")
    needs = _met(settings)
    for family in settings.families:
        if not possible([family], needs):
            raise UsageError(f"--faults: {family} cannot be done here: {_REMEDIES[family]}")
    return possible(settings.families or FAMILIES, needs)


def _met(settings: VerifySettings) -> set[Need]:
    """Return which needs of faults are met."""
    url = settings.redis_url
    if settings.topology == "cluster":
        return {"", "replicas", "cluster"}
    if settings.topology == "sentinel":
        return {"", "replicas"}
    if url is None:
        return {"", "one", "proxy", "told", "own"}
    needs: set[Need] = {""}
    if parsed(url).form == "one":
        needs.add("one")
        needs |= {"proxy"} if is_plain(url) else set()
        needs |= {"told"} if settings.disruptive else set()
    return needs


@asynccontextmanager
async def staged(
    settings: VerifySettings, seed: int, folder: Path, patch: Patch
) -> AsyncIterator[Stage]:
    """Set a stage.

    :raises ServerError: if the server will not do
    """
    async with AsyncExitStack() as opened:
        own = await _serving(opened, settings, folder / "server")
        url = own.url if own else str(settings.redis_url)
        for warning in await check(Server(url)):
            logs.warn(warning)
        part = _part(settings, seed, url, folder, patch)
        app, queue = part.app(unobserved)
        await opened.enter_async_context(app)
        client = await opened.enter_async_context(Server(url).client("verify"))
        log = opened.enter_context(Log(folder / "faults.log", "nemesis"))
        stage = Stage(queue, client, [], log, settings.lease_ttl_ms / 1000, own)
        for number, (kind, away) in enumerate(_cast(settings), 1):
            name, proxy = f"{kind[0]}{number}", Proxy()
            through = before(url, proxy, folder / f"{name}.sock")
            its = replace(
                part,
                kind=kind,
                name=name,
                url=await opened.enter_async_context(through) if is_plain(url) else url,
                seed=seed * 1_000_000 + number * 10_000,
            )
            stage.players.append(Player(its, proxy, stage.heard, away=away))
        yield stage


async def _serving(
    opened: AsyncExitStack, settings: VerifySettings, home: Path
) -> OwnServer | Replicated[OwnNode] | None:
    """Start servers of the run's own, unless one is named."""
    if settings.redis_url is not None:
        return None
    own: OwnServer | Replicated[OwnNode]
    given = home, flushing(settings.flushes), settings.program
    match settings.topology:
        case "server":
            own = OwnServer(*given)
        case "cluster":
            own = own_cluster(*given)
        case "sentinel":
            own = own_sentinels(*given)
    for server in (own,) if isinstance(own, OwnServer) else own.every:
        opened.push_async_callback(server.close)
    await own.start()
    return own


def _cast(settings: VerifySettings) -> Iterator[tuple[Kind, bool]]:
    """Yield the kind of each player, and whether it is away at first."""
    yield from repeat(("consumer", False), settings.consumers)
    yield from repeat(("producer", False), settings.producers)
    if "members" in (settings.families or FAMILIES):
        yield from repeat(("consumer", True), settings.consumers)


def _part(settings: VerifySettings, seed: int, url: str, folder: Path, patch: Patch) -> Part:
    ordered = settings.ordering != "none"
    policy = random.Random(seed).choice(POLICIES)  # noqa: S311 - no secret
    return Part(
        kind="consumer",
        process="",
        name="",
        url=url,
        namespace=f"{settings.namespace}-verify-{secrets.token_hex(4)}",
        folder=str(folder),
        seed=seed,
        ordering=settings.ordering,
        on_failure=policy if ordered else "block",
        lanes=settings.lanes,
        durability=settings.durability,
        lease_ttl_ms=settings.lease_ttl_ms,
        rate=settings.per_second / settings.producers,
        patch=patch,
    )
