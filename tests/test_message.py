from string import ascii_letters, digits
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator

from delayq.body import Codec
from delayq.errors import InvalidMessage, MalformedEntry
from delayq.message import (
    JSON,
    MAX_BODY_BYTES,
    decode_entry,
    new_id,
    new_ids,
    unpack,
    with_body,
)
from delayq.outgoing import MAX_KEY_BYTES, encode_fields

characters = st.characters(exclude_categories=["Cs"])
text = st.text(characters)
keys = st.text(characters, max_size=MAX_KEY_BYTES // 4)  # of as many bytes each, at most
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=10,
)


@given(body=json_values, key=st.none() | keys, headers=st.dictionaries(text, text))
def test_what_is_encoded_is_read_back(body: Any, key: str | None, headers: dict[str, str]) -> None:
    message = decode_entry(
        "5-0", ["id", "m1", "due", "7", *encode_fields(JSON.encode(body), key, headers)], 1
    )
    assert (message.body, message.key, message.headers) == (body, key, headers)
    assert (message.id, message.due_ms, message.published_ms, message.deliveries) == ("m1", 7, 7, 1)


def test_a_foreign_entry_with_only_a_body_is_a_message() -> None:
    message = decode_entry("1700-3", ["body", '{"a":1}'], 2)
    assert (message.id, message.body) == ("1700-3", {"a": 1})
    assert (message.due_ms, message.published_ms, message.deliveries) == (1700, 1700, 2)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["other", "1"],
        ["body", "{"],
        ["body", ""],
        ["body", '"\udcff"'],
        ["body", "1", "due", "soon"],
        ["body", "1", "deliveries", "x"],
        ["body", "1", "headers", "[]"],
        ["body", "1", "headers", '{"a":1}'],
        ["body", "[" * 100_000],
        ["body", '"' + "x" * MAX_BODY_BYTES + '"'],
        ["body", "1"] * 65,
    ],
)
def test_what_is_no_message_is_malformed(fields: list[str]) -> None:
    with pytest.raises(MalformedEntry):
        decode_entry("1-0", fields, 1)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise LookupError("nothing can be said")


class Sized(BaseModel):
    """A body whose validator fails as no validator should."""

    size: int

    @field_validator("size", mode="before")
    @classmethod
    def _looked_up(cls, size: Any) -> int:
        if size.strip() == "bad":
            raise UnspeakableError
        return {"small": 1}[size.strip()]


@pytest.mark.parametrize(
    ("size", "why"),
    [("7", "AttributeError"), ('"large"', "KeyError"), ('"bad"', "UnspeakableError")],
)
def test_a_body_whose_validator_fails_is_malformed_whatever_it_raises(size: str, why: str) -> None:
    codec = Codec[Sized](Sized)
    assert decode_entry("1-0", ["body", '{"size":" small"}'], 1, codec).body.size == 1
    with pytest.raises(MalformedEntry, match=f"body: {why}"):
        decode_entry("1-0", ["body", f'{{"size":{size}}}'], 1, codec)


class Order(BaseModel):
    """A body that is written by other names than its attributes have."""

    model_config = ConfigDict(extra="forbid")

    user_id: int = Field(alias="userId")

    @computed_field
    def doubled(self) -> int:
        return 2 * self.user_id


class Sent(BaseModel):
    """A body that is written by other names than it is read by."""

    user_id: int = Field(serialization_alias="userId")
    size: int = Field(3, serialization_alias="n")


class Crossed(BaseModel):
    """One whose aliases no name leads back from."""

    user_id: int = Field(validation_alias="user", serialization_alias="userId")


class Halved(BaseModel):
    """One that is read as another."""

    size: float

    @field_validator("size")
    @classmethod
    def _half(cls, size: float) -> float:
        return size / 2


@pytest.mark.parametrize("body", [Order(userId=1), {"userId": 1}])
def test_a_model_with_aliases_and_computed_fields_is_read_as_it_was_written(body: Any) -> None:
    codec = Codec[Order](Order)
    assert codec.encode(body) == '{"userId":1}'
    assert codec.decode(codec.encode(body)) == Order(userId=1)


def test_a_model_with_aliases_for_writing_alone_is_read_as_it_was() -> None:
    codec, body = Codec[Sent](Sent), Sent(user_id=1, size=9)
    assert codec.decode(codec.encode(body)) == body


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (Crossed, {"user": 1}, "^body: user: Field required, when its JSON is read"),
        (Halved, {"size": 4}, "^body: it is another one, when its JSON is read"),
        (
            float,
            float("nan"),
            "body: the whole: .* valid number, when its JSON is read",
        ),
        (Sized, {"size": " small"}, "body: AttributeError.*, when its JSON is read"),
    ],
)
def test_what_could_not_be_read_is_not_written(kind: Any, body: Any, why: str) -> None:
    with pytest.raises(InvalidMessage, match=why):
        Codec(kind).encode(body)


def test_deliveries_before_a_retry_are_kept() -> None:
    assert decode_entry("1-0", ["body", "1", "deliveries", "3"], 1).deliveries == 4


def test_a_body_alone_stands_behind_when_it_was_published_in_base_36() -> None:
    assert unpack("mx0bva5b [1, 2]") == ["body", "[1, 2]", "published", "1795865362463"]


@pytest.mark.parametrize("packed", ["", "{}", "[1,2]", '["a"]', "[]", "x", "12345678901 1"])
def test_what_is_no_scheduled_message_is_malformed(packed: str) -> None:
    with pytest.raises(MalformedEntry):
        unpack(packed)


def test_another_body_leaves_the_other_fields() -> None:
    assert with_body(["key", "k", "body", "1"], '{"n":2}') == ["key", "k", "body", '{"n":2}']


def test_ids_differ_and_are_letters_and_digits() -> None:
    ids = [*(new_id() for _ in range(10_000)), *new_ids(10_000)]
    assert len(set(ids)) == 20_000
    assert {len(each) for each in ids} == {12}
    assert {*"".join(ids)} == {*ascii_letters, *digits}
