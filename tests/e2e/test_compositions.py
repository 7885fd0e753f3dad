"""Executors for whole lattices, and lattices within lattices."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import functions
import harness
import pytest
from harness import Outcome, Workbench

ELSEWHERE = "the server's side"


@pytest.fixture(scope="module")
def composed(workbench: Workbench) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/compositions.py."""
    return functions.outcomes(workbench.run(harness.WORKFLOWS / "compositions.py").json)


@pytest.fixture(scope="module")
def function(workbench: Workbench) -> str:
    """The deployed function's name."""
    return workbench.deployed.outputs["FunctionName"]


@pytest.mark.parametrize(("lattice", "total"), [("whole_by_instance", 3), ("whole_by_name", 7)])
def test_executor_of_a_lattice(
    composed: Mapping[str, Outcome], function: str, lattice: str, total: int
) -> None:
    """`ct.lattice(executor=…)` serves all its electrons, given as an instance or by name."""
    assert _result(composed[lattice]) == [function, total]


@pytest.mark.parametrize("lattice", ["end_by_instance", "end_by_name"])
def test_workflow_executor(composed: Mapping[str, Outcome], function: str, lattice: str) -> None:
    """`workflow_executor=…` puts the result together in the function; the electrons stay out."""
    outcome = composed[lattice]
    assert outcome.status == "COMPLETED", outcome
    assert f"'electron': {ELSEWHERE!r}, " in outcome.result
    assert f"Passport(['{function}'" in outcome.result


def test_mixed(composed: Mapping[str, Outcome], function: str) -> None:
    """One lattice mixes its own executor, a name, an instance and Covalent's local executor."""
    outcome = composed["mixed"]
    assert _result(outcome) == [function, 12, 36, ELSEWHERE]
    assert outcome.only("double").stdout == f"doubling in {function}\n"
    assert outcome.only("square").stdout == f"squaring in {function}\n"


def test_sublattice(composed: Mapping[str, Outcome], function: str) -> None:
    """A lattice used as an electron is built inside the function, and runs with executors of its
    own."""
    outcome = composed["nested"]
    assert _result(outcome) == [35, function]
    assert f"the inner graph is built in {function}\n" in outcome.only(":sublattice:inner").stdout


def test_two_sublattices(composed: Mapping[str, Outcome], function: str) -> None:
    """Several sublattices run side by side."""
    outcome = composed["many_inside"]
    assert _result(outcome) == [[3, function], [8, function]]
    assert len(outcome.named(":sublattice:inner")) == 2


def _result(outcome: Outcome) -> Any:
    assert outcome.status == "COMPLETED", outcome
    return ast.literal_eval(outcome.result)
