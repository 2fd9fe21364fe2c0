"""An anchor in a Cluster: a connection to any one of its nodes, and to another where that fails."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup
from redis.asyncio import Redis

from delayq.errors import ServerError
from delayq.transport.address import Host
from delayq.transport.anchor import UNKNOWN, Anchor
from delayq.transport.cluster import primaries

ASK_S = 5.0
"""How often the node is asked: it may have vanished, or close what is idle."""
BACKOFF_S = 0.5
"""How long after a failure another node is tried."""
ANSWER_S = 0.5
"""How long an answer about a connection is waited for: none proves nothing."""
NAMED_S = 1.0
"""How long the first lease waits for an identity to name."""

Opened = Callable[[Host], AbstractAsyncContextManager[Redis]]


class RoamingAnchor(Anchor):
    """Names its node with its connection: whoever asks if it is gone asks that node alone.

    Leases are kept by the client of the Cluster, as each of them is where its lane is.

    :param tasks: where it looks after its connection
    :param cluster: the client of the Cluster
    :param opened: opens a client of one connection to a node
    :param asking: where those stay open by which others' nodes are asked
    """

    def __init__(
        self,
        tasks: TaskGroup,
        cluster: Any,
        opened: Opened,
        asking: AsyncExitStack,
        recovered: Callable[[], None],
    ) -> None:
        super().__init__(cluster, recovered=recovered)
        self._tasks = tasks
        self._cluster = cluster
        self._opened = opened
        self._begun = False
        self._named = anyio.Event()
        self._asking = asking
        self._others: dict[str, Anchor] = {}
        """By node, those by which it is asked."""

    async def identity(self) -> str:
        """Tell by what a lease names this connection; no call is made."""
        if not self._begun:
            self._begun = True
            self._tasks.start_soon(self._roam)
        with anyio.move_on_after(NAMED_S):
            await self._named.wait()
        return self._identity

    async def gone(self, identities: Collection[str]) -> set[str]:
        """Tell which connections are proved to be closed, by the nodes that they were made to."""
        asked: dict[str, set[str]] = defaultdict(set)
        for identity in identities:
            node, _, client_id = identity.rpartition("/")
            asked[node].add(client_id)
        found: set[str] = set()
        for node, ids in asked.items():
            found |= {f"{node}/{client_id}" for client_id in await self._gone_at(node, ids)}
        return found

    async def _gone_at(self, node: str, ids: set[str]) -> set[str]:
        # Whoever wrote the lease named the node: only those of the Cluster are talked to.
        known = self._cluster.nodes_manager.nodes_cache.get(node)
        if known is None:
            return set()
        if node not in self._others:
            client = await self._asking.enter_async_context(self._opened((known.host, known.port)))
            self._others[node] = Anchor(client)
        asked = self._others[node]
        if asked.lookout.mistrusted:
            return set()
        with anyio.move_on_after(ANSWER_S), suppress(ServerError):
            return await asked.gone(ids)
        asked.lookout.mistrust()
        return set()

    async def _roam(self) -> None:
        """Keep a connection, for ever."""
        while True:
            with suppress(ServerError):
                name, node = random.choice(await primaries(self._cluster))  # noqa: S311 - no secret
                async with self._opened((node.host, node.port)) as client:
                    await self._stay(Anchor(client), name)
            await anyio.sleep(BACKOFF_S)

    async def _stay(self, anchor: Anchor, name: str) -> None:
        """Keep one, and tell its identity.

        :raises ServerError: if the node did not answer
        """
        while True:
            lost = anyio.Event()
            anchor.lost = {lost.set}
            client_id = await anchor.identity()
            named = UNKNOWN if client_id == UNKNOWN else f"{name}/{client_id}"
            before, self._identity = self._identity, named
            self._named.set()
            if named != before:
                self._tell()
            with anyio.move_on_after(ASK_S):
                await lost.wait()
            if not lost.is_set():
                await anchor.ask()
