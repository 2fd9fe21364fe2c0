"""How long lanes had no owner, from terms and faults made by hand."""

from typing import Literal

from delayq.verify.figures import ALL
from delayq.verify.history import Fault, FaultKind, Lease
from delayq.verify.owners import Owners

SERVER_MS = 500.0
"""By how much the server's clock is ahead of that of the faults."""

Ended = Literal["", "released", "expired", "taken over"]


def term(name: str, since_ms: int, until_ms: int, ended: Ended, lane: int = 0) -> Lease:
    place = ("orders", lane, "lease", f"orders.{name}@{since_ms}", since_ms)
    return Lease(*place, since_ms * 1000, until_ms * 1000, ended)


def last(name: str, since_ms: int, lane: int = 0) -> Lease:
    return Lease(
        *("orders", lane, "lease", f"orders.{name}@{since_ms}", since_ms, since_ms * 1000, None, "")
    )


def fault(at_ms: int, kind: FaultKind, target: str = "") -> Fault:
    return Fault(round((at_ms - SERVER_MS) * 10**6), "nemesis", kind, target)


def without(leases: list[Lease], *faults: Fault) -> dict[str, list[float]]:
    return Owners(leases, faults, SERVER_MS).without()


def test_who_died_has_no_lane_from_then_on() -> None:
    leases = [term("c1", 1_000, 5_200, "taken over"), last("c2", 5_200)]
    assert without(leases, fault(5_000, "kill", "c1.1")) == {"kill": [200]}


def test_a_lease_that_was_given_back_is_so_for_a_stop_or_for_another() -> None:
    leases = [
        *(term("c1", 1_000, 2_000, "released"), term("c2", 2_003, 3_000, "released")),
        last("c1", 3_007),
    ]
    assert without(leases, fault(1_990, "stop", "c1.1")) == {"stop": [3], "handover": [7]}


def test_what_befell_another_process_of_the_name_ended_nothing() -> None:
    leases = [term("c1", 1_000, 5_000, "expired"), last("c2", 5_004)]
    first, second = fault(3_000, "kill", "c1.1"), fault(4_000, "freeze", "c1.2")
    assert without(leases, first, second) == {"kill": [2_004]}
    all_at_once = Fault(first.at_ns, "nemesis", "kill", "c1.1", note=ALL)
    assert without(leases, all_at_once) == {"kill of all": [2_004]}
    elsewhere = fault(3_000, "kill", "c2.1"), fault(900, "kill", "c1.1"), fault(9_000, "stop")
    assert without(leases, *elsewhere) == {"expired": [4]}


def test_of_several_stalls_the_last_one_counts() -> None:
    leases = [term("c1", 1_000, 6_000, "expired"), last("c2", 6_010)]
    faults = fault(2_000, "stall", "c1.1"), fault(5_000, "freeze", "c1.1")
    assert without(leases, *faults) == {"freeze": [1_010]}
    assert without(leases, *faults, fault(5_500, "server kill")) == {"server": [510]}


def test_each_lane_has_owners_of_its_own() -> None:
    leases = [
        *(term("c1", 1_000, 2_000, "taken over", lane) for lane in (0, 1)),
        *(last("c2", 2_000 + lane, lane) for lane in (0, 1)),
    ]
    assert without(leases, fault(1_900, "kill", "c1.1")) == {"kill": [100, 101]}


def test_a_lease_that_was_given_back_when_everybody_died_is_not_blamed_for_that() -> None:
    leases = [term("c1", 1_000, 2_000, "released"), last("c2", 4_000)]
    died = Fault(fault(2_001, "kill").at_ns, "nemesis", "kill", "c1.1", note=ALL)
    assert without(leases, died) == {"kill of all": [2_000]}
    assert without(leases, fault(2_001, "server stall")) == {"server": [2_000]}
    assert without(leases, fault(2_001, "kill", "c1.1")) == {"handover": [2_000]}
