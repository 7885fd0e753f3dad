"""What an electron leaves behind does not reach the next one, which finds the world new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
import ways
import world
from function_box import Function, returned

# As an electron of a script: the function has no such modules.
for module in (ways, world):
    cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One environment for all: what each leaves would reach all that follow."""
    with Function(tmp_path_factory.mktemp("isolation") / "tmp") as running:
        yield running


@pytest.mark.parametrize("name", ways.WAYS)
def test_next_electron_finds_the_world_new(function: Function, new: Any, name: str) -> None:
    """After each way to leave something behind, all that an electron can see is as before, its
    output is its own, and the environment goes on."""
    way, ends = ways.WAYS[name]
    response = function.call(way)
    if ends:
        assert response.failure is not None and response.failure.kind == ends, response
    else:
        assert response.failure is None, response
        assert "the child's" not in (response.text or "")
    after = function.call(world.seen, ways.WORD)
    assert after.stdout == "seen\n" and after.stderr == ""
    found = returned(after)
    assert {k: v for k, v in found.items() if v != new[k]} == {}
    assert {k: v for k, v in new.items() if found[k] != v} == {}
