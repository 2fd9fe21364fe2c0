"""The nursery: a process that has imported all, and forks what is to be ended, at once.

`python -m delayq.bench.nursery` reads orders from stdin, one JSON object a line, and forks a
process for each. These tell what happens on stdout, a line each; at the end of stdin they are
killed, so that none outlives the benchmark.
"""

import json
import os
import signal
import sys
import traceback
from functools import partial
from typing import Any

import anyio

from delayq.bench.roles import ROLES

LIFE_S = 1_800.0
"""The longest that a process may live, whatever happens to the nursery."""


def main(*, use_uvloop: bool) -> None:
    """Obey orders until stdin ends."""
    children: set[int] = set()
    try:
        for line in sys.stdin:
            children -= {pid for pid in children if _has_ended(pid)}
            if pid := os.fork():
                children.add(pid)
            else:
                _live(json.loads(line), use_uvloop=use_uvloop)
    finally:
        for pid in children:
            if not _has_ended(pid):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _has_ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def _live(order: dict[str, Any], *, use_uvloop: bool) -> None:
    """Play a role, and end this process."""
    status = 1
    try:
        _tell(order["name"], {"pid": os.getpid()})
        anyio.run(_bounded, order, backend_options={"use_uvloop": use_uvloop})
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process ends here, and nowhere else
        traceback.print_exc()
    finally:
        _tell(order["name"], {"ended": status})
        os._exit(status)


async def _bounded(order: dict[str, Any]) -> None:
    with anyio.move_on_after(LIFE_S):
        await ROLES[order["role"]](order, partial(_tell, order["name"]))


def _tell(name: str, told: dict[str, Any]) -> None:
    """Write a line: short enough that those of several processes do not mix."""
    os.write(sys.stdout.fileno(), (json.dumps({"from": name, **told}) + "\n").encode())


if __name__ == "__main__":
    main(use_uvloop="uvloop" in sys.argv)
