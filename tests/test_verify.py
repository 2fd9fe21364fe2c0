"""`python -m delayq verify` as a user runs it: what it shows, what it finds, what it leaves."""

import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from delayq import Server, ServerUnreachable
from delayq.verify import slowness
from delayq.verify.faults import FAMILIES, possible
from delayq.verify.plan import strikes
from tests.conftest import Client
from tests.processes import clean_environment, run, running, verdict
from tests.servers import program

QUICK = ("--seconds", "5", "--fault-ms", "400", "--per-second", "200", "--json")
OWN = ("--program", program())


def passes(*words: str, **variables: str) -> dict[str, Any]:
    """Run it, and return what it found."""
    said = run("verify", *QUICK, *words, **variables)
    assert said.returncode == 0, said.stdout + said.stderr
    found = verdict(said.stdout)
    assert found["ok"]
    told_at = [int(at) for at in re.findall(r"\bat_s=(\d+)", said.stderr)]
    assert told_at == sorted(set(told_at))
    assert found["counts"]["acked"] > 10, "however slow the machine is"
    assert found["counts"]["lost"] == found["counts"]["violations"] == 0
    return found


@pytest.mark.parametrize("ordering", ["none", "strict", "key"])
def test_a_short_run_of_every_ordering_holds_every_promise(ordering: str) -> None:
    found = passes("--seed", "2", "--ordering", ordering, *OWN)
    assert found["faults"] >= 2
    assert found["terms"] >= 1
    assert found["ordering"] == ordering
    assert found["lateness_ms"]["p50"] > 0
    assert not found["complaints"]


def test_lanes_are_shared_anew_while_consumers_come_and_go(tmp_path: Path) -> None:
    words = ("--lanes", "4", "--seed", "2", "--faults", "members,kill", "--report", str(tmp_path))
    found = passes(*words, *OWN)
    assert found["faults_by_kind"]["join"] >= 1 <= found["faults_by_kind"]["leave"]
    assert found["terms"] >= 4 + sum(told["count"] for told in found["ownerless_ms"].values()) > 4
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r">lane (\d+)<", page) == ["0", "1", "2", "3"]
    assert page.count("<rect") > found["terms"]


def test_competing_consumers_work_on_every_lane() -> None:
    found = passes("--lanes", "3", "--seed", "2", "--ordering", "none", *OWN)
    assert found["terms"] >= 9
    assert not found["complaints"]


def test_connections_of_consumers_are_found_to_be_cut() -> None:
    found = passes("--seed", "2", "--ordering", "strict", "--faults", "cut", *OWN)
    assert found["faults_by_kind"]
    assert found["faults_by_kind"].keys() <= {"cut a blocked reader", "cut any"}


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
def test_what_was_confirmed_to_be_replicated_survives_its_primary(topology: str) -> None:
    words = ("--topology", topology, "--lanes", "2", "--seed", "2", "--faults", "primary,kill")
    found = passes(*words, "--durability", "replicated", *OWN)
    assert found["faults_by_kind"]["kill a primary"] >= 1
    assert found["counts"]["lost_with_server"] == 0
    assert not found["complaints"]


def test_a_lane_whose_slot_moves_loses_nothing() -> None:
    words = ("--topology", "cluster", "--lanes", "2", "--seed", "2", "--ordering", "strict")
    found = passes(*words, "--faults", "slot,kill", *OWN)
    assert found["faults_by_kind"]["move a slot"] >= 1
    assert found["counts"]["lost_with_server"] == 0


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_server_that_is_killed_forgets_nothing_that_it_wrote_to_its_file(fsync: str) -> None:
    words = ("--seed", "2", "--ordering", "strict", "--faults", "server")
    found = passes(*words, "--fsync", fsync, *OWN)
    assert found["faults_by_kind"]["kill server"] >= 2
    # While a flush takes long, "everysec" answers before it writes: what is lost then is counted.
    assert found["counts"]["lost_with_server"] == 0 or fsync == "everysec"


def test_what_a_server_forgets_that_writes_to_no_file_is_counted() -> None:
    words = ("--seed", "1", "--faults", "server", "--fsync", "none", "--ordering", "none")
    said = run("verify", *QUICK, *words, *OWN)
    found = verdict(said.stdout)
    assert (said.returncode, found["ok"]) == (0, True), said.stdout
    assert found["counts"]["lost_with_server"] > 0


BREAKS = {
    "I1": (
        "redis.call('ZADD', schedule, unpack(members))",
        "if number % 20 > 0 then redis.call('ZADD', schedule, unpack(members)) end",
    ),
    "I2": ("'-inf', int(now), 'WITHSCORES'", "'-inf', int(now + 300), 'WITHSCORES'"),
    "I5": ("if redis.call('HGET', lease, 'epoch') ~= epoch then", "if false then"),
}


@pytest.mark.parametrize("invariant", BREAKS)
def test_a_broken_library_is_found_at_once_and_the_command_that_shows_it_again_is_told(
    invariant: str,
) -> None:
    words = ["--seed", "2", "--ordering", "strict", "--faults", "freeze"]
    quick = ["--seconds", "600", "--fault-ms", "400", "--per-second", "200"]
    said = subprocess.run(
        [sys.executable, "-m", "tests.breaking", *BREAKS[invariant], *quick, *words, *OWN],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean_environment(),
    )
    assert said.returncode == 1, said.stdout + said.stderr
    assert re.search(rf"^VIOLATED  {invariant}: \S+", said.stdout, re.M), said.stdout
    assert "violated: invariant=" in said.stderr, "told while it runs"
    [again] = re.findall(r"^again: (.*)", said.stdout, re.M)
    assert shlex.split(again)[:4] == ["python", "-m", "delayq", "verify"]
    assert {*words, *quick} <= {*shlex.split(again)}
    assert said.stdout.endswith("verdict: NOT OK\n")


