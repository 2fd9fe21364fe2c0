"""Faults of the server, by its own commands and by signals; and of single connections to it."""

import signal
from random import Random

import anyio

from delayq.connection import outlast
from delayq.verify.stage import Nobody, Stage, handles

_BUSY = """
local from = redis.call('TIME')
repeat
  local now = redis.call('TIME')
until (now[1] - from[1]) * 1000000 + now[2] - from[2] > tonumber(ARGV[1])
"""


async def cut_a_blocked_reader(stage: Stage, chance: Random) -> None:
    """CLIENT KILL a connection on which somebody waits for a bell."""
    await _cut(stage, chance, "xread")


async def cut_any(stage: Stage, chance: Random) -> None:
    """CLIENT KILL a connection of a consumer, perhaps the one that its lease names."""
    await _cut(stage, chance, "")


async def flush_scripts(stage: Stage, _chance: Random) -> None:
    """Have the server forget all scripts."""
    stage.note("server other", note="SCRIPT FLUSH")
    await stage.command("SCRIPT FLUSH")


async def run_out_of_memory(stage: Stage, chance: Random) -> None:
    """Set maxmemory below what is used, for a while."""
    before = (await stage.command("CONFIG GET", "maxmemory"))["maxmemory"]
    stage.note("server other", note="maxmemory")
    try:
        await stage.command("CONFIG SET", "maxmemory", 1)
        await anyio.sleep(chance.uniform(0.1, 1))
    finally:
        with anyio.CancelScope(shield=True):
            await outlast(lambda: stage.command("CONFIG SET", "maxmemory", before))


async def busy_script(stage: Stage, chance: Random) -> None:
    """Run a script that takes long: the server answers nobody."""
    ms = round(chance.uniform(0.1, 1.5) * stage.lease_ttl_s * 1000)
    stage.note("server stall", ms=ms, note="busy script")
    await stage.command("EVAL", _BUSY, 0, ms * 1000)


async def freeze_server(stage: Stage, chance: Random) -> None:
    """SIGSTOP the server, for a time that may be longer than the leases."""
    with stage.own_server() as server:
        seconds = chance.uniform(0.1, 3) * stage.lease_ttl_s
        stage.note("server stall", ms=round(seconds * 1000), note="frozen")
        try:
            server.signal(signal.SIGSTOP)
            await anyio.sleep(seconds)
        finally:
            server.signal(signal.SIGCONT)


async def kill_server(stage: Stage, chance: Random) -> None:
    """SIGKILL the server, and start it again on what it kept."""
    with stage.own_server() as server:
        stage.note("server kill")
        with anyio.CancelScope(shield=True):
            await server.kill()
            await anyio.sleep(chance.uniform(0, 1))
            stage.note("server start")
            await server.start()


async def _cut(stage: Stage, chance: Random, command: str) -> None:
    with stage.holding(chance, handles) as player:
        clients = [
            client
            for client in await stage.command("CLIENT LIST")
            if client["name"] == player.part.name and client["cmd"].startswith(command)
        ]
        if not clients:
            raise Nobody
        stage.note("cut", player.name, note=f"CLIENT KILL {command}".strip())
        await stage.command("CLIENT KILL", "ID", chance.choice(clients)["id"])
