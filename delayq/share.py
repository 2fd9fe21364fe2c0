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

    async def attend(self, dead: Collection[str] = (), *, takes_part: bool = True) -> set[str]:
        """Show that we take part; return who does.

        :param dead: members that were found dead. One that lives shows itself again
        :param takes_part: False to be none of them from now on, and only look
        :raises ServerError: if the server did not answer, or refused
        """
        shown, gone = (self._me, dead) if takes_part else ("", (*dead, self._me))
        args = [shown, SEEN_MS, "", *gone]
        return set(await scripts.run(self._client, "attend", [self._key], args))

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
        self.dead: set[str] = set()
        """Members found dead, of which the others do not know yet."""
        self._members = {me}
        self._places: set[int] = set()
        """Lanes that it holds, or tries to take."""
        self._changed = anyio.Event()
        self._doubt = anyio.Event()

    @property
    def quota(self) -> int:
        """How many lanes are for this consumer."""
        return quota((self._members - self.dead) | {self._me}, self._me, self._lanes)

    def see(self, members: set[str], told: Collection[str] = ()) -> None:
        """Hear who takes part.

        :param told: the dead that the others know of now
        """
        self._members = members
        self.dead.difference_update(told)
        self._tell()

    def lose(self, name: str) -> None:
        """Hear that a member died: its lanes are shared at once."""
        if name in self._members:
            self.dead.add(name)
            self._doubt.set()
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
