import math
from datetime import UTC, datetime, timedelta

import pytest

from delayq.errors import InvalidMessage
from delayq.message import JSON, MAX_BODY_BYTES, MAX_DELAY_MS
from delayq.outgoing import checked_id, encode_fields, when


@pytest.mark.parametrize("body", [object(), math.nan, math.inf, {1, 2}, "\ud800"])
def test_a_body_that_is_no_json_is_refused(body: object) -> None:
    with pytest.raises(InvalidMessage, match="body"):
        encode_fields(JSON.encode(body))


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    encode_fields("x" * MAX_BODY_BYTES)
    with pytest.raises(InvalidMessage, match=f"body: {MAX_BODY_BYTES + 1} bytes"):
        encode_fields("x" * (MAX_BODY_BYTES + 1))


def test_the_parts_of_a_message_have_limits() -> None:
    with pytest.raises(InvalidMessage, match="key: 257 bytes"):
        encode_fields("1", key="k" * 257)
    with pytest.raises(InvalidMessage, match="headers"):
        encode_fields("1", headers={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidMessage, match="id"):
        checked_id("")
    with pytest.raises(InvalidMessage, match="id: 129 bytes"):
        checked_id("i" * 129)


@pytest.mark.parametrize(
    "delay", [-1, -0.001, math.nan, math.inf, timedelta(milliseconds=-1), MAX_DELAY_MS / 1000 + 1]
)
def test_a_delay_out_of_range_is_refused(delay: timedelta | float) -> None:
    with pytest.raises(InvalidMessage, match="delay"):
        when(delay, None)


def test_due_times_are_relative_to_the_servers_now_or_absolute() -> None:
    assert when(None, None) == "+0"
    assert when(1.5, None) == "+1500"
    assert when(0.0004, None) == "+1"
    assert when(None, datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == "1893456000001"
    assert when(timedelta(days=3650), None) == "+315360000000"
    assert when(None, datetime(2030, 1, 1, tzinfo=UTC)) == "1893456000000"
    with pytest.raises(InvalidMessage, match="timezone"):
        when(None, datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidMessage, match="not both"):
        when(1, datetime(2030, 1, 1, tzinfo=UTC))
