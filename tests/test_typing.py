"""The types of the public interface, as mypy and pyright see them in a user's program."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TYPED = ROOT / "tests" / "sample" / "typed"
PYRIGHT = {
    "include": ["."],
    "typeCheckingMode": "strict",
    "reportUnusedFunction": False,
    "reportUnusedCoroutine": True,
}


def run(cwd: Path, *words: str) -> str:
    said = subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    return said.stdout + said.stderr


def mypy(folder: Path) -> dict[str, set[int]]:
    said = run(folder, "mypy", "--strict", "--cache-dir", str(folder / ".cache"), ".")
    assert "Found" in said or "Success" in said, said
    return _lines((name, int(line)) for name, line in re.findall(r"(\w+\.py):(\d+): error", said))


def pyright(folder: Path) -> dict[str, set[int]]:
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    said = run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable)
    found = json.loads(said[said.index("{") :])
    assert found["summary"]["filesAnalyzed"] == 2
    return _lines(
        (Path(d["file"]).name, d["range"]["start"]["line"] + 1)
        for d in found["generalDiagnostics"]
        if d["severity"] == "error"
    )


def _lines(found: object) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {}
    for name, line in found:  # type: ignore[attr-defined]
        lines.setdefault(name, set()).add(line)
    return lines


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_users_program_is_checked_and_what_is_wrong_in_it_is_flagged(
    tmp_path: Path, check: Callable[[Path], dict[str, set[int]]]
) -> None:
    for name in ("good.py", "bad.py"):
        (tmp_path / name).write_text((TYPED / name).read_text())
    text = (TYPED / "bad.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(text, 1) if line.endswith("# WRONG")}
    assert check(tmp_path) == {"bad.py": wrong}


def test_the_wheel_has_the_scripts_and_says_that_it_is_typed(tmp_path: Path) -> None:
    run(ROOT, "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    scripts = {f"delayq/lua/{path.name}" for path in (ROOT / "delayq" / "lua").glob("*.lua")}
    assert scripts | {"delayq/py.typed", "delayq/__main__.py"} <= names
    assert not any(name.startswith("tests") for name in names)
