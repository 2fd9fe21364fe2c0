"""Whether a server will do, or each primary of a Cluster."""

from collections.abc import Mapping
from typing import Any

from delayq.connection import Server
from delayq.errors import ServerError, ServerReadOnly, ServerRefused, ServerTooOld
from delayq.scripts import command
from delayq.transport.address import parsed
from delayq.transport.cluster import primaries

OLDEST_VERSION = (6, 2)


async def check(server: Server) -> list[str]:
    """Look whether the server will do, and return warnings about its settings.

    :raises ServerUnreachable: if there is no answer, or of a part of a Cluster none
    :raises ServerRefused: if the name or the password is wrong, or TLS fails; or it is a node of a
        Cluster and not named as one
    :raises ServerReadOnly: if it is a replica
    :raises ServerTooOld: if it is older than Redis 6.2
    """
    warnings: dict[str, None] = {}
    clustered = parsed(server.url).form == "cluster"
    async with server.client() as client:
        try:
            for name, primary in await primaries(client):
                about = await _about(primary)
                at = f" ({name})" if clustered else ""
                warnings |= dict.fromkeys(f"{warned}{at}" for warned in _warnings(about))
                if about and int(about.get("cluster_enabled", 0)) and not clustered:
                    raise ServerRefused("this is a node of a Cluster: give a redis+cluster:// URL")
        except ServerError as error:
            raise type(error)(f"{server.shown}: {error}") from error
    return list(warnings)


def product(about: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the version of a server; Valkey has one, and that of the Redis it is as.

    :param about: what its INFO tells
    """
    if "valkey_version" in about:
        return "Valkey", str(about["valkey_version"])
    return "Redis", str(about["redis_version"])


async def _about(primary: Any) -> Mapping[str, Any] | None:
    await command(primary, "PING")
    try:
        about: Mapping[str, Any] = await command(primary, "INFO")
    except ServerRefused:
        return None
    return about


def _warnings(about: Mapping[str, Any] | None) -> list[str]:
    if about is None:
        return ["INFO is not permitted to this user: version and settings were not checked"]
    version = tuple(int(part) for part in about["redis_version"].split(".")[:2])
    if version < OLDEST_VERSION:
        raise ServerTooOld(
            f"Redis {about['redis_version']} is too old: 6.2 or newer, or Valkey, is needed"
        )
    if about.get("role") == "slave":
        raise ServerReadOnly("this is a read-only replica: give the primary's URL")
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return [f"maxmemory-policy is {policy}: messages may be evicted; set it to noeviction"]
    return []
