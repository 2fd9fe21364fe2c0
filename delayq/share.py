"""A consumer's share: how many lanes of an ordered queue are for it, beside the other consumers.

Nobody hands lanes out. Each consumer shows itself, sees the same members as the others, and so
knows its quota. Below it, it takes a lane that is free; above it, it hands the excess over. When a
member joins no other's quota grows, and when one leaves none shrinks: so no lane moves twice.
"""

from collections.abc import Collection

import anyio
from redis.asyncio import Redis

from delayq import scripts
from delayq.keys import LaneKeys

ATTEND_S = 1.0
"""How often a member shows itself."""
SEEN_MS = 3_000
"""Whoever did not for so long is a member no more."""
FREE_S = 1.0
"""A lane that stays free for longer is for anybody."""


def quota(members: Collection[str], me: str, lanes: int) -> int:
    """Tell how many lanes are for `me`. All are given out, as evenly as can be.

    :param members: by name, `me` among them
    """
    each, more = divmod(lanes, len(members))
    return each + (sorted(members).index(me) < more)


class Members:
    """The consumers that share a queue, as the server knows them."""

    def __init__(self, client: Redis, keys: LaneKeys, me: str) -> None:
        self._client = client
        self._key = keys.members
        self._me = me

    async def attend(self) -> dict[str, int]:
        """Show that we take part; return who does, and when each was last seen, ms.

        :raises ServerError: if the server did not answer, or refused
        """
        found = await scripts.run(self._client, "attend", [self._key], [self._me, SEEN_MS, ""])
        return {name: int(at) for name, at in zip(found[::2], found[1::2], strict=True)}

    async def leave(self) -> None:
        """Take part no more.

        :raises ServerError: if the server did not answer, or refused
        """
        await scripts.command(self._client, "ZREM", self._key, self._me)


class Share:
    """The places of one consumer: as many as lanes are for it. Alone it has one for each."""

    def __init__(self, me: str, lanes: int) -> None:
        self._me = me
        self._lanes = lanes
        self._seen = {me: 0}
        self._lost: set[str] = set()
        """Members found dead since we last looked."""
        self._dead: dict[str, int] = {}
        """Members found dead before, and when each showed itself last."""
        self._places: set[int] = set()
        """Lanes that it holds, or tries to take."""
        self._changed = anyio.Event()
        self._doubt = anyio.Event()

    @property
    def quota(self) -> int:
        """How many lanes are for this consumer."""
        shown = {name for name, at in self._seen.items() if at > self._dead.get(name, -1)}
        return quota((shown - self._lost) | {self._me}, self._me, self._lanes)

    def see(self, seen: dict[str, int]) -> None:
        """Hear who takes part, and when each was last seen."""
        self._seen = seen
        # What a dead member showed last we may see only now.
        self._dead |= {name: seen.get(name, 0) for name in self._lost}
        self._dead = {name: at for name, at in self._dead.items() if name in seen}
        self._lost.clear()
        self._tell()

    def lose(self, name: str) -> None:
        """Hear that a member died: its lanes are shared at once, until it shows itself anew."""
        self._lost.add(name)
        self._tell()

    def claim(self, lane: int, *, anyway: bool = False) -> bool:
        """Take a place for a lane, if there is one.

        :param anyway: take one beyond the quota, too
        """
        if lane in self._places or anyway or len(self._places) < self.quota:
            self._places.add(lane)
            return True
        return False

    def give_up(self, lane: int) -> None:
        """Give the place for a lane back."""
        self._places.discard(lane)
        self._tell()

    async def room(self) -> bool:
        """Wait for a place, for a lane that is free; tell whether there is one.

        :return: False if the lane was free for so long that anybody may take it
        """
        self._doubt.set()  # who left it is no member any more, perhaps
        with anyio.move_on_after(FREE_S):
            while len(self._places) >= self.quota:
                await self._changed.wait()
            return True
        return False

    async def doubted(self, timeout_s: float) -> None:
        """Wait until it is worth looking who takes part, but not for longer than this."""
        with anyio.move_on_after(timeout_s):
            await self._doubt.wait()
        self._doubt = anyio.Event()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
