"""A holder that is frozen long past its lease, and woken: none of its calls changes anything."""

from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import anyio
import pytest

from delayq.settings import load
from delayq.verify import audit
from delayq.verify.history import Audited
from delayq.verify.players import Player
from delayq.verify.settings import VerifySettings
from delayq.verify.stage import Stage
from delayq.verify.staging import staged
from tests.servers import program

RENEWALS = 12
"""How often the next holder renews, thrice a lease, before the frozen one is woken: four leases."""


@pytest.fixture
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("z")
    told = {"lease_ttl_ms": 1_500, "consumers": 2, "ordering": "strict", "program": program()}
    settings = load(VerifySettings, **told)
    async with staged(settings, 2, folder, None) as stage, anyio.create_task_group() as lives:
        for player in stage.players[:2]:
            lives.start_soon(player.live)
        with anyio.fail_after(60):
            yield stage
        lives.cancel_scope.cancel()


async def zombie(stage: Stage, point: str) -> tuple[Player, int, list[Audited]]:
    """Freeze the active one at a point, wake it long after; return it, its epoch, all from then."""
    await stage.told_of(after=0, event="StoodBy")
    while not (active := [p for p in stage.players if stage.is_active(p)]):
        # On a slow machine a lease of a second may have lapsed by itself.
        await stage.told_of(after=len(stage.told), event="TookOver")
    [player] = active
    first = [s for p, s in stage.told if p is player and s.get("event") == "TookOver"][-1]
    place = stage.end
    if point == "waiting":
        player.signal(SIGSTOP)
    else:
        there = "before fetch" if point == "on its way" else point
        await player.tell(do="at", point=there, nth=1, act="freeze")
        await stage.queue.publish_many([{"do": "pass"}] * 3)
        await stage.told_of(player, after=place, act="freeze")
    if point == "on its way":
        await stopped(player)
        player.proxy.hold("requests")
        player.signal(SIGCONT)
    took = await stage.told_of(after=place, event="TookOver")
    await stage.queue.publish_many([{"do": "pass"}] * 3)
    while _count(await _audited(stage), "renew", took["epoch"]) < RENEWALS:
        await anyio.lowlevel.checkpoint()
    player.signal(SIGCONT)
    player.proxy.heal()
    await stage.told_of(player, after=place, event="LeaseEnded")
    await stage.told_of(player, after=place, event="StoodBy")
    calls = await _audited(stage)
    at = next(at for at, call in enumerate(calls) if call.epoch == took["epoch"])
    return player, first["epoch"], calls[at:]


@pytest.mark.parametrize(
    "point", ["handler", "before fetch", "after fetch", "waiting", "on its way"]
)
async def test_a_zombie_changes_nothing_and_tells_that_its_lease_ended(
    stage: Stage, point: str
) -> None:
    player, epoch, calls = await zombie(stage, point)
    old = [call for call in calls if call.epoch == epoch]
    assert not [call for call in old if call.writes]
    assert all((call.refusal or "").startswith("LEASELOST") for call in old)
    ended = [s["epoch"] for p, s in stage.told if p is player and s.get("event") == "LeaseEnded"]
    assert ended == [epoch]
    if point == "on its way":
        assert "fetch" in [call.script for call in old], "it was sent in time, and came late"
    assert (await stage.queue.stats()).pending == 0


async def stopped(player: Player) -> None:
    """Wait until the process stands still."""
    assert player.process
    stat = Path(f"/proc/{player.process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC240 - it is memory
        await anyio.lowlevel.checkpoint()


def _count(calls: list[Audited], script: str, epoch: int) -> int:
    return sum(call.script == script and call.epoch == epoch for call in calls)


async def _audited(stage: Stage) -> list[Audited]:
    return [call async for call in audit.read(stage.client, stage.queue.keys)]
