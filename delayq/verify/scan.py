"""What is left in Redis."""

from collections.abc import AsyncIterator

from redis.asyncio import Redis

from delayq.verify.history import Found


def scan(client: Redis, namespace: str) -> AsyncIterator[Found]:
    """Read every key of a namespace, but the audit, with what is in it."""
    raise NotImplementedError
