"""The live view: lines in a frame, drawn again ten times a second. Needs rich, an extra."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

REFRESH_S = 0.1


@asynccontextmanager
async def live(title: str, lines: Callable[[], Sequence[str]]) -> AsyncIterator[None]:
    """Show what `lines` draws, for as long as the context is open."""
    from rich.live import Live  # noqa: PLC0415 - an extra
    from rich.panel import Panel  # noqa: PLC0415 - an extra
    from rich.text import Text  # noqa: PLC0415 - an extra

    def drawn() -> Panel:
        return Panel(Text("\n".join(lines()), no_wrap=True), title=title, padding=(0, 1))

    with Live(drawn(), auto_refresh=False) as screen:

        async def refresh() -> None:
            while True:
                screen.update(drawn(), refresh=True)
                await anyio.sleep(REFRESH_S)

        async with anyio.create_task_group() as refreshing:
            refreshing.start_soon(refresh)
            try:
                yield
            finally:
                refreshing.cancel_scope.cancel()
        screen.update(drawn(), refresh=True)
