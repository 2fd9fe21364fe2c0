"""What `delayq` offers by name is enough to use it: nobody imports from its modules."""

import builtins
import inspect
import re
from collections.abc import Iterator
from typing import get_type_hints

import pytest

import delayq

PUBLIC = [getattr(delayq, name) for name in delayq.__all__]


def functions(public: object) -> Iterator[object]:
    yield public
    if inspect.isclass(public):
        yield from (f for name, f in inspect.getmembers(public) if not name.startswith("_"))


def named_as_raised(public: object) -> set[str]:
    return {
        name
        for function in functions(public)
        for name in re.findall(r":raises (\w+)", inspect.getdoc(function) or "")
        if not hasattr(builtins, name)
    }


def test_every_error_that_is_documented_can_be_imported() -> None:
    named = set().union(*map(named_as_raised, PUBLIC))
    assert {"ServerUnreachable", "InvalidMessage"} < named
    assert named <= set(delayq.__all__)


@pytest.mark.parametrize(
    ("function", "parameter", "name"),
    [
        (delayq.Queue.list, "state", "State"),
        (delayq.Queue.group, "start", "Start"),
        (delayq.Queue.group, "ordering", "Ordering"),
    ],
)
def test_the_values_of_a_parameter_have_a_public_name(
    function: object, parameter: str, name: str
) -> None:
    assert get_type_hints(function)[parameter] == getattr(delayq, name)


def test_the_options_of_a_publish_have_a_public_name() -> None:
    options = get_type_hints(delayq.Queue.publish)["options"]
    assert options.__args__ == (delayq.Options,)
