"""Fan-out electrons through a real Covalent server: one node, many invocations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import Outcome, Workbench

RUNS_FOR = "8"  # seconds, until a fan-out is cancelled
SOON = 15.0  # seconds to the end of a dispatch that is cancelled, on a busy machine


@pytest.fixture(scope="module")
def answers(workbench: Workbench) -> dict[str, Any]:
    """What workflows/fanned_out.py printed."""
    found: dict[str, Any] = workbench.run(harness.WORKFLOWS / "fanned_out.py", RUNS_FOR).json
    return found


def ended(answers: dict[str, Any], name: str) -> Outcome:
    return Outcome.from_json(answers[name])


def test_a_list_in_a_list_out(answers: dict[str, Any]) -> None:
    """300 items are one node; the next electron takes its list."""
    outcome = ended(answers, "study")
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == str(sum(x * x for x in range(300)))
    node = outcome.only("squares")
    assert node.stdout.count("squaring") == 300
    assert "[299] squaring 299" in node.stdout
    assert "[fan-out] 300 of 300 done (100 %), 0 failed" in node.stdout
    assert "[lambda] fan-out of 300" in node.stderr


def test_two_lists_in_step(answers: dict[str, Any]) -> None:
    """`over=("a", "b")`: an item has one of each."""
    outcome = ended(answers, "paired")
    assert outcome.result == "[(1, 'x', 0.5), (2, 'y', 0.5), (3, 'z', 0.5)]", outcome


def test_a_failing_item_is_named(answers: dict[str, Any]) -> None:
    """Its number, its class and its remote traceback are the node's."""
    node = ended(answers, "fails_at_three").only("fails_at_three")
    assert node.status == "FAILED"
    assert "Item 3 of 6 failed" in node.complaint
    assert "ValueError: three is not for me" in node.complaint
    assert re.search(r'/fanned_out\.py", line \d+, in fails_at_three', node.complaint)


def test_exceptions_as_values(answers: dict[str, Any]) -> None:
    """`return_exceptions=True`: the node ends well, and holds the exception."""
    outcome = ended(answers, "odd_ones")
    assert (outcome.status, outcome.result) == ("COMPLETED", "[0, KeyError('one'), 2]")


def test_the_server_unpickles_no_item(answers: dict[str, Any]) -> None:
    """Where the closing step runs on Lambda, nobody on this machine opens the values."""
    assert ended(answers, "traced").status == "COMPLETED"
    assert answers["opened_here"] is False


def test_its_output_grows_while_it_runs(answers: dict[str, Any]) -> None:
    """Covalent's server hands the progress out before the node has ended."""
    assert "[fan-out] 0 of 6 done (0 %), 0 failed, 3 running" in answers["shown"]


def test_cancelling_ends_node_and_items(answers: dict[str, Any]) -> None:
    """`ct.cancel` does not wait for items that would sleep for two minutes."""
    outcome = ended(answers, "sleeps")
    assert outcome.only("sleeps").status == "CANCELLED", outcome
    assert answers["cancelled_after"] < SOON


def test_the_example_with_a_server(workbench: Workbench, tmp_path: Path) -> None:
    """examples/parameter_sweep.py says what it found, and leaves its picture."""
    picture = tmp_path / "sweep.png"
    command = workbench.run(harness.EXAMPLES / "parameter_sweep.py", str(picture))
    assert command.code == 0, str(command)
    assert "300 values of r," in command.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
