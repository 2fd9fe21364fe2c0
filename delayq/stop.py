"""A stop: asked for once, it cuts short what a role waits for, now and later."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Stop:
    """Whether a role was asked to stop, and what that cuts short."""

    def __init__(self) -> None:
        self.asked = False
        self._scopes: set[anyio.CancelScope] = set()

    def ask(self) -> None:
        """Ask for it. It may be asked for again."""
        self.asked = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def cuts(self) -> Iterator[anyio.CancelScope]:
        """Return a scope that a stop cancels: at once, if it was asked for already."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self.asked:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
