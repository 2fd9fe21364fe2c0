"""The pace: how many messages are worth having in hand."""

import math

from delayq.clock import mono_s

AHEAD_S = 0.01
"""How far ahead is fetched: what is handled in this time. So a fast handler never waits for the
server, and nothing waits for a slow one that another consumer might handle, or that a death would
count."""


class Pace:
    """Measures how fast messages are settled, and tells how many to fetch.

    :param at_once: messages that are handled at once
    :param batch: messages fetched at once, at most
    """

    def __init__(self, at_once: int, batch: int) -> None:
        self._at_once = at_once
        self._batch = batch
        self._recent = 0.0
        """Messages settled in `AHEAD_S`: a moving average that forgets in about that time."""
        self._settled = 0
        self._looked_at = mono_s()

    def settled(self) -> None:
        """Count a message."""
        self._settled += 1

    def room(self, in_hand: int) -> int:
        """Tell how many messages to fetch beside those in hand: 0 until it is worth a call."""
        now_s = mono_s()
        passed = max(now_s - self._looked_at, 1e-6) / AHEAD_S
        faded = math.exp(-passed)
        self._recent = self._recent * faded + self._settled * (1 - faded) / passed
        self._settled, self._looked_at = 0, now_s
        ahead = min(int(self._recent), 2 * self._batch)
        room = self._at_once + ahead - in_hand
        # By halves: one is handled while the other is fetched.
        return (
            min(self._batch, room, self._at_once + ahead // 2) if 4 * room >= max(ahead, 4) else 0
        )
