"""The end-to-end tests run under the generated policies: who asks AWS, and what it refuses."""

from __future__ import annotations

import ast
from typing import Any

import harness
import pytest
from harness import Outcome, Workbench
from iam import DENIED


@pytest.fixture(scope="module")
def answers(workbench: Workbench) -> dict[str, Any]:
    """What workflows/identities.py printed."""
    printed = workbench.run(harness.WORKFLOWS / "identities.py").json
    outcome = Outcome.from_json(printed["dispatched"])
    assert outcome.status == "COMPLETED", outcome
    return {**ast.literal_eval(outcome.result), "script": printed["script"]}


def test_function_runs_under_its_role(workbench: Workbench, answers: dict[str, Any]) -> None:
    """An electron's requests to AWS come from the generated role, in the function's name."""
    outputs = workbench.deployed.outputs
    role = outputs["FunctionRoleArn"].rpartition("/")[2]
    who = answers["function"]["who"]
    assert who.endswith(f":assumed-role/{role}/{outputs['FunctionName']}")


@pytest.mark.parametrize("place", ["server", "script"])
def test_user_runs_the_rest(workbench: Workbench, answers: dict[str, Any], place: str) -> None:
    """Covalent's server and the script that dispatches are the IAM user, not root."""
    assert answers[place]["who"] == workbench.deployed.user.arn
    assert ":user/" in answers[place]["who"]


@pytest.mark.parametrize("place", ["function", "server", "script"])
def test_policies_are_enforced(answers: dict[str, Any], place: str) -> None:
    """What no policy allows is denied in each of these places."""
    assert set(answers[place]["codes"]) <= DENIED


def test_user_holds_one_policy(workbench: Workbench) -> None:
    """The user holds the generated ExecutorPolicy and nothing else, by no other way either."""
    deployed = workbench.deployed
    iam, name = deployed.client("iam"), {"UserName": deployed.user.arn.rpartition("/")[2]}
    attached = iam.list_attached_user_policies(**name)["AttachedPolicies"]
    assert [each["PolicyArn"] for each in attached] == [deployed.outputs["ExecutorPolicyArn"]]
    assert iam.list_user_policies(**name)["PolicyNames"] == []
    assert iam.list_groups_for_user(**name)["Groups"] == []


def test_role_holds_one_policy(workbench: Workbench) -> None:
    """The function's role holds the template's policy and nothing else."""
    deployed = workbench.deployed
    role = {"RoleName": deployed.outputs["FunctionRoleArn"].rpartition("/")[2]}
    iam = deployed.client("iam")
    assert iam.list_role_policies(**role)["PolicyNames"] == ["electron"]
    assert iam.list_attached_role_policies(**role)["AttachedPolicies"] == []
