"""The whole state of a lane, in a form that a test can compare."""

from typing import Any

import anyio

from delayq.keys import GROUP
from tests.conftest import KEYS, Client

NOTHING: dict[str, Any] = {"scheduled": [], "ready": [], "pending": {}, "dead": []}


async def messages(client: Client) -> dict[str, Any]:
    """Where each message is: ids only, in the order of each place."""
    stream: Any = await client.xrange(KEYS.stream)
    dead: Any = await client.xrange(KEYS.dead)
    members: Any = await client.zrange(KEYS.schedule, 0, -1)
    bodies: Any = await client.hkeys(KEYS.bodies)
    pending = await owners(client)
    assert sorted(member[12:] for member in members) == sorted(bodies), "orphans in the schedule"
    return {
        "scheduled": [member[12:] for member in members],
        "ready": [_id(entry) for entry in stream if entry[0] not in pending],
        "pending": {_id(entry): pending[entry[0]] for entry in stream if entry[0] in pending},
        "dead": [_id(entry) for entry in dead],
    }


async def emptied(client: Client, stream: str = KEYS.stream) -> None:
    """Wait until nothing is ready or pending, for any group."""
    with anyio.fail_after(60):
        while await client.xlen(stream):
            pass


async def owners(client: Client) -> dict[str, str]:
    """For each pending entry, the consumer it is pending for."""
    groups: Any = await client.xinfo_groups(KEYS.stream) if await client.exists(KEYS.stream) else []
    if not groups:
        return {}
    rows: Any = await client.xpending_range(KEYS.stream, GROUP, "-", "+", 100_000)
    return {row["message_id"]: row["consumer"] for row in rows}


async def dump(client: Client) -> dict[str, bytes]:
    """Return every key with its serialized value: equal dumps mean that nothing changed at all."""
    keys = sorted(await client.keys("*"))
    return {key: await client.execute_command("DUMP", key, NEVER_DECODE=True) for key in keys}


def _id(entry: tuple[str, dict[str, str]]) -> str:
    return entry[1].get("id", entry[0])
