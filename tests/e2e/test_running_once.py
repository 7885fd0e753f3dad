"""No electron runs more often than it was asked to, however it ends."""

from __future__ import annotations

from collections.abc import Mapping

import functions
import harness
import pytest
from harness import Outcome, Workbench

RUNS = {
    "returns": 1,
    "raises": 1,
    "times_out": 1,
    "reaches_its_time_limit": 1,
    "kills_its_process": 1,
    "returns_with_retries": 1,
    "raises_with_retries": 2,
    "times_out_with_retries": 2,
    "kills_its_process_with_retries": 2,
    "succeeds_at_last": 2,
}
COMPLETED = {"returns", "returns_with_retries", "succeeds_at_last"}


@pytest.fixture(scope="module")
def counted(workbench: Workbench) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/counted.py."""
    return functions.outcomes(workbench.run(harness.WORKFLOWS / "counted.py").json)


@pytest.mark.parametrize(("case", "runs"), RUNS.items())
def test_runs(workbench: Workbench, counted: Mapping[str, Outcome], case: str, runs: int) -> None:
    """A counter kept outside counts one run, or with `retries=1` and a failure two."""
    outcome = counted[case]
    assert outcome.status == ("COMPLETED" if case in COMPLETED else "FAILED"), outcome
    assert functions.marks(workbench.deployed, case) == runs


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("raises", ["ValueError: raises"]),
        ("times_out", ["timeout=10", "in runs_too_long"]),
        ("reaches_its_time_limit", ["time_limit=10", "in runs_too_long"]),
        ("kills_its_process", ["os._exit", "exit code 7"]),
    ],
)
def test_sentence(counted: Mapping[str, Outcome], case: str, words: list[str]) -> None:
    """The node says how it ended."""
    complaint = "".join(node.complaint for node in counted[case].nodes)
    assert [word for word in words if word not in complaint] == [], complaint


def test_failed_attempt_is_shown(counted: Mapping[str, Outcome]) -> None:
    """What failed before a retry succeeded is still told."""
    node = counted["succeeds_at_last"].only("succeeds_at_last")
    assert node.status == "COMPLETED"
    assert "ValueError: not yet" in node.stderr