async def test_on_a_users_server_only_what_is_harmless_is_done_and_nothing_is_left(
    server: Server, client: Client
) -> None:
    await client.set("theirs", "1")
    started = (await client.info("server"))["process_id"]
    found = passes("--seed", "2", "--ordering", "none", DELAYQ_REDIS_URL=server.url)
    assert set(found["faults_by_kind"]) <= set(possible(FAMILIES, {"", "one", "proxy"}))
    assert await client.keys("*") == ["theirs"]
    assert (await client.info("server"))["process_id"] == started


async def test_it_runs_over_tcp_too(client: Client) -> None:
    await client.config_set("port", "16399")
    try:
        url = "redis://127.0.0.1:16399/2"
        words = ("--seed", "2", "--ordering", "none", "--faults", "network")
        found = passes(*words, DELAYQ_REDIS_URL=url)
        assert found["faults"] >= 2
    finally:
        await client.config_set("port", "0")


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder of its own, whose path is short enough for a unix socket in it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="dq-") as folder:
        yield Path(folder)


def test_an_interrupted_run_is_judged_and_leaves_no_process_and_no_file(short: Path) -> None:
    words = ("--seconds", "600", "--seed", "2", "--ordering", "none", "--faults", "kill")
    with running("verify", *words, "--json", *OWN, TMPDIR=str(short)) as command:
        command.logged("running")
        [folder] = short.glob("delayq-verify-*")
        children = _children(command.process.pid)
        assert len(children) >= 5
        command.send(signal.SIGINT)
        found = command.wait()
    assert command.process.returncode == 0, found
    assert found["interrupted"]
    assert found["seconds"] < 60
    assert not folder.exists()
    assert not [pid for pid in children if _runs(pid)]


def test_the_report_is_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    words = ("--seed", "2", "--ordering", "strict", "--faults", "kill,stop")
    found = passes(*words, "--report", str(tmp_path / "new"), *OWN)
    page = (tmp_path / "new" / "report.html").read_text()
    assert not re.search(r"(?:src|href)=|@import|url\(", page)
    assert page.count("<rect") > found["terms"]
    assert "every invariant held" in page
    assert re.search(r">verify\.c\d<", page)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--faults", "kill,nonsense"), "--faults, DELAYQ_FAULTS: nonsense: no such fault; there"),
        (("--seconds", "0"), "--seconds, DELAYQ_SECONDS: "),
        (("--program", "/no/such"), "--program, DELAYQ_PROGRAM: no such file"),
        (("--report", __file__), "--report, DELAYQ_REPORT: a folder is needed"),
        (("--ordering", "fifo"), "--ordering, DELAYQ_ORDERING: "),
        (("--redis-url", "unix:///s", "--faults", "server"), "--faults: server cannot be done"),
        (("--redis-url", "unix:///s", "--faults", "memory"), "give --disruptive"),
        (("--redis-url", "rediss://h", "--faults", "network"), "no proxy can stand before"),
        (("--topology", "cluster", "--faults", "cut"), "--faults: cut cannot be done here: one"),
        (("--topology", "sentinel", "--faults", "slot"), "give --topology cluster"),
        (("--redis-url", "unix:///s", "--topology", "cluster"), "--topology: only of servers of"),
        (("--durability", "replicated"), "--durability: a replica is needed"),
        (("--durability", "fsynced", "--fsync", "none"), "--durability: a file is needed"),
    ],
)
def test_what_is_wrong_with_its_settings_is_told(words: tuple[str, ...], said: str) -> None:
    ended = run("verify", *words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_is_not_there_is_told() -> None:
    ended = run("verify", "--redis-url", "unix:///no/such/socket")
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr


def test_a_seed_decides_which_fault_is_done_when() -> None:
    def plan(seed: int) -> list[Any]:
        return list(strikes(seed, 60, 0.5, ["a", "b", "c"]))

    assert plan(7) == plan(7) != plan(8)
    assert 80 < len(plan(7)) < 160
    for at in range(0, 60, 3):
        assert {strike.fault for strike in plan(7)[at : at + 3]} == {"a", "b", "c"}


async def test_what_is_slow_is_told_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, told = iter([0.0, 5.0, 5.03, 5.06, 5.145, 6.0]), list[int]()
    monkeypatch.setattr(slowness, "mono_s", lambda: next(ticks))
    looks = iter([ServerUnreachable("killed"), None, None])

    async def look() -> None:
        if error := next(looks):
            raise error

    def tell(ms: int) -> None:
        told.append(ms)
        watching.cancel()

    with anyio.CancelScope() as watching:
        await slowness.watch(tell, 50, look)
    assert told == [60]


def _children(pid: int) -> set[int]:
    said = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    found = {int(word) for word in said.split()}
    return found | {grandchild for child in found for grandchild in _children(child)}


def _runs(pid: int) -> bool:
    """Tell whether a process runs: one that ended, and is not waited for, stands there too."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return said.rpartition(")")[2].split()[0] != "Z"
