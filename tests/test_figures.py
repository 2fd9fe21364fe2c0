"""What a run measures, from logs made by hand."""

from delayq.verify.figures import Figures
from delayq.verify.history import Fault, FaultKind, Handling, Published, Publishing, Verdict
from delayq.verify.outcome import Outcome
from delayq.verify.settings import VerifySettings


def figures(*events: Handling | Fault) -> Figures:
    read = Figures(server_ms=0, ordered=True, lease_ttl_ms=1_000)
    for event in events:
        read.recorded(event)
    return read


def handling(at_ms: int, process: str, epoch: int) -> Handling:
    entry, consumer = f"{at_ms}-0", f"{process}@{epoch}"
    return Handling(at_ms * 10**6, process, "orders", entry, entry, epoch, consumer, 1)


def fault(at_ms: int, kind: FaultKind, target: str = "") -> Fault:
    return Fault(at_ms * 10**6, "nemesis", kind, target)


def asked(at_ms: int, message_id: str) -> Publishing:
    return Publishing(at_ms * 10**6, "p1", "orders", message_id, "+0")


def accepted(at_ms: int, message_id: str) -> Published:
    return Published(at_ms * 10**6, "p1", "orders", message_id, message_id, 0, duplicate=False)


def test_a_failover_lasts_from_the_fault_to_the_next_holders_first_message() -> None:
    read = figures(
        handling(1, "c1", 1),
        fault(1_000, "kill", "c1"),
        handling(1_200, "c2", 2),
        fault(2_000, "kill", "c1"),
        fault(3_000, "server kill"),
        handling(3_700, "c1", 3),
    )
    assert read.failovers == {"kill": [200], "server": [700]}


def test_what_a_holder_has_survived_is_not_what_it_was_followed_for() -> None:
    begins = handling(1, "c1", 1), fault(1_000, "stall", "c1")
    assert figures(*begins, handling(9_000, "c2", 2)).failovers == {"block": [8_000]}
    assert not figures(*begins, handling(4_001, "c1", 1), handling(9_000, "c2", 2)).failovers


def test_a_publish_waits_from_when_it_was_first_asked_for_until_it_is_accepted() -> None:
    read = Figures(server_ms=0, ordered=True, lease_ttl_ms=1_000)
    for event in (
        *(asked(900, "early"), accepted(2_000, "early")),
        *(asked(2_990, "in flight"), fault(3_000, "server kill")),
        *(asked(3_100, "later"), asked(6_200, "later"), accepted(6_500, "later")),
        *(accepted(6_510, "in flight"), asked(7_000, "after"), accepted(7_010, "after")),
        *(fault(9_000, "server kill"), asked(9_001, "twice"), asked(9_001, "twice")),
        *(accepted(9_003, "twice"), accepted(9_900, "twice")),
    ):
        read.recorded(event)
    assert read.waits == [3_520, 2]


def test_what_was_slow_is_no_fault_that_somebody_is_followed_for() -> None:
    read = figures(handling(1, "c1", 1), fault(900, "slow"), handling(1_000, "c2", 2))
    assert not read.faults and not read.failovers


def test_the_faults_of_a_run_are_told_once_by_their_kind() -> None:
    verdict = Verdict({"acked": 7, "faults": 16}, (), {}, ())
    settings, struck = VerifySettings.model_validate({}), {"kill": 5, "stop": 3}
    outcome = Outcome(settings, 1, 1.0, struck, (), verdict, figures(), interrupted=False, left=0)
    told = [line for line in outcome.as_text().splitlines() if "fault" in line]
    assert told == ["faults    8: kill 5  stop 3"]
    assert "counts    acked 7\n" in outcome.as_text()
