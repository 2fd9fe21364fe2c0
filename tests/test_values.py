import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayq import InvalidName, LaneKeys, Reject, Retry, RetryLater
from delayq.errors import InvalidMessage
from delayq.events import DeadLettered, Retried, TookOver
from delayq.logs import log_trouble
from delayq.retry import Again, DeadLetter


def test_all_keys_of_a_lane_share_a_hash_tag() -> None:
    for key in [*LaneKeys("ns", "q", 3).all, LaneKeys("ns", "q", 3).lease("c1")]:
        assert key.startswith("ns:{q:3}:")


def test_no_two_parts_share_a_key() -> None:
    keys = LaneKeys("ns", "q")
    parts = [*keys.all, keys.lease("c1")]
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a{b}", "ü", "x" * 129, "a\n", "a@1"])
def test_names_that_cannot_stand_in_a_key_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        LaneKeys("ns", name)
    with pytest.raises(InvalidName):
        LaneKeys(name, "q")


@given(st.integers(1, 50), st.floats(0, 1))
def test_backoff_doubles_up_to_its_cap_with_full_jitter(deliveries: int, dice: float) -> None:
    policy = Retry(max_deliveries=None, base_ms=100, cap_ms=5_000)
    decided = policy.decide(deliveries, ValueError("no"), lambda: dice)
    bound = min(5_000, 100 * 2 ** (deliveries - 1))
    assert decided == Again(round(bound * dice), "ValueError: no")


def test_the_last_delivery_that_fails_makes_a_dead_letter() -> None:
    policy = Retry(max_deliveries=3)
    assert isinstance(policy.decide(2, ValueError()), Again)
    assert policy.decide(3, ValueError("no")) == DeadLetter("max deliveries", "ValueError: no")
    assert policy.decide(3, RetryLater(5)) == DeadLetter(
        "max deliveries", "RetryLater: again in 5 ms"
    )


def test_an_error_tells_where_it_was_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("no number")
    decided = Retry().decide(1, caught.value)
    assert isinstance(decided, Again)
    assert re.fullmatch(r"ValueError: invalid .* \(at .*test_values\.py:\d+\)", decided.error)


def test_an_error_that_cannot_be_said_is_decided_on_all_the_same() -> None:
    class UnspeakableError(ValueError):
        def __str__(self) -> str:
            raise LookupError

    class UnspeakableReject(Reject):
        def __str__(self) -> str:
            raise LookupError

    decided = Retry(max_deliveries=1).decide(1, UnspeakableError())
    assert decided == DeadLetter("max deliveries", "UnspeakableError: it cannot be said")
    decided = Retry().decide(1, UnspeakableReject())
    assert decided == DeadLetter("rejected", "it cannot be said")


def test_trouble_is_told_where_nobody_observes(caplog: pytest.LogCaptureFixture) -> None:
    log_trouble(Retried("c1", 5, "m1", 1, 100, ""))
    log_trouble(TookOver("c1", 5, "free", {}, ()))
    assert not caplog.records
    log_trouble(Retried("c1", 5, "m1", 1, 100, "ValueError: no"))
    log_trouble(DeadLettered("c1", 5, "m1", 5, "max deliveries", "ValueError: no"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "ValueError: no" in caplog.text


def test_a_handler_can_decide_by_itself() -> None:
    assert Retry().decide(1, RetryLater(7)) == Again(7)
    assert Retry().decide(1, Reject("bad")) == DeadLetter("rejected", "bad")
    with pytest.raises(InvalidMessage, match="delay_ms"):
        RetryLater(-1)


def test_a_crash_counts() -> None:
    assert Retry(max_deliveries=3).exhausted(4)
    assert not Retry(max_deliveries=3).exhausted(3)
    assert not Retry(max_deliveries=None).exhausted(10**9)


def test_a_policy_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="max_deliveries"):
        Retry(max_deliveries=0)
    with pytest.raises(ValueError, match="base_ms"):
        Retry(base_ms=100, cap_ms=10)
    for never in ([ValueError], ValueError, ("ValueError",), (ValueError, int)):
        with pytest.raises(ValueError, match="never: a tuple of exceptions"):
            Retry(never=never)  # type: ignore[arg-type]
