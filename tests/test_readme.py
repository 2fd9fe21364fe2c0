"""The programs in the README do what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from delayq import Server
from tests.processes import clean_environment, running

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = re.findall(r"<!-- run by the tests(?:: (\S+))? -->\n```python\n(.*?)```", README, re.S)
SCRIPTS = [program for name, program in PROGRAMS if not name]
FILES = {name: program for name, program in PROGRAMS if name}


def runs(program: str, cwd: Path | None = None, **variables: str) -> str:
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=clean_environment(PYTHONPATH=str(cwd or ""), **variables),
    )
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def test_all_but_the_fragment_for_the_web_are_run() -> None:
    assert README.count("```python") == len(PROGRAMS) + 1


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_a_program_by_itself_runs(number: int) -> None:
    runs(SCRIPTS[number])


async def test_the_shop_handles_what_is_published(server: Server, tmp_path: Path) -> None:
    for name, program in FILES.items():
        (tmp_path / name).write_text(program)
    where = {"DELAYQ_REDIS_URL": server.url, "PYTHONPATH": str(tmp_path)}
    with running("run", "shop:app", **where) as shop:
        shop.logged("running until Ctrl-C")
        runs(FILES["publish.py"], tmp_path, DELAYQ_REDIS_URL=server.url)
        assert shop.process.stdout
        said = [shop.process.stdout.readline().strip() for _ in range(4)]
    assert [line for line in said if "order" in line] == [
        "order 1 of customer-7, delivery 1",
        "order 2 of customer-7, delivery 2",
        "order 3 of customer-7, delivery 1",
    ]
    assert "to user 1: tea" in said
