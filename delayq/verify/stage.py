"""What the faults of a run work on: its processes, its server, its lanes, and the fault log."""

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from delayq import scripts
from delayq.appqueue import AppQueue
from delayq.supervisor import NOT_ENDED
from delayq.verify.history import Fault, FaultKind
from delayq.verify.log import Log
from delayq.verify.players import Player, Said
from delayq.verify.replicated import Replicated
from delayq.verify.server import OwnNode, OwnServer

STOP_S = 5.0
"""How long a process may take to stop."""
_EXPECTED = (0, NOT_ENDED, -9, -15, -2, 128 + 15, 128 + 2)
"""Stopped, killed, or ended by its own last resort."""


@contextmanager
def translated() -> Iterator[None]:
    """Let an error of redis-py out as ours, where a client is used by itself.

    :raises ServerError: instead of it
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise scripts.translated(error) from error


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
    own: OwnServer | Replicated[OwnNode] | None
    """A server that is our own to kill, or servers of which one takes the place of another."""
    server_held: bool = False
    active: dict[str, set[int]] = field(default_factory=dict)
    """Names of the players that are active consumers, and the lanes that each is active in."""
    struck: Counter[str] = field(default_factory=Counter)
    """How often each fault was done."""
    crashes: list[str] = field(default_factory=list)
    """Roles and processes that ended by an error of their own."""
    told: list[tuple[Player, Said]] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    def note(self, kind: FaultKind, target: str = "", ms: int = 0, note: str = "") -> None:
        """Write a line of the fault log; to be called before the fault is done."""
        self.log.write(Fault, kind=kind, target=target, ms=ms, note=note)

    @property
    def end(self) -> int:
        """The place after the last of what was told."""
        return len(self.told)

    def is_active(self, player: Player) -> bool:
        """Tell whether a player is an active consumer."""
        return player.part.name in self.active

    def who(self) -> str:
        """Tell who is active; if there are several lanes, in how many of them."""
        told = sorted(self.active.items())
        if self.queue.lanes == 1:
            return ",".join(name for name, _ in told)
        return ",".join(f"{name}:{len(lanes)}" for name, lanes in told)

    async def told_of(self, player: Player | None = None, *, after: int, **wanted: object) -> Said:
        """Wait for a process to tell something, and return it."""
        while True:
            more = self._more
            for teller, said in self.told[after:]:
                if player in (None, teller) and wanted.items() <= said.items():
                    return said
            await more.wait()

    def heard(self, player: Player, said: Said) -> None:
        """Hear what a process tells of itself."""
        self.told.append((player, said))
        self._more.set()
        self._more = anyio.Event()
        name, lane = player.part.name, said.get("lane") or 0
        match said.get("event"):
            case "TookOver":
                self.active.setdefault(name, set()).add(lane)
            case "Released" | "LeaseEnded" | "StoodBy":
                self._is_over(name, lane)
            case "Ended" if said["how"] == "crashed":
                self.crashes.append(f"{player.name}: {said['role']} crashed: {said['error']}")

    def _is_over(self, name: str, lane: int) -> None:
        lanes = self.active.get(name, set())
        lanes.discard(lane)
        if not lanes:
            self.active.pop(name, None)

    @contextmanager
    def holding(self, chance: random.Random, suits: Callable[[Player], bool]) -> Iterator[Player]:
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

    @contextmanager
    def own_server(self) -> Iterator[OwnServer]:
        """Take the server that is our own.

        :raises Nobody: if there is none, or another fault is being done to it
        """
        with self._holding_server():
            if not isinstance(self.own, OwnServer):
                raise Nobody
            yield self.own

    @contextmanager
    def own_servers(self) -> Iterator[Replicated[OwnNode]]:
        """Take the servers that are our own. As `own_server`."""
        with self._holding_server():
            if self.own is None or isinstance(self.own, OwnServer):
                raise Nobody
            yield self.own

    @contextmanager
    def _holding_server(self) -> Iterator[None]:
        if self.server_held:
            raise Nobody
        self.server_held = True
        try:
            yield
        finally:
            self.server_held = False

    def ended(self, player: Player, status: int) -> None:
        """Hear that a process has ended."""
        self.active.pop(player.part.name, None)
        if status not in _EXPECTED:
            self.crashes.append(f"{player.name}: exit status {status}: {player.last_words()}")

    async def mend(self) -> None:
        """End every fault that is still being done, or to be done."""
        for player in self.players:
            await player.tell(do="disarm")
            player.proxy.heal()
            player.signal(signal.SIGCONT)

    async def stop(self, player: Player) -> None:
        """Have a process stop, and wait; one that does not is killed."""
        if player.alive:
            self.note("stop", player.name)
            player.signal(signal.SIGCONT)
            player.signal(signal.SIGTERM)
            with anyio.move_on_after(STOP_S):
                await player.gone()
        if player.alive:
            self.note("kill", player.name, note="it did not stop")
            player.signal(signal.SIGKILL)
            await player.gone()

    async def clean(self) -> None:
        """Delete every key of the run; servers of its own vanish with all they have.

        :raises ServerError: if the server did not answer, or refused
        """
        if self.own:
            return
        with translated():
            async for key in self.client.scan_iter(f"{self.queue.keys.namespace}:*"):
                await self.command("UNLINK", key)

    def count(self, what: str) -> int:
        """Return how much was published, or handled, up to now."""
        return sum(player.counts[what] for player in self.players)

    async def command(self, *words: object, **parsing: bool) -> Any:
        """Run a command of redis-cli. See `scripts.command`.

        :raises ServerError: if the server did not answer, or refused
        """
        return await scripts.command(self.client, *words, **parsing)

    async def term(self, player: Player) -> "Term":
        """Return the term of a consumer in a lane that it is active in; or of whoever is now."""
        consumer = f"{self.queue.name}.{player.part.name}"
        lane = min(self.active.get(player.part.name, ()), default=0)
        key = self.queue.every_lane[lane].keys.lease(None if self.queue.ordered else consumer)
        return Term(key, await self._epoch(key))

    async def followed(self, term: "Term") -> None:
        """Wait until a term is over; or, for it may not be, long enough."""
        with anyio.move_on_after(3 * self.lease_ttl_s):
            while await self._epoch(term.key) == term.epoch:  # noqa: ASYNC110 - the event is another process's
                await anyio.sleep(0.002)

    async def _epoch(self, key: str) -> str | None:
        epoch: str | None = await self.command("HGET", key, "epoch")
        return epoch


@dataclass(frozen=True, slots=True)
class Term:
    """A lease, and the epoch that it has."""

    key: str
    epoch: str | None


def handles(player: Player) -> bool:
    """Suit a fault of consumers."""
    return player.part.kind == "consumer"


def publishes(player: Player) -> bool:
    """Suit a fault of producers."""
    return player.part.kind == "producer"


def anyone(_player: Player) -> bool:
    """Suit a fault of any process."""
    return True
