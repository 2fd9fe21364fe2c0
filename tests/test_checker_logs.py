"""The checker on what processes say, and on what is left: each planted anomaly is found."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delayq.verify.history import Fault, FaultKind, Found, Handled, Handling, Published
from delayq.verify.log import Log, merged, read
from tests.histories import START_MS, Story, key


def a_run() -> Story:
    """Begin with two messages, published, fetched, one handled; and one on the schedule."""
    s = Story()
    s.asked("a")
    s.publish("a")
    s.receipt("a", START_MS + 1_000)
    s.publish("b")
    s.publish("d", delay_ms=600_000)
    s.acquire("c1")
    s.fetch("a", "b")
    s.handle("c1", "a")
    return s


def over(s: Story) -> None:
    """Have the second holder take over, and fetch what is pending."""
    s.acquire("c2", dead=True)
    s.reclaim("a", "b")
    s.fetch("a", "b")


# -- what processes say --


def _published_and_lost(s: Story) -> None:
    s.receipt("z", START_MS)


def _published_as_a_duplicate_of_nothing(s: Story) -> None:
    s.receipt("z", START_MS, receipt_id="y")


def _refused_and_there(s: Story) -> None:
    s.refused("b")


def _a_phantom(s: Story) -> None:
    s.entries["z"], s.deliveries["z"] = "5-5", 1
    s.handle("c1", "z")


def _handled_and_not_delivered(s: Story) -> None:
    s.publish("e")
    s.deliveries["e"] = 1
    s.handle("c1", "e")


def _handled_with_another_count(s: Story) -> None:
    s.begins("c1", "b", deliveries=2)


def _acknowledged_and_not_handled(s: Story) -> None:
    s.ack("a", "b")


def _acknowledged_and_failed(s: Story) -> None:
    s.handle("c1", "b", "raised")
    s.ack("a", "b")


def _dead_and_nothing_raised(s: Story) -> None:
    s.handle("c1", "b")
    s.dead_letter("b")


def _due_another_time_than_the_receipt_says(s: Story) -> None:
    s.receipt("d", START_MS)


def _due_by_another_clock(s: Story) -> None:
    s.asked("d", "+500000")
    s.receipt("d", s.scores["d"])


def _another_key_than_was_published(s: Story) -> None:
    s.asked("d", "+600000", key="k")
    s.receipt("d", s.scores["d"])


def _two_messages_of_one_dedup_id(s: Story) -> None:
    for name in ("e", "f"):
        s.asked(name, dedup_id="once")
        s.publish(name)
        s.receipt(name, s.now_ms)


def _one_epoch_of_two_consumers(s: Story) -> None:
    s.holder = "c2@" + s.holder.partition("@")[2]
    s.handle("c2", "b")


def _handled_again_under_the_same_lease(s: Story) -> None:
    s.fetch("a")
    s.handle("c1", "a")


def _handled_again_after_a_graceful_stop(s: Story) -> None:
    s.fault("stop", "c1")
    s.release()
    s.acquire("c2")
    s.reclaim("a", "b")
    s.fetch("a", "b")
    s.handle("c2", "a")


def _handled_again_and_no_fault(s: Story) -> None:
    over(s)
    s.handle("c2", "a")


def _handled_again_and_the_fault_was_another_s(s: Story) -> None:
    s.fault("kill", "c9")
    over(s)
    s.handle("c2", "a")


def _handled_again_and_the_fault_ends_no_lease(s: Story) -> None:
    s.fault("server other")
    s.fault("stop", "c1")
    over(s)
    s.handle("c2", "a")


def _two_at_once_and_a_fault_that_stalls_nobody(s: Story) -> None:
    s.begins("c1", "b")
    s.fault("server start")
    over(s)
    s.handle("c2", "a")


def _handled_again_as_the_same_delivery(s: Story) -> None:
    s.fault("kill", "c1")
    over(s)
    s.begins("c2", "a", deliveries=1)


def _more_handled_again_than_was_in_flight(s: Story) -> None:
    s.publish("e")
    s.fetch("e")
    s.handle("c1", "b")
    s.handle("c1", "e")
    s.fault("kill", "c1")
    s.acquire("c2", dead=True)
    s.reclaim("a", "b", "e")
    s.fetch("a", "b", "e")
    for name in "abe":
        s.handle("c2", name)


def _two_at_once_and_no_stall(s: Story) -> None:
    s.begins("c1", "b")
    s.fault("cut", "c1")
    over(s)
    s.handle("c2", "a")


def _begun_beside_a_newer_one(s: Story) -> None:
    old, holder = s.epoch, s.holder
    s.fault("cut", "c1")
    over(s)
    s.begins("c2", "a")
    s.epoch, s.holder = old, holder
    s.begins("c1", "b", deliveries=1)


def _a_check_that_passed_beside_a_newer_one(s: Story) -> None:
    old = s.epoch
    s.fault("cut", "c1")
    over(s)
    s.begins("c2", "a")
    s.checked("c1", "b", old)


PLANTED: list[tuple[str, str, Callable[[Story], None]]] = [
    ("I1", "z was published, and is lost", _published_and_lost),
    ("I1", "y was published, and is lost", _published_as_a_duplicate_of_nothing),
    ("I1", "b was refused, and is there", _refused_and_there),
    ("I1", "z was handled, and never published", _a_phantom),
    ("I1", "and was not delivered so", _handled_and_not_delivered),
    ("I1", "b was handled as delivery 2", _handled_with_another_count),
    ("I1", "b was acknowledged under epoch", _acknowledged_and_not_handled),
    ("I1", "b was acknowledged under epoch", _acknowledged_and_failed),
    ("I1", "b died of 'rejected', and no handler", _dead_and_nothing_raised),
    ("I2", "the receipt of d tells", _due_another_time_than_the_receipt_says),
    ("I2", "d is due 100000 ms after the time asked", _due_by_another_clock),
    ("I1", "the key of d", _another_key_than_was_published),
    ("I7", "'once' is the dedup id of e, and of f", _two_messages_of_one_dedup_id),
    ("I5", "is of two consumers, c1@", _one_epoch_of_two_consumers),
    ("I3", "its consumer held the lease", _handled_again_under_the_same_lease),
    ("I3", "gave its lease back", _handled_again_after_a_graceful_stop),
    ("I3", "no fault tells why c1@", _handled_again_and_no_fault),
    ("I3", "no fault tells why c1@", _handled_again_and_the_fault_was_another_s),
    ("I3", "no fault tells why c1@", _handled_again_and_the_fault_ends_no_lease),
    ("I3", "c1 handled a message under epoch", _two_at_once_and_a_fault_that_stalls_nobody),
    ("I3", "a was handled twice as delivery 1", _handled_again_as_the_same_delivery),
    ("I3", "3 messages of epoch", _more_handled_again_than_was_in_flight),
    ("I3", "c1 handled a message under epoch", _two_at_once_and_no_stall),
    ("I3", "c1 handled a message under epoch", _begun_beside_a_newer_one),
    ("I3", "c1 passed a check under epoch", _a_check_that_passed_beside_a_newer_one),
]


@pytest.mark.parametrize(("invariant", "said", "plant"), PLANTED)
def test_an_anomaly_is_found(invariant: str, said: str, plant: Callable[[Story], None]) -> None:
    s = a_run()
    assert not s.judged(drained=False).violations
    plant(s)
    violations = s.judged(drained=False).violations
    assert any(said in v.sentence for v in violations if v.invariant == invariant), violations


def test_a_refusal_holds_for_its_attempt_alone() -> None:
    s = a_run()
    for again in (s.refused, s.asked):
        s.asked("e")
        s.refused("e")
        again("e")
    s.publish("e")
    assert not s.judged(drained=False).violations


@pytest.mark.parametrize("kind", ["kill", "freeze", "stall", "cut", "server kill", "server stall"])
def test_a_fault_allows_as_many_repeats_as_were_in_flight(kind: str) -> None:
    s = a_run()
    s.fault(kind, "c1")
    over(s)
    s.handle("c2", "a")
    s.handle("c2", "b")
    verdict = s.judged(drained=False)
    assert not verdict.violations
    assert (verdict.counts["extra"], verdict.counts["extra_allowed"]) == (1, 2)


def test_who_is_killed_runs_no_handler_once_its_heir_does() -> None:
    s = a_run()
    s.fault("kill", "c1")
    s.begins("c1", "b")  # between the log and the signal
    over(s)
    s.handle("c2", "a")
    s.handle("c2", "b")
    verdict = s.judged(drained=False)
    assert not verdict.violations
    assert not verdict.counts["overlaps"]


@pytest.mark.parametrize("stalled", [True, False])
def test_who_was_stalled_may_begin_late_what_its_heir_has_handled(*, stalled: bool) -> None:
    s = a_run()
    before = s.epoch, s.holder
    if stalled:
        s.fault("stall", "c1", ms=4_000)
    over(s)
    s.handle("c2", "a")
    s.handle("c2", "b")
    s.epoch, s.holder = before
    s.begins("c1", "b", deliveries=1)
    verdict = s.judged(drained=False)
    assert (not verdict.violations) == stalled
    assert verdict.counts["extra"] == 2, "those of the first holder"
    why = [v.sentence for v in verdict.violations if v.sentence.startswith("b was handled again")]
    assert [" no fault tells why c1@" in sentence for sentence in why] == [True] * (not stalled)


def test_a_stall_that_is_noticed_afterwards_tells_why() -> None:
    s = a_run()
    s.begins("c1", "b")
    over(s)
    s.handle("c2", "a")
    s.fault("stall", "c1", ms=4_000)
    assert not s.judged(drained=False).violations


@pytest.mark.parametrize(
    ("kind", "target", "lasts_ms", "tells"),
    [
        ("cut", "c1", 0, False),
        ("cut", "c1", 2_500, True),
        ("server stall", "", 2_500, True),
        ("slow", "c1", 2_500, False),  # it is told when it is over
    ],
)
def test_a_fault_tells_why_for_as_long_as_it_lasts(
    kind: FaultKind, target: str, lasts_ms: int, *, tells: bool
) -> None:
    s = a_run()
    s.events.insert(0, Fault(1, "nemesis", kind, target, lasts_ms))
    over(s)
    s.handle("c2", "a")
    said = [v.sentence for v in s.judged(drained=False).violations]
    assert ["no fault tells why" in each for each in said] == ([] if tells else [True])


@pytest.mark.parametrize("kind", ["thaw", "slow"])
def test_what_was_noticed_of_a_stall_tells_why_two_are_at_once(kind: FaultKind) -> None:
    s = a_run()
    s.begins("c1", "b")
    s.fault(kind, "c1", 1)
    over(s)
    s.handle("c2", "a")
    verdict = s.judged(drained=False)
    assert not verdict.violations
    assert verdict.counts["faults"] == (kind == "thaw")


def test_a_server_that_is_slow_tells_why_a_lease_was_lost_and_not_why_its_holder_went_on() -> None:
    s = a_run()
    s.begins("c1", "b")
    s.fault("server slow", "", 1)
    over(s)
    s.handle("c2", "a")
    [violation] = s.judged(drained=False).violations
    assert "beside" in violation.sentence


def test_what_a_forgetful_server_lost_is_counted_and_no_violation() -> None:
    s = a_run()
    _published_and_lost(s)
    _a_phantom(s)
    s.events.insert(0, Fault(1, "nemesis", "server kill", ""))
    verdict = s.judged(durable=False, drained=False)
    assert not verdict.violations
    assert (verdict.counts["lost"], verdict.counts["lost_with_server"]) == (0, 1)


@pytest.mark.parametrize("handled", [_a_phantom, _handled_and_not_delivered])
@pytest.mark.parametrize(("durable", "died"), [(False, True), (False, False), (True, True)])
def test_a_handling_that_the_audit_does_not_have_was_forgotten_by_a_server_that_died_later(
    handled: Callable[[Story], None], *, durable: bool, died: bool
) -> None:
    s = a_run()
    handled(s)
    if died:
        s.fault("server kill")
    verdict = s.judged(durable=durable, drained=False)
    forgotten = died and not durable
    assert [v.invariant for v in verdict.violations] == ([] if forgotten else ["I1"])
    assert verdict.counts["phantom"] == (0 if forgotten else 1)


def test_what_was_confirmed_to_be_safe_is_lost_by_no_server() -> None:
    s = a_run()
    s.fault("server kill")
    s.receipt("z", START_MS, durability="replicated")
    assert not s.judged(durable=False, drained=False, safe="fsynced").violations
    [violation] = s.judged(durable=False, drained=False, safe="replicated").violations
    assert violation.sentence == "z was published, and is lost"


def test_what_a_server_forgot_may_be_published_anew() -> None:
    s = a_run()
    s.receipt("b", START_MS)
    s.fault("server kill")
    s.receipt("b", s.scores.get("b", START_MS + 2_000))
    assert {v.invariant for v in s.judged(drained=False).violations} == {"I2"}
    assert not s.judged(durable=False, drained=False).violations


def _handled_before(s: Story) -> None:
    """Have a message handled, of which nobody knows that it was: its server died."""
    s.handle("c1", "b")


def _handled_at_the_same_time(s: Story) -> None:
    s.begins("c1", "b")


@pytest.mark.parametrize("before", [_handled_before, _handled_at_the_same_time])
def test_what_a_server_forgot_to_be_handled_is_handled_again(
    before: Callable[[Story], None],
) -> None:
    def history(fault: str) -> Story:
        s = a_run()
        before(s)
        s.fault(fault)
        s.acquire("c2", dead=True)
        s.reclaim("a", "b")
        s.begins("c2", "b", deliveries=1)
        s.deliveries["b"] = 1
        return s

    verdict = history("server kill").judged(durable=False, drained=False)
    assert not verdict.violations
    assert (verdict.counts["extra"], verdict.counts["extra_with_server"]) == (0, 1)
    for fault, durable in (("server kill", True), ("server other", False)):
        found = history(fault).judged(durable=durable, drained=False).violations
        assert "b was handled twice as delivery 1" in {v.sentence for v in found}


def test_what_was_published_and_is_not_handled_yet_is_live() -> None:
    verdict = a_run().judged(drained=False)
    assert (verdict.counts["live"], verdict.counts["lost"]) == (3, 0)


# -- what is left --


def left(s: Story) -> dict[str, Found]:
    """Return the keys that this history leaves."""
    rows = [(s.entries[name], {"body": name}) for name in "ab"]
    owned = {s.entries[name]: (s.holder, 1) for name in "ab"}
    return {
        "stream": key("stream", "stream", rows, pending=owned, consumers=(s.holder,)),
        "schedule": key("schedule", "zset", {s.members["d"]: float(s.scores["d"])}),
        "bodies": key("bodies", "hash", {"d": "…"}),
        "arrival": key("arrival", "string", "1"),
        "lease": key("lease", "hash", {"epoch": "1"}, expires=True),
        "epoch": key("epoch", "string", "1"),
        "bell": key("bell", "stream", [], expires=True),
        "queues": Found("test:lanes", "set", {"orders"}),
    }


LEFT: list[tuple[str, str, dict[str, Any]]] = [
    ("I1", "stream: 1 (", {"stream": lambda k: {"content": k.content[:1]}}),
    (
        "I1",
        "stream, pending: 1 (",
        {"stream": lambda k: {"pending": dict([*k.pending.items()][:1])}},
    ),
    (
        "I1",
        "stream, pending: 2 (",
        {"stream": lambda k: {"pending": dict.fromkeys(k.pending, ("x", 1))}},
    ),
    ("I1", "schedule: 1 (", {"schedule": lambda k: {"content": dict.fromkeys(k.content, 5.0)}}),
    ("I1", "bodies: 2 (d, e)", {"bodies": lambda _: {"content": {"d": "", "e": ""}}}),
    ("I1", "arrival: 7 is there", {"arrival": lambda _: {"content": "7"}}),
    ("I1", "bodies is not there", {"bodies": None}),
    ("I6", "lease is left, and does not end", {"lease": lambda _: {"expires": False}}),
    ("I6", "bell is left, and does not end", {"bell": lambda _: {"expires": False}}),
    ("I6", "parked is left", {"parked": key("parked", "hash", {"k": "0-0 1 "})}),
    ("I6", "a key that nobody knows", {"x": key("x", "hash", {})}),
    ("I6", "a key of no lane", {"x": Found("test:{other:0}:bodies", "hash", {})}),
]


def test_what_should_be_left_passes() -> None:
    s = a_run()
    assert not s.judged(found=tuple(left(s).values()), drained=False).violations


@pytest.mark.parametrize(("invariant", "said", "other"), LEFT)
def test_something_else_is_found(invariant: str, said: str, other: dict[str, Any]) -> None:
    s = a_run()
    found = left(s)
    for part, change in other.items():
        if change is None:
            del found[part]
        elif isinstance(change, Found):
            found[part] = change
        else:
            was = {name: getattr(found[part], name) for name in Found.__dataclass_fields__}
            found[part] = Found(**was | change(found[part]))
    violations = s.judged(found=tuple(found.values()), drained=False).violations
    assert [v.invariant for v in violations if said in v.sentence] == [invariant], violations


def test_after_a_run_that_was_drained_nothing_may_be_left() -> None:
    s = a_run()
    said = [v.sentence for v in s.judged(found=tuple(left(s).values())).violations]
    parts = ("schedule", "bodies", "arrival")
    assert said == [
        *(f"test:{{orders:0}}:{part} is left, though all was drained" for part in parts),
        "test:{orders:0}:: 3 messages are left, though all was drained",
    ]


# -- the logs themselves --


def test_what_is_logged_is_read_again_in_the_order_of_time(tmp_path: Path) -> None:
    with Log(tmp_path / "p", "p") as p, Log(tmp_path / "c", "c1") as c:
        p.write(Published, queue="q", id="a", receipt_id="a", due_ms=5, duplicate=False)
        told = {"queue": "q", "id": "ü\ud800", "entry": "1-0", "epoch": 7}
        c.write(Handling, **told, consumer="c1@7", deliveries=1)
        p.write(Fault, kind="kill", target="c1")
        c.write(Handled, **told, how="ok")
    events = list(merged([tmp_path / "c", tmp_path / "p"]))
    assert [type(event) for event in events] == [Published, Handling, Fault, Handled]
    assert [event.process for event in events] == ["p", "c1", "p", "c1"]
    assert isinstance(events[1], Handling)
    assert (events[1].id, events[1].epoch, events[1].key) == ("ü\ud800", 7, None)


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with Log(path, "c1") as log:
        log.write(Fault, kind="kill", target="c1")
    path.write_text(path.read_text() + '{"is": "Fault", "at": 5}\n')
    with pytest.raises(ValueError, match="line 2"):
        list(read(path))


def test_a_line_that_a_kill_cut_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with Log(path, "c1") as log:
        for target in ("c1", "c2"):
            log.write(Fault, kind="kill", target=target)
    path.write_bytes(path.read_bytes()[:-9])
    assert [event.target for event in read(path) if isinstance(event, Fault)] == ["c1"]


def test_a_killed_process_loses_no_line(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from delayq.verify.history import Fault\n"
        "from delayq.verify.log import Log\n"
        "log = Log(pathlib.Path(sys.argv[1]), 'c1')\n"
        "for n in range(1000): log.write(Fault, kind='cut', target=str(n))\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "c"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    assert [event.target for event in read(path) if isinstance(event, Fault)] == [
        str(number) for number in range(1000)
    ]
