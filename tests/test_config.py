"""What stands in config/ and in the README, held against the code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from delayq.arguments import positional
from delayq.cli import COMMANDS
from delayq.settings import AppSettings, DelaySettings, Settings
from tests.servers import RealServer

ROOT = Path(__file__).parent.parent
MODELS: list[type[Settings]] = [
    *(command.settings for command in COMMANDS),
    DelaySettings,
    AppSettings,
]
# Of a setting that several commands have, that of an app, else of the delay demo, stands there.
README = (ROOT / "README.md").read_text()
DEFAULTS = {
    f"DELAYQ_{name.upper()}": field.default
    for settings in MODELS
    for name, field in settings.model_fields.items()
    if name not in positional(settings)
}


def test_the_environment_file_has_every_setting_with_its_default() -> None:
    lines = (ROOT / "config" / "delayq.env").read_text().splitlines()
    found = {}
    for before, line in zip(["", *lines], lines, strict=False):
        if match := re.fullmatch(r"(#?)(DELAYQ_\w+)=(.*)", line):
            assert before.startswith("# "), f"{match[2]}: no comment above it"
            found[match[2]] = None if match[1] else match[3]
    expected = {
        name: None if default is None else str(default).lower()
        for name, default in DEFAULTS.items()
    }
    assert {name: value and value.lower() for name, value in found.items()} == expected


def test_what_has_a_place_of_its_own_is_no_variable() -> None:
    placed = {name for command in COMMANDS for name in positional(command.settings)}
    assert placed == {"target", "queue", "message_id", "state", "body", "measurement", "number"}
    assert not {f"DELAYQ_{name.upper()}" for name in placed} & set(DEFAULTS)


def test_the_readme_tells_of_every_command() -> None:
    for command in COMMANDS:
        assert f"python -m delayq {' '.join(command.words)}" in README


async def test_a_real_server_takes_the_servers_configuration() -> None:
    lines = (ROOT / "config" / "redis.conf").read_text().splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    options = [part for name, value in words for part in (f"--{name}", value.strip('"'))]
    server = RealServer(*options)
    try:
        await server.start()
    finally:
        server.close()


def _compose() -> list[str] | None:
    """Find a compose command: the plugin, or the program of its own."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]):
            said = subprocess.run([*words, "version"], capture_output=True, check=False)
            if said.returncode == 0:
                return words
    return None


def test_the_compose_file_is_valid() -> None:
    compose = _compose()
    if compose is None:
        pytest.skip("needs docker compose")
    said = subprocess.run(
        [*compose, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
