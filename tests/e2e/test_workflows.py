"""Workflows through a real Covalent server, their electrons on the deployed image."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections.abc import Mapping

import harness
import pytest
from harness import Node, Outcome, Workbench


@pytest.fixture(scope="module")
def fan_in(workbench: Workbench) -> dict[str, object]:
    """The answer of workflows/fan_in.py."""
    answer: dict[str, object] = workbench.run(harness.WORKFLOWS / "fan_in.py").json
    return answer


def test_hello(workbench: Workbench) -> None:
    """`python workflows/hello.py`, as the project's README says, ends with the greeting."""
    command = workbench.run("workflows/hello.py")
    assert command.code == 0, str(command)
    assert "Hello, World!" in command.stdout


def test_electron_runs_in_the_function(
    workbench: Workbench, endings: Mapping[str, Outcome]
) -> None:
    """An electron sees the deployed function's environment."""
    outcome = endings["tells_where"]
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == repr(workbench.deployed.outputs["FunctionName"])


def test_fan_in(fan_in: dict[str, object]) -> None:
    """Nine electrons over the script's dataclasses, reduced three times: as in plain Python."""
    outcome = Outcome.from_json({k: v for k, v in fan_in.items() if k != "expected"})
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == fan_in["expected"]
    assert len(outcome.named("grow")) == 9
    assert len(outcome.named("reduce")) == 3
    printed = sorted(node.stdout for node in outcome.named("grow"))
    assert printed == [f"layer {i} branch {j}\n" for i in range(3) for j in range(3)]


def test_streams(endings: Mapping[str, Outcome]) -> None:
    """What an electron, its descriptors and its children write reaches Covalent, in order."""
    outcome = endings["prints"]
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == "'printed hello'"
    node = outcome.only("prints")
    assert node.stdout == "python says hello\nthe descriptor says it\na child says it\n"
    assert node.stderr == "python warns hello\na child warns\n"


def test_executor_by_name(endings: Mapping[str, Outcome]) -> None:
    """`executor="awslambda"` uses what `configure` wrote into covalent.conf."""
    outcome = endings["runs_by_name"]
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == "42"
    assert outcome.only("runs_by_name").stdout == "found by name\n"


def test_large_argument_and_result(endings: Mapping[str, Outcome]) -> None:
    """8 MiB go in and come out, past Lambda's limit of 6 MB, by way of the bucket."""
    outcome = endings["carries_a_lot"]
    assert outcome.status == "COMPLETED", outcome
    text = repr((bytes(range(256)) * 4096 * 8)[::-1])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert outcome.result == f"{len(text)} characters, sha256 {digest}"


def test_exception(endings: Mapping[str, Outcome]) -> None:
    """An exception fails the node with its type, message, cause and remote traceback."""
    node = _failed(endings, "raises")
    assert node.stdout == "about to fail\n"
    assert "Unlucky" in node.complaint
    assert "no luck with 7" in node.complaint
    assert "KeyError: 7" in node.complaint
    assert "Traceback (most recent call last)" in node.complaint
    assert re.search(r'/endings\.py", line \d+, in raises', node.complaint)


def test_exception_in_the_api(workbench: Workbench, endings: Mapping[str, Outcome]) -> None:
    """The server hands out the failed node's error over HTTP, as Covalent's clients read it."""
    outcome = endings["raises"]
    path = f"dispatches/{outcome.dispatch_id}/electrons/{outcome.only('raises').number}/assets"
    asset = json.loads(_get(workbench.server.url, f"/api/v2/{path}/stderr"))
    assert "no luck with 7" in _get(asset["remote_uri"])


@pytest.mark.xfail(
    strict=True,
    reason="Covalent 0.240 stores an electron's storage_path without the dispatch's and the "
    "node's folder, so this endpoint finds no file, with its own local executor either",
)
def test_exception_in_the_ui(workbench: Workbench, endings: Mapping[str, Outcome]) -> None:
    """The endpoint behind the UI's error tab shows the remote traceback."""
    outcome = endings["raises"]
    path = f"dispatches/{outcome.dispatch_id}/electron/{outcome.only('raises').number}"
    answer = json.loads(_get(workbench.server.url, f"/api/v1/{path}/details/error"))
    assert "no luck with 7" in answer["data"]


def test_system_exit(endings: Mapping[str, Outcome]) -> None:
    """`sys.exit(3)` fails the node, in a sentence of its own; the function survives."""
    node = _failed(endings, "exits")
    assert node.stdout == "about to leave\n"
    assert "sys.exit(3)" in node.complaint


def test_result_that_cannot_be_pickled(endings: Mapping[str, Outcome]) -> None:
    """A lock as a result fails the node, and the message says that it is the result."""
    node = _failed(endings, "returns_a_lock")
    assert node.stdout == "about to return a lock\n"
    assert "lock" in node.complaint
    assert "pickle" in node.complaint


@pytest.mark.parametrize(
    ("electron", "module"),
    [
        ("imports_what_is_missing", "a_package_nobody_installed"),
        ("calls_what_is_only_here", "only_here"),
    ],
)
def test_module_missing_from_the_image(
    endings: Mapping[str, Outcome], electron: str, module: str
) -> None:
    """A missing module is named, with the sandbox's own way to add it."""
    node = _failed(endings, electron)
    assert f"No module named '{module}'" in node.complaint
    assert 'make up PACKAGES="' in node.complaint


def test_module_that_travels(endings: Mapping[str, Outcome]) -> None:
    """A file of one's own, imported at the top of the script beside it, needs no image."""
    outcome = endings["calls_what_it_carries"]
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == "42"


def test_endless_print(endings: Mapping[str, Outcome]) -> None:
    """An electron that prints without end is cut off at the timeout, with its output kept."""
    node = _failed(endings, "prints_without_end")
    assert node.stdout.startswith("still printing 0\nstill printing 1\n")
    assert len(node.stdout) < 4 * 1024 * 1024
    assert "timeout" in node.complaint
    assert "in prints_without_end" in node.complaint  # where it stood


def test_function_that_is_not_the_users(endings: Mapping[str, Outcome]) -> None:
    """A function that the user's policy does not name is named, with what to do. (Whether there
    is one, AWS does not tell.)"""
    node = _failed(endings, "runs_nowhere")
    assert node.stdout == ""
    assert "covalent-no-such-function" in node.complaint
    assert "Access denied: lambda:InvokeFunction" in node.complaint
    assert "ExecutorPolicyArn" in node.complaint


def _failed(endings: Mapping[str, Outcome], name: str) -> Node:
    """The one electron of a lattice that failed, and nothing but it."""
    outcome = endings[name]
    assert outcome.status == "FAILED", outcome
    node = outcome.only(name)
    assert node.status == "FAILED", outcome
    return node


def _get(url: str, path: str = "") -> str:
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        text: str = answer.read().decode()
        return text
