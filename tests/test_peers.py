import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.peers.__main__ import arguments, main
from tests.peers.course import Bounds, Figures, lateness, rate
from tests.peers.peer import Peer, Unavailable, all_peers, install, read_peer
from tests.peers.pipe import Handled
from tests.peers.speak import body
from tests.peers.table import Row, report

TINY = [
    *("--messages", "400", "--seconds", "1", "--late", "5", "--span-s", "0.1", "--lead-s", "2"),
    *("--burst", "20", "--burst-s", "5", "--in-flight", "600", "--redeliver-s", "10"),
]
PEER = Peer("slow", "Slow", ("slow==1.2",), settings="as it comes", words="No order.")
RAW = Peer("raw", "raw loop", (), settings="500 at once", words="The limit.")
FIGURES: Figures = {
    "publish_per_s": 1234.4,
    "bulk_per_s": None,
    "drain_per_s": 500.0,
    "late_p50_ms": 1.234,
    "late_p99_ms": 99.96,
    "early": 3,
    "late_missing": 0,
    "burst_ms": 1500.2,
    "burst_handled": 5000,
    "in_hand": 10,
    "redelivered": 10,
    "redelivered_s": 12.34,
    "handled_twice": 0,
}


def reported(**figures: float | None) -> list[str]:
    """The cells of the slow peer's row, in a run whose raw loop drains 50,000 a second."""
    rows = [Row(RAW, {"drain_per_s": 50_000.0}), Row(PEER, FIGURES | figures)]
    said = report(rows, Bounds(), {"cores": 2})
    line = next(line for line in said.splitlines() if line.startswith("| Slow | 1.2 "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_each_figure_and_its_part_of_the_raw_drain() -> None:
    assert reported() == [
        *("Slow", "1.2", "1,234", "–", "500", "1", "1.23", "100", "3", "1,500", "10 in 12.3 s"),
    ]


def test_a_row_says_what_did_not_come_in_time() -> None:
    assert reported(late_missing=2)[8] == "3 (2 never came)"
    assert reported(burst_ms=None, burst_handled=4321)[9] == "4,321 within 20 s"
    lost = reported(redelivered_s=None, redelivered=1)
    assert lost[10] == "1 of 10: not within 40 s"
    assert reported(handled_twice=4)[10] == "10 in 12.3 s, 4 twice"


def test_a_peer_that_was_not_run_is_named_with_the_reason() -> None:
    said = report([Row(PEER, why_not="npm: not found")], Bounds(), {"cores": 2})
    assert "* Slow: npm: not found" in said
    assert "| Slow | 1.2 " not in said
    assert "| Slow | No order. | as it comes |" in said


def test_lateness_counts_the_early_and_the_missing() -> None:
    due_ms = 1000.0
    late = [Handled(n, n, due_ms, due_ms + n) for n in range(101)]
    early = [Handled(101, 101, due_ms, due_ms - 5), Handled(102, 102, due_ms, due_ms - 0.5)]
    found = lateness([*late, *early], of=110)
    assert found["late_p50_ms"] == pytest.approx(49)
    assert found["late_p99_ms"] == pytest.approx(98.98)
    assert (found["early"], found["late_missing"]) == (1, 7)


def test_a_rate_is_that_between_the_first_and_the_last_that_were_told_of() -> None:
    assert rate([Handled(1, 0, 0, 1000.0), Handled(101, 0, 0, 1500.0)]) == pytest.approx(200)
    assert rate([Handled(1, 0, 0, 1000.0)]) is None


def test_each_adapter_pins_what_it_is_measured_with() -> None:
    peers = all_peers()
    assert list(peers)[:2] == ["raw", "delayq"]
    assert len(peers) == 12
    for peer in list(peers.values())[2:]:
        for pin in peer.pins:
            assert ("@" if peer.is_node else "==") in pin
        assert peer.words.endswith(".")
    assert (peers["taskiq"].version, peers["bullmq"].version) == ("1.2.4", "6.7.0")


def test_an_adapter_without_a_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.py"
    path.write_text("import this\n")
    with pytest.raises(ValueError, match=r"bare\.py: no head"):
        read_peer(path)


def test_a_peer_that_cannot_be_installed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="npm"):
        install(replace(PEER, is_node=True), tmp_path)


@pytest.mark.parametrize("n", [0, 7, 49_999])
def test_a_body_has_a_hundred_bytes_of_json(n: int) -> None:
    for due_ms in (0, 1_795_467_946_216):
        assert len(json.dumps(body(n, due_ms), separators=(",", ":"))) == 100


@pytest.mark.parametrize(
    ("words", "named"),
    [(["kafka"], "peers: kafka"), (["--parts", "nap"], "parts: nap"), (["--late", "0"], "--late")],
)
def test_wrong_arguments_are_named(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(words)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_delayq_and_the_raw_loop_run_the_course(capsys: pytest.CaptureFixture[str]) -> None:
    main(["delayq", "--json", *TINY])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    raw, ours = said["peers"]
    assert (raw["peer"], ours["peer"]) == ("raw", "delayq")
    assert (raw["why_not"], ours["why_not"]) == (None, None)
    assert raw["drain_of_raw"] == 1
    assert (raw["drained"], ours["drained"]) == (400, 400)
    assert ours["drain_of_raw"] == pytest.approx(ours["drain_per_s"] / raw["drain_per_s"])
    assert min(ours["publish_per_s"], ours["bulk_per_s"]) > 0
    assert (ours["early"], ours["late_missing"], ours["burst_handled"]) == (0, 0, 20)
    assert ours["late_p50_ms"] <= ours["late_p99_ms"]
    assert ours["burst_ms"] > 0
    assert 0 < ours["redelivered"] == ours["in_hand"] <= 600
    assert ours["redelivered_s"] > 0
    assert said["bounds"]["messages"] == 400
