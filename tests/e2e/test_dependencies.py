"""Covalent's dependencies, run in the function: shell, packages, calls, files."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import functions
import harness
import pytest
from harness import Outcome, Workbench

MODULE = "fresh_from_a_wheel"


@pytest.fixture(scope="module")
def answers(workbench: Workbench, work: Path) -> dict[str, Any]:
    """What workflows/dependencies.py printed."""
    wheel = _wheel(work)
    command = workbench.run(harness.WORKFLOWS / "dependencies.py", str(wheel))
    found: dict[str, Any] = command.json
    return found


@pytest.fixture(scope="module")
def depending(answers: dict[str, Any]) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/dependencies.py."""
    return functions.outcomes({k: v for k, v in answers.items() if k != "stored"})


def test_bash(depending: Mapping[str, Outcome]) -> None:
    """`DepsBash` runs its commands before the electron."""
    assert _result(depending["after_bash"]) == "from bash\n"


def test_pip(depending: Mapping[str, Outcome]) -> None:
    """What `DepsPip` installs can be imported at once, in a fresh environment too; it lies
    under /tmp."""
    greeting, file = _result(depending["after_pip"])
    assert greeting == "installed on Lambda"
    assert file.startswith("/tmp/")


def test_calls(depending: Mapping[str, Outcome]) -> None:
    """`DepsCall`s run in order, before and after; return values fill the named keywords, and what
    they print is the electron's."""
    outcome = depending["between_calls"]
    assert _result(outcome) == [7, "ONE", "TWO"]
    assert outcome.only("between_calls").stdout == (
        "preparing one\npreparing two\npreparing three\nrunning\nfinishing with done\n"
    )


def test_keyword_of_several_calls(depending: Mapping[str, Outcome]) -> None:
    """Several values for one keyword come as a list, as with Covalent's own executors."""
    assert _result(depending["with_one_keyword_twice"]) == ["ONE", "TWO"]


def test_module(depending: Mapping[str, Outcome]) -> None:
    """`deps_module` has a module of another folder travel with the electron."""
    assert _result(depending["greets_from_elsewhere"]) == "Hello, Lambda"


def test_file_transfer(depending: Mapping[str, Outcome]) -> None:
    """`ct.fs.FileTransfer` copies within the function's /tmp, and `files` names both ends."""
    text, files = _result(depending["copies_a_file"])
    assert text == "transferred\n"
    assert files == [("/tmp/source", "/tmp/copied/target")]


def test_file_transfer_by_s3(answers: dict[str, Any], depending: Mapping[str, Outcome]) -> None:
    """The S3 strategy downloads before the electron and uploads after it, with the function's
    own role."""
    assert _result(depending["transfers_by_s3"]) == "hello"
    assert answers["stored"] == "olleh"


@pytest.mark.parametrize(
    ("electron", "words"),
    [
        ("after_bash_that_fails", "returned non-zero exit status 2"),
        ("after_pip_that_fails", "/tmp/no-such-wheel.whl"),
        ("after_call_that_fails", "RuntimeError: the call before failed"),
    ],
)
def test_failure(depending: Mapping[str, Outcome], electron: str, words: str) -> None:
    """A dependency that fails fails the node, and is named."""
    outcome = depending[electron]
    assert outcome.status == "FAILED", outcome
    assert words in outcome.only(electron).complaint


@pytest.mark.parametrize(
    ("electron", "words"),
    [
        ("after_bash_that_fails", "no-such-folder-42"),
        ("after_pip_that_fails", "ERROR:"),
        ("after_pip_that_fails", "packages; what it said is above"),
    ],
)
def test_reason_of_a_failed_command(
    depending: Mapping[str, Outcome], electron: str, words: str
) -> None:
    """What the failed command itself said is shown; Covalent captures it and lets it go."""
    assert words in depending[electron].only(electron).complaint


def _result(outcome: Outcome) -> Any:
    assert outcome.status == "COMPLETED", outcome
    return ast.literal_eval(outcome.result)


def _wheel(folder: Path) -> Path:
    """A wheel of one module, small enough for a command line."""
    name = f"{MODULE}-1.0"
    metadata = {
        "METADATA": f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{MODULE}.py", "GREETING = 'installed on Lambda'\n")
        for file, text in metadata.items():
            wheel.writestr(f"{name}.dist-info/{file}", text)
    return path
