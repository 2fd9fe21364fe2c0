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
from delayq.verify.faults import FAMILIES, Breaking, Need, possible
from delayq.verify.log import Log
from delayq.verify.part import Kind, Part
from delayq.verify.players import Player
from delayq.verify.proxy import Proxy, before, behind
from delayq.verify.server import OwnServer
from delayq.verify.settings import VerifySettings
from delayq.verify.stage import Stage

POLICIES: tuple[OnFailure, ...] = ("block", "park", "dead_letter", "halt")
_REMEDIES = {
    "network": "no proxy can stand before rediss://",
    "server": "leave DELAYQ_REDIS_URL unset, so that it is one of its own",
} | dict.fromkeys(("flush", "memory", "stall"), "give --disruptive, if nobody else uses it")

Patch = tuple[str, str] | None


def chosen(settings: VerifySettings) -> dict[str, Breaking]:
    """Return the faults that are to be done, by name.

    :raises UsageError: if one was asked for that cannot be done
    """
    own = settings.redis_url is None
    needs: set[Need] = {""}
    if own or settings.disruptive:
        needs.add("told")
    if own:
        needs.add("own")
    encrypted = not own and str(settings.redis_url).startswith("rediss://")
    families = [f for f in settings.families or FAMILIES if not (f == "network" and encrypted)]
    for family in settings.families:
        if family not in families or not possible([family], needs):
            raise UsageError(f"--faults: {family} cannot be done here: {_REMEDIES[family]}")
    return possible(families, needs)


@asynccontextmanager
async def staged(
    settings: VerifySettings, seed: int, folder: Path, patch: Patch
) -> AsyncIterator[Stage]:
    """Set a stage.

    :raises ServerError: if the server will not do
    """
    async with AsyncExitStack() as opened:
        server, url = None, settings.redis_url
        if url is None:
            server = OwnServer(folder / "server", settings.fsync, settings.program)
            opened.push_async_callback(server.close)
            await server.start()
            url = server.url
        for warning in await check(Server(url)):
            logs.warn(warning)
        part = _part(settings, seed, url, folder, patch)
        app, queue = part.app(unobserved)
        await opened.enter_async_context(app)
        client = await opened.enter_async_context(Server(url).client("verify"))
        log = opened.enter_context(Log(folder / "faults.log", "nemesis"))
        stage = Stage(queue, client, [], log, settings.lease_ttl_ms / 1000, server)
        for number, (kind, away) in enumerate(_cast(settings), 1):
            name, proxy = f"{kind[0]}{number}", Proxy(behind(url))
            through = before(url, proxy, folder / f"{name}.sock")
            own = replace(
                part,
                kind=kind,
                name=name,
                url=await opened.enter_async_context(through),
                seed=seed * 1_000_000 + number * 10_000,
            )
            stage.players.append(Player(own, proxy, stage.heard, away=away))
        yield stage


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
        lease_ttl_ms=settings.lease_ttl_ms,
        rate=settings.per_second / settings.producers,
        patch=patch,
    )
