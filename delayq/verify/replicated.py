"""What servers have in common of which one takes the place of another that died."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import anyio

from delayq.errors import ServerError, ServerUnreachable

QUICK = ("--repl-diskless-sync-delay", "0")
"""Options of a primary that does not wait for more replicas."""
DEAD_AFTER_MS = 2_000
"""After how long without an answer another one takes its place: a slow machine must not be dead."""
AGREE_S = 30.0
"""How long servers may take to agree."""
_LOOK_S = 0.02


class Node(Protocol):
    """A server among others."""

    port: int

    @property
    def alive(self) -> bool:
        """Whether it was started, and not killed."""

    async def start(self) -> None:
        """Start it.

        :raises ServerError: if it does not start
        """

    async def say(self, *words: object) -> Any:
        """Run a command there.

        :raises ServerError: if it did not answer, or refused
        """


N = TypeVar("N", bound=Node)
N_co = TypeVar("N_co", bound=Node, covariant=True)


class Replicated(Protocol[N_co]):
    """Servers, each primary of which has a replica that takes its place."""

    @property
    def every(self) -> Sequence[N_co]:
        """All of them."""

    @property
    def url(self) -> str:
        """Where they are."""

    async def start(self) -> None:
        """Start them all, and wait until each knows the others.

        :raises ServerError: if they do not
        """

    async def holder(self, key: str) -> N_co:
        """Return the primary that has `key`.

        :raises ServerError: if nobody tells
        """

    async def revive(self, node: Any) -> None:
        """Start a node that was killed, when another has its place; wait until it follows that.

        :raises ServerError: if that does not come about
        """


async def follows(node: Node) -> bool:
    """Tell whether a node is a replica that has what its primary had when it asked.

    :raises ServerError: if it does not answer
    """
    about = await node.say("INFO", "replication")
    role, link = about["role"], about.get("master_link_status")
    return (role, link) == ("slave", "up")


async def until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look again and again: servers tell nobody what they agreed upon.

    :param true: while it meets a `ServerError` it is not true
    :raises ServerUnreachable: if it does not come true for long
    """
    with anyio.move_on_after(AGREE_S):
        while not await _is(true):  # noqa: ASYNC110 - see above
            await anyio.sleep(_LOOK_S)
        return
    raise ServerUnreachable(f"not within {AGREE_S} s: {what}")


async def _is(true: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await true()
    except ServerError:
        return False
