"""Resizing: a queue gets another number of lanes, while it is empty and nobody uses it."""

from dataclasses import replace

from redis.asyncio import Redis

from delayq import scripts
from delayq.browse import Stats, stats
from delayq.groups import groups
from delayq.keys import GROUP, LaneKeys, own_name_of
from delayq.lanes import Lanes, at_once
from delayq.registry import set_lanes


async def resize(lanes: Lanes, number: int) -> dict[int, str]:
    """Give a queue another number of lanes, if all are empty and nobody holds a lease of them.

    Its programs must have ended: one that goes on with the old number loses what it publishes. The
    keys of lanes that go are deleted, but for their epochs: when such a lane comes again, its epoch
    must be above all it ever had, even if the server's clock stepped back meanwhile.

    :param lanes: the queue, with the number that it has
    :return: what is in the way, by lane; nothing if it is done, and then it may be repeated
    :raises ValueError: if there cannot be so many lanes
    :raises ServerError: if the server did not answer, or refused; it may be repeated
    """
    client, wanted = lanes.client, replace(lanes, lanes=number)
    every = [lane.keys for lane in max(lanes, wanted, key=lambda each: each.lanes).every_lane]
    found = await at_once(lambda keys: _held(client, keys), every)
    held = {at: said for at, said in enumerate(found) if said}
    if held:
        return held
    gone = every[number:]
    closed = await at_once(lambda keys: _close(client, keys), gone)
    if not all(closed):
        return {k.lane: "used right now" for k, ok in zip(gone, closed, strict=True) if not ok}
    await set_lanes(client, lanes.keys.namespace, lanes.name, number)
    return {}


async def _held(client: Redis, keys: LaneKeys) -> str:
    every = await _every_group(client, keys)
    return ", ".join(filter(None, [await _held_for(client, each) for each in every]))


async def _held_for(client: Redis, keys: LaneKeys) -> str:
    found: Stats = await stats(client, keys)
    counts = {name: getattr(found, name) for name in ("scheduled", "ready", "pending", "dead")}
    leases = {name: keys.lease(own_name_of(name)) for name in found.consumers}
    names = [n for n, key in leases.items() if await scripts.command(client, "EXISTS", key)]
    if found.holder is not None:
        names.append(found.holder)
    said = [f"{count} {name}" for name, count in counts.items() if count]
    return ", ".join([*said, *(f"the lease of {name}" for name in names)])


async def _close(client: Redis, keys: LaneKeys) -> bool:
    every = await _every_group(client, keys)
    holding = [keys.stream, *(key for k in every for key in (k.schedule, k.dead, k.lease()))]
    others = [key for k in every for key in k.all if key not in {*holding, k.epoch}]
    return bool(await scripts.run(client, "close", [*holding, *others], [len(holding)]))


async def _every_group(client: Redis, keys: LaneKeys) -> list[LaneKeys]:
    return [replace(keys, group=name) for name in {GROUP, *await groups(client, keys)}]
