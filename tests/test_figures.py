"""What a run measures, from logs made by hand."""

from delayq.verify.figures import Figures
from delayq.verify.history import Fault, FaultKind, Handling


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
