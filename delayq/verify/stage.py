"""What the faults of a run work on: its processes, its server, its lane, and the fault log."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.app import AppQueue
from delayq.verify.history import Fault, FaultKind
from delayq.verify.log import Log
from delayq.verify.players import Player, Said
from delayq.verify.server import OwnServer


class Nobody(Exception):
    """Raised when a fault finds nobody to be done to: it is left out."""


@dataclass
class Stage:
    """A run, as a fault sees it."""

    queue: AppQueue
    client: Redis
    players: list[Player]
    log: Log
    lease_ttl_s: float
    server: OwnServer | None
    """A server that is our own to kill."""
    server_held: bool = False
    active: set[str] = field(default_factory=set)
    """Names of the players that are active consumers."""
    struck: Counter[str] = field(default_factory=Counter)
    """How often each fault was done."""
    crashes: list[str] = field(default_factory=list)
    """Roles and processes that ended by an error of their own."""
    _told: list[tuple[Player, Said]] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    def note(self, kind: FaultKind, target: str = "", ms: int = 0, note: str = "") -> None:
        """Write a line of the fault log; to be called before the fault is done."""
        self.log.write(Fault, kind=kind, target=target, ms=ms, note=note)

    @property
    def end(self) -> int:
        """The place after the last of what was told."""
        return len(self._told)

    def is_active(self, player: Player) -> bool:
        """Tell whether a player is an active consumer."""
        return player.part.name in self.active

    async def told_of(self, player: Player | None = None, *, after: int, **wanted: object) -> Said:
        """Wait for a process to tell something, and return it."""
        while True:
            more = self._more
            for teller, said in self._told[after:]:
                if player in (None, teller) and wanted.items() <= said.items():
                    return said
            await more.wait()

    def heard(self, player: Player, said: Said) -> None:
        """Hear what a process tells of itself."""
        self._told.append((player, said))
        self._more.set()
        self._more = anyio.Event()
        match said.get("event"):
            case "TookOver":
                self.active.add(player.part.name)
            case "Released" | "LeaseEnded" | "StoodBy":
                self.active.discard(player.part.name)
            case "Ended" if said["how"] == "crashed":
                self.crashes.append(f"{player.name}: {said['role']} crashed: {said['error']}")

    @contextmanager
    def holding(
        self, chance: random.Random, suits: Callable[[Player], bool]
    ) -> Iterator[Player]:
        """Take a player that lives, suits, and that no other fault is being done to.

        :raises Nobody: if there is none
        """
        free = [p for p in self.players if p.alive and not p.held and suits(p)]
        if not free:
            raise Nobody
        player = chance.choice(free)
        player.held = True
        try:
            yield player
        finally:
            player.held = False

    @asynccontextmanager
    async def own_server(self) -> AsyncIterator[OwnServer]:
        """Take the server that is our own.

        :raises Nobody: if there is none, or another fault is being done to it
        """
        if self.server is None or self.server_held:
            raise Nobody
        self.server_held = True
        try:
            yield self.server
        finally:
            self.server_held = False

    async def command(self, *words: object) -> object:
        """Run a command of redis-cli.

        :raises ServerError: if the server did not answer, or refused
        """
        return await scripts.command(self.client, *words)

    async def epoch(self, player: Player) -> str | None:
        """Return the epoch of the lease that a consumer holds, or whoever holds it now."""
        consumer = f"{self.queue.name}.{player.part.name}"
        key = self.queue.keys.lease(None if self.queue.ordered else consumer)
        return await scripts.command(self.client, "HGET", key, "epoch")  # type: ignore[no-any-return]

    async def followed(self, player: Player, epoch: str | None) -> None:
        """Wait until the lease that had this epoch is over; or, for it may not be, long enough."""
        with anyio.move_on_after(3 * self.lease_ttl_s):
            while await self.epoch(player) == epoch:
                await anyio.sleep(0.002)


def handles(player: Player) -> bool:
    """Suit a fault of consumers."""
    return player.part.kind == "consumer"


def publishes(player: Player) -> bool:
    """Suit a fault of producers."""
    return player.part.kind == "producer"


def anyone(_player: Player) -> bool:
    """Suit a fault of any process."""
    return True
