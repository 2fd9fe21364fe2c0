"""A fixture for pytest, with the plugin of anyio: `pytest_plugins = ["delayq.testing.pytest"]`.

Define a fixture `delayq_app` that returns your app, and ask for `delayq_running`. For more than
one process, define `delayq_processes`, too.
"""

from collections.abc import AsyncIterator

import pytest

from delayq.app import App
from delayq.testing.stage import Running, running


@pytest.fixture
def delayq_processes() -> int:
    """How many processes are simulated."""
    return 1


@pytest.fixture
async def delayq_running(delayq_app: App, delayq_processes: int) -> AsyncIterator[Running]:
    """Yield the app, running on a server of its own. See `running`."""
    async with running(delayq_app, processes=delayq_processes) as stage:
        yield stage
