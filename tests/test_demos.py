"""What the demos' verdicts are computed from, on made-up histories, and their pictures."""

import json
import re

import pytest

from delayq.demos.picture import Turn, timeline
from delayq.demos.report import Handling, Report, Takeover
from delayq.distribution import histogram, quantile


def handled(number: int, epoch: int = 1, *, early: bool = False) -> Handling:
    return Handling(
        number, f"m{number}", (number, 0), f"c{epoch}", epoch, float(number), 1.0, early
    )


def report(*handlings: Handling, published: int = 3, causes: str = "") -> Report:
    takeovers = [Takeover(cause, "c1", "c2", 2, 1, 5.0) for cause in causes.split()]
    return Report(list(handlings), takeovers, published, ends=len(takeovers))


def failover_ok(history: Report, *, acknowledged: bool = True) -> bool:
    return history.failover_verdict(0, acknowledged=acknowledged).ok


def test_a_clean_history_passes() -> None:
    clean = report(handled(1), handled(2), handled(3))
    assert failover_ok(clean)
    assert clean.delay_verdict({"m1"}, 1).ok


def test_a_lost_message_is_found() -> None:
    assert not failover_ok(report(handled(1), handled(3)))
    assert not report(handled(1), handled(3)).delay_verdict(set(), 0).ok


def test_what_is_still_in_redis_is_not_lost() -> None:
    history = report(handled(1))
    assert not failover_ok(history)
    history.remaining, history.interrupted = 2, True
    assert failover_ok(history)


def test_where_nothing_was_handled_all_is_lost() -> None:
    assert not failover_ok(report(published=120))
    assert not report(published=120).delay_verdict(set(), 0).ok


def test_one_role_alone_does_not_judge_what_it_cannot_know() -> None:
    producer = report(published=3)
    producer.alone = True
    assert failover_ok(producer)
    assert producer.delay_verdict(set(), 0).ok
    consumer = report(handled(1), handled(2), handled(2), published=0)
    consumer.alone = True
    assert failover_ok(consumer), "another one may have died"
    consumer.handlings.append(handled(1))
    assert not failover_ok(consumer)


def test_a_takeover_that_was_not_shown_is_missed() -> None:
    short = report(handled(1), handled(2), handled(3))
    short.ends = 3
    assert not failover_ok(short)


def test_a_duplicate_is_found_unless_a_death_explains_it() -> None:
    again = (handled(1), handled(2), handled(2, 2), handled(3, 2))
    assert not failover_ok(report(*again))
    assert not failover_ok(report(*again, causes="stop"))
    assert failover_ok(report(*again, causes="kill"))
    assert not report(*again).delay_verdict(set(), 0).ok


def test_a_broken_order_is_found_over_all_and_within_a_term() -> None:
    assert not failover_ok(report(handled(1), handled(3), handled(2)))
    assert not failover_ok(
        report(handled(1), handled(2), handled(3), handled(3, 2), handled(2, 2), causes="kill kill")
    )
    assert failover_ok(
        report(handled(1), handled(2), handled(3), handled(2, 2), handled(3, 2), causes="kill kill")
    )


def test_an_early_message_and_a_missing_correction_are_found() -> None:
    early = report(handled(1), handled(2), handled(3, early=True))
    assert not early.delay_verdict(set(), 0).ok
    assert not report(handled(1), handled(2), handled(3)).delay_verdict({"m1", "m2"}, 1).ok


def test_without_acknowledging_each_has_to_begin_with_the_first() -> None:
    anew = report(handled(1), handled(2), handled(1, 2), handled(2, 2), handled(3, 2))
    assert failover_ok(anew, acknowledged=False)
    assert not failover_ok(
        report(handled(1), handled(2), handled(2, 2), handled(3, 2)), acknowledged=False
    )


def test_the_verdict_as_json_is_one_line() -> None:
    verdict = report(handled(1), handled(2), handled(3), causes="stop")
    parsed = json.loads(verdict.failover_verdict(1, acknowledged=True).as_json())
    assert parsed["takeovers"] == [
        {"cause": "stop", "from": "c1", "to": "c2", "epoch": 2, "reclaimed": 1, "ms": 5.0}
    ]
    assert list(parsed)[:2] == ["demo", "ok"]


@pytest.mark.parametrize(
    ("part", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1, 100)]
)
def test_quantiles_are_by_nearest_rank(part: float, expected: float) -> None:
    assert quantile(range(100, 0, -1), part) == expected
    assert quantile([], part) is None


def test_the_timeline_shows_who_handled_what() -> None:
    turns = [
        Turn("c1", 0, "active", 1),
        Turn("c2", 1, "standby"),
        Turn("c1", 5, "killed"),
        Turn("c2", 5, "active", 2),
    ]
    handlings = [handled(1), handled(2), handled(3, 2)]
    drawn = timeline(turns, handlings, 0, 10, columns=24).splitlines()
    assert drawn[1] == "c1  ██████████"
    assert drawn[2].split() == ["1–2"]
    assert drawn[3] == "c2    ········██████████"
    assert drawn[4].index("3–3") == len("c2  ") + 10


def test_the_histogram_counts_all() -> None:
    drawn = histogram("lateness", [3.2, 3.6, 5.5, 40_000]).splitlines()
    assert drawn[0] == "lateness"
    assert (drawn[1].lstrip()[:6], drawn[1][-2:]) == ("< 4 ms", " 2")
    assert drawn[-1].startswith("≥ 10000 ms")
    assert sum(int(count) for line in drawn for count in re.findall(r" (\d+)$", line)) == 4
    assert histogram("lateness", []) == "lateness"
