"""Bodies: any JSON value, or a type that pydantic validates, before sending and on receipt."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Generic

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeVar

from delayq.errors import InvalidMessage, MalformedEntry, named

B = TypeVar("B", default=Any)
"""The type of a queue's bodies."""


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_refused)


class Codec(Generic[B]):
    """Writes bodies of one type as JSON, and reads them.

    :param kind: a pydantic model, a dataclass, a TypedDict, or any type that pydantic knows; `Any`
        is any JSON value
    :raises TypeError: if it is a name, and no type
    """

    def __init__(self, kind: Any = Any) -> None:
        if isinstance(kind, str):
            raise TypeError(f"body: a type is needed (got {kind!r})")
        self._adapter: TypeAdapter[B] | None = None if kind is Any else TypeAdapter(kind)
        self._by_alias = False
        """Whether fields are written by their aliases: where the type does not read their names."""

    def encode(self, body: B) -> str:
        """Write a body, so that it can be read.

        :raises InvalidMessage: if it is not of the type, or no JSON, or would be refused on
            receipt; the message names the field and never shows its value
        """
        adapter = self._adapter
        try:
            if adapter is None:
                return to_json(body)
            return self._written(adapter, adapter.validate_python(body))
        except InvalidMessage:
            raise
        except ValidationError as error:
            raise InvalidMessage(f"body: {said(error)}") from None
        except (TypeError, ValueError, RecursionError, PydanticSerializationError) as error:
            raise InvalidMessage(f"body: {error}") from error

    def _written(self, adapter: TypeAdapter[B], body: B) -> str:
        """Write a body of the type, by names or by aliases: so that it is read as what it was."""
        problems = []
        for by_alias in (self._by_alias, not self._by_alias):
            write = partial(adapter.dump_json, by_alias=by_alias, round_trip=True)
            text = write(body).decode()
            try:
                read = self.decode(text)
            except MalformedEntry as error:
                problems.append(str(error))
                continue
            # What has no equality of its own is the same if it is written alike.
            if read == body or write(read).decode() == text:
                self._by_alias = by_alias
                return text
            problems.append("body: it is another one")
        raise InvalidMessage(f"{problems[0]}, when its JSON is read")

    def decode(self, text: str) -> B:
        """Read a body.

        :raises MalformedEntry: if it is no JSON, or not of the type, or a validator of it fails
        """
        try:
            if self._adapter is None:
                body: B = self._any(text)
                return body
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise MalformedEntry(f"body: {said(error)}") from None
        except (ValueError, RecursionError) as error:
            raise MalformedEntry(f"body: {error}") from error
        except Exception as error:  # a validator's own, which pydantic lets through
            raise MalformedEntry(f"body: {named(error)}") from error

    @staticmethod
    def _any(text: str) -> Any:
        try:
            return pydantic_core.from_json(text, allow_inf_nan=False)
        except ValueError:  # also what only the standard library reads, such as very deep nesting
            return _JSON.decode(text)


def _writer() -> Callable[[Any], str]:
    """Return what `encode` of this encoder does, which makes its writer anew for each body."""
    encoder = json.JSONEncoder(
        check_circular=False, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    make: Any = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:
        return encoder.encode
    text = json.encoder.encode_basestring
    no = False  # sorted keys, keys left out, NaN
    chunks = make(None, encoder.default, text, None, ":", ",", no, no, no)
    return lambda body: "".join(chunks(body, 0))


to_json = _writer()
"""Writes any JSON value, as short as can be; raises ValueError, TypeError or RecursionError if it
is none."""


def said(error: ValidationError) -> str:
    """Say what is wrong with which field, without its value: values are not for logs."""
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    fields = [".".join(str(part) for part in p["loc"]) or "the whole" for p in problems]
    told = [f"{field}: {p['msg']}" for field, p in zip(fields, problems, strict=True)]
    return "; ".join(told[:5])
