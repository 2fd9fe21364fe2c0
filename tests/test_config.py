"""What stands in config/ and in the README, held against the code."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from delayq import settings
from delayq.app import App
from delayq.arguments import positional, read
from delayq.cli import COMMANDS, _command
from delayq.commands.run import load
from delayq.events import Event
from delayq.settings import AppSettings, DelaySettings, RunSettings, Settings
from delayq.supervisor import LAST_RESORT_S
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


def test_replicas_with_long_names_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = "a-service-of-many-words-in-production"  # a pod's name is 63 characters at most
    names = set()
    for replica in ("7c9fdb4c5d-x2x9z", "7c9fdb4c5d-q8k4m"):
        monkeypatch.setattr(socket, "gethostname", lambda pod=f"{deployment}-{replica}": pod)
        names.add(settings.own_name())
    assert len(names) == 2
    assert all(deployment in name for name in names)


def test_what_has_a_place_of_its_own_is_no_variable() -> None:
    placed = {name for command in COMMANDS for name in positional(command.settings)}
    one_word = {"target", "queue", "state", "body", "measurement", "number"}
    assert placed == one_word | {"message_id", "group_name"}
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


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
UNIT = (ROOT / "config" / "delayq@.service").read_text()
LONGEST_STOP_S = settings.load(AppSettings).grace_ms / 1000 + LAST_RESORT_S


def understood(
    line: str, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Read a command line as delayq itself would."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command, flags = _command(shlex.split(line))
    assert command
    return read(command.settings, flags, MODELS)


def unit(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.M)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_delayq_understands_the_services_of_the_compose_file(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = COMPOSE["services"][name]
    told = service.get("environment", {})
    assert told.keys() <= DEFAULTS.keys()
    url = re.sub(r"\$\{\w+:-(.*)\}", r"\1", told.get("DELAYQ_REDIS_URL", ""))
    lines = re.findall(r"python -m delayq ([^;&]*)", shlex.split(str(service["command"]))[-1])
    said = [understood(line, told | {"DELAYQ_REDIS_URL": url}, monkeypatch) for line in lines]
    assert bool(said) == ("DELAYQ_REDIS_URL" in told)
    assert all(int(service["stop_grace_period"].strip("s")) > LONGEST_STOP_S for _ in said)


def test_the_app_of_the_compose_file_and_of_the_unit_can_be_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT / "config")
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = {*unit("ExecStart"), *(COMPOSE["services"][f"app-{n}"]["command"] for n in (1, 2, 3))}
    targets = {re.search(r"delayq run (\S+?)\"?$", line)[1] for line in words}  # type: ignore[index]
    assert targets == {"shop:app"}
    app = load("shop:app")
    assert isinstance(app, App)
    assert app.roles("app-1")


def test_delayq_understands_the_unit_and_ends_before_systemd_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = dict(line.split("=", 1) for line in unit("Environment"))
    assert told.keys() <= DEFAULTS.keys()
    known = {name: value.replace("%l-%i", "host-1") for name, value in told.items()}
    (line,) = unit("ExecStart")
    assert isinstance(understood(line.split("-m delayq ")[1], known, monkeypatch), RunSettings)
    assert (unit("KillSignal"), unit("RestartPreventExitStatus")) == (["SIGTERM"], ["2"])
    assert int(unit("TimeoutStopSec")[0]) > LONGEST_STOP_S


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    path = tmp_path / "delayq@1.service"
    path.write_text(UNIT.replace("/srv/shop/.venv/bin/python", sys.executable))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in said.stderr.splitlines() if "delayq@" in line]
    assert (said.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", ["operating.md", "sizing.md"])
def test_what_the_guides_name_is_there(name: str) -> None:
    text = (ROOT / "config" / name).read_text()
    for command in re.findall(r"python -m delayq ([a-z][a-z -]*)", text):
        assert _command(command.split())[0], command
    assert set(re.findall(r"DELAYQ_\w+", text)) <= DEFAULTS.keys()
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "config" / path).exists(), path
    assert f"(config/{name})" in README


def test_the_log_lines_of_the_guide_are_those_of_events() -> None:
    text = (ROOT / "config" / "operating.md").read_text()
    known = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
        for kind in Event.__subclasses__()
    }
    lines = re.findall(r"`([a-z ]+?)(?: …)? (?:\w+=|…)", text)
    assert len(lines) > 10
    assert set(lines) <= known
