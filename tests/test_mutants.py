"""The mutants fit the package as it is; `python -m tests.mutants` tells whether they are killed."""

from collections import Counter
from pathlib import Path

import pytest

from delayq.scripts import PRELUDE
from tests.conftest import Client
from tests.mutants import MUTANTS
from tests.mutants.mutant import AnchorLost, mutant

HERE = Path(__file__).parents[1]
PACKAGE = HERE / "delayq"


async def test_each_mutant_can_be_planted_and_is_a_program(client: Client) -> None:
    for each in MUTANTS:
        texts = each.changed(PACKAGE)
        shared = [f"lua/prelude/{name}.lua" for name in PRELUDE]
        read = {file: (PACKAGE / file).read_text("utf-8") for file in shared} | texts
        prelude = "\n".join(read[file] for file in shared)
        for file, text in texts.items():
            if file.endswith(".py"):
                compile(text, file, "exec")
            else:
                await client.script_load(prelude + ("" if file in shared else text))


def test_each_mutant_has_a_name_of_its_own_and_a_killer_that_there_is() -> None:
    assert max(Counter(each.name for each in MUTANTS).values()) == 1
    for each in MUTANTS:
        file, _, test = each.killer.partition("::")
        assert f"def {test.partition('[')[0]}(" in (HERE / "tests" / file).read_text("utf-8")


@pytest.mark.parametrize("anchor", ["nowhere in it", "local "])
def test_an_anchor_that_is_not_there_once_is_named(anchor: str) -> None:
    lost = mutant("careless", "test_scripts.py::none", ("lua/ack.lua", anchor, "x"))
    with pytest.raises(AnchorLost, match=f"careless: lua/ack.lua: '{anchor}' is there"):
        lost.changed(PACKAGE)
