"""Credentials as the public plugin's documentation gives them: in the environment, or by file and
profile.

The machine's own AWS takes a key of twelve digits for the root user of an account of that number:
that tells whose key signed a request.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import functions
import harness
import pytest
from harness import Outcome, Workbench

from sandbox.aws import SECRET_KEY

STRANGER = {"AWS_ACCESS_KEY_ID": "111111111111", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture(scope="module")
def answered(workbench: Workbench, work: Path) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/credentials.py, away from the project's folder."""
    folder = work / "away"
    folder.mkdir()
    region = workbench.deployed.region
    file, keys = folder / "credentials", workbench.deployed.user.keys
    file.write_text(
        _profile("default", keys)
        + _profile("scientist", keys, region)
        + _profile("stranger", STRANGER),
        encoding="utf-8",
    )
    outputs = workbench.deployed.outputs
    arguments = [outputs["FunctionName"], outputs["BucketName"], region, str(file)]
    command = workbench.run(harness.WORKFLOWS / "credentials.py", *arguments, folder=folder)
    return functions.outcomes(command.json)


@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("environment", 5 * 1024 * 1024),
        ("profile", 5 * 1024 * 1024),
        ("profile_with_region", 1),
        ("default_profile", 1),
    ],
)
def test_accepted(
    workbench: Workbench, answered: Mapping[str, Outcome], case: str, size: int
) -> None:
    """The function is reached, and the bucket with what is too large for a request."""
    outcome = answered[case]
    assert outcome.status == "COMPLETED", outcome
    function = workbench.deployed.outputs["FunctionName"]
    assert ast.literal_eval(outcome.result) == (size, function)


def test_profile_wins_over_environment(answered: Mapping[str, Outcome]) -> None:
    """A named profile's key signs, though the server's environment holds another one: in the
    profile's account there is no such function."""
    outcome = answered["other_account"]
    assert outcome.status == "FAILED", outcome
    complaint = "".join(node.complaint for node in outcome.nodes)
    assert "There is no Lambda function" in complaint


@pytest.mark.parametrize(
    ("case", "word"), [("no_such_profile", "nobody"), ("no_such_file", "scientist")]
)
def test_unknown_profile(answered: Mapping[str, Outcome], case: str, word: str) -> None:
    """A profile that the file does not hold is named, and nothing else is tried."""
    outcome = answered[case]
    assert outcome.status == "FAILED", outcome
    complaint = "".join(node.complaint for node in outcome.nodes)
    assert f"profile '{word}'" in complaint
    assert "credentials_file" in complaint or "credentials or config file" in complaint


def _profile(name: str, keys: Mapping[str, str], region: str = "") -> str:
    lines = [f"[{name}]", *(f"{key.lower()} = {value}" for key, value in keys.items())]
    lines += [f"region = {region}"] if region else []
    return "\n".join(lines) + "\n\n"
