"""Progress on stderr: a bar by rich on a terminal, else a line for each thing begun."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from delayq import logs

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress for as long as the context is open. Nothing is drawn unless it is told."""
    if sys.stderr.isatty() and find_spec("rich"):
        with _bar() as tell:
            yield tell
    else:
        begun = ""

        def tell_lines(what: str, _done: int, _of: int) -> None:
            nonlocal begun
            if what != begun:
                begun = what
                logs.tell("measuring", what=what)

        yield tell_lines


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.progress import Progress as Bar  # noqa: PLC0415 - an extra

    # Not refreshed by a thread: it would be measured, too.
    with Bar(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("")

        def tell(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, refresh=True)

        yield tell
