"""Shows which mutants are killed: `python -m tests.mutants [NAME …] [--list] [--at-once N]`.

Each is planted in a copy of the package, and its killer is run against that. Exit status: 0 if all
are killed, 1 if one survives, 2 if it cannot be told: no such name, an anchor that is lost, a
killer that fails without a mutant as well.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import MUTANTS
from tests.mutants.mutant import AnchorLost, Mutant

HERE = Path(__file__).parents[2]
TEST_TIMEOUT_S = 20
PASSED, FAILED = 0, 1  # of the exit statuses of pytest


class Unclear(Exception):
    """Raised when it cannot be told whether a mutant is killed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: Mutant
    killed: bool
    took_s: float

    @property
    def row(self) -> str:
        said = "killed" if self.killed else "SURVIVED"
        return f"{self.mutant.name:<60}  {said:<8}  {self.took_s:5.1f} s  {self.mutant.killer}"


@contextmanager
def copied(*mutants: Mutant) -> Iterator[Path]:
    """Copy the package and its tests, with mutants planted, to a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        unneeded = shutil.ignore_patterns("__pycache__")
        for part in ("delayq", "tests"):
            shutil.copytree(HERE / part, Path(folder, part), ignore=unneeded)
        shutil.copy(HERE / "pyproject.toml", folder)
        for mutant in mutants:
            mutant.plant(Path(folder, "delayq"))
        yield Path(folder)


def tested(folder: Path, killers: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run tests against the package in a folder, up to the first failure."""
    quick = ("-x", "-q", "-p", "no:cacheprovider", "--timeout", str(TEST_TIMEOUT_S))
    return subprocess.run(
        [sys.executable, "-m", "pytest", *quick, *(f"tests/{killer}" for killer in killers)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def judge(mutant: Mutant) -> Verdict:
    """Plant a mutant, and see whether its killer notices."""
    began = time.monotonic()
    with copied(mutant) as folder:
        run = tested(folder, [mutant.killer])
    if run.returncode not in {PASSED, FAILED}:
        raise Unclear(f"{mutant.name}: {mutant.killer} cannot be run:\n{run.stdout}{run.stderr}")
    return Verdict(mutant, run.returncode == FAILED, time.monotonic() - began)


def chosen(names: Sequence[str]) -> list[Mutant]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in names if name not in known]:
        raise Unclear(f"{unknown[0]}: no such mutant; --list tells them")
    return [known[name] for name in names] or MUTANTS


def check(mutants: Sequence[Mutant]) -> None:
    """See that each can be planted, and that without them all killers pass."""
    for mutant in mutants:
        mutant.changed(HERE / "delayq")
    with copied() as folder:
        run = tested(folder, sorted({mutant.killer for mutant in mutants}))
    if run.returncode != PASSED:
        raise Unclear(f"a killer fails without a mutant as well:\n{run.stdout}{run.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("name", nargs="*", help="of a mutant; by default all")
    parser.add_argument("--list", action="store_true", help="tell the mutants, and run nothing")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="by default 2")
    arguments = parser.parse_args()
    try:
        mutants = chosen(arguments.name)
        if arguments.list:
            print(*(f"{mutant.name:<60}  {mutant.killer}" for mutant in mutants), sep="\n")
            return 0
        check(mutants)
        survivors = 0
        with ThreadPoolExecutor(max(1, arguments.at_once)) as judges:
            for verdict in judges.map(judge, mutants):
                print(verdict.row, flush=True)
                survivors += not verdict.killed
    except (AnchorLost, Unclear) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(mutants) - survivors} of {len(mutants)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
