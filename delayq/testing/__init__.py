"""What a service is tested with: the app as it is, on a server of its own, with a moved clock.

    app ── running(app) ──▶ embedded server · the app's own consumers, pollers, tickers, p1 … pn
                                      ▲
    clock.advance(days=7) ── wait until all is quiet ─▶ move to the next moment ─▶ again

Nothing of the queue is pretended: only the time is. A week takes as long as its handlers take.
Leases, and the way to notice that a process is gone, stay in real time: that takes about 0.2 s.
"""

from delayq.testing.moved import START, MovedClock
from delayq.testing.quiet import NotQuiet
from delayq.testing.stage import Running, running

__all__ = ["START", "MovedClock", "NotQuiet", "Running", "running"]
