"""Answers that are no texts, as in YAML and JSON: refused in one sentence, or understood."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from baking import Bake, run, tool
from cookiecutter.exceptions import FailedHookException
from reading import read_requirements

QUESTIONS = ("project_name", "region", "packages", "base_image", "timeout", "bucket_name")

REFUSED: list[tuple[Any, str]] = [
    (None, "'null' is not text; leave the question out"),
    (True, "'True' is a yes or no (so YAML reads"),
    (False, "'False' is a yes or no (so YAML reads"),
    ({"a": 1}, "'{...}' is a mapping (a JSON object), not a text; give one value"),
]
LISTS: list[tuple[list[str], list[str]]] = [
    (["numpy", "pandas>=2", "requests[socks, security]"], []),
    (["scipy"], []),
    ([], []),
    (["a ; python_version < '3.12'", "b"], ["a ; python_version < '3.12'", "b"]),
    (["numpy pandas"], ["numpy", "pandas"]),
    (["  numpy  ", ""], ["numpy"]),
]


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize(("value", "said"), REFUSED, ids=lambda each: str(each)[:12])
def test_no_text(bake: Bake, output: Path, name: str, value: Any, said: str) -> None:
    """Nothing, a yes or no and a mapping are refused in one sentence that names the question."""
    with pytest.raises(FailedHookException) as refusal:
        bake(**{name: value})
    assert str(refusal.value).startswith(f"{name} {said}")
    assert str(refusal.value).isprintable() and str(refusal.value).endswith(".")
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("value", [["us-east-1"], ["us-east-1", "eu-west-1"], []])
def test_a_list_for_one_value(bake: Bake, output: Path, value: list[str]) -> None:
    """A question that takes one value refuses a list, an empty one too."""
    with pytest.raises(FailedHookException, match=r"^region .* is a list, .*; give one value\.$"):
        bake(region=value)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(("given", "lines"), LISTS, ids=str)
def test_a_list_of_packages(bake: Bake, given: list[str], lines: list[str]) -> None:
    """Every package of a list is taken."""
    expected = lines or [line.replace(", ", ",") for line in given]
    assert read_requirements(bake(packages=given)) == expected


@pytest.mark.parametrize("item", [None, 1.2, True, ["numpy"], {"numpy": "1.0"}])
def test_a_list_of_other_things(bake: Bake, output: Path, item: Any) -> None:
    """An item that is no text is named, and nothing of the list is taken."""
    with pytest.raises(FailedHookException, match=r"^packages .* stands in the list; put it in q"):
        bake(packages=["numpy", item])
    assert list(output.iterdir()) == []


def test_a_wrong_item_of_a_list(bake: Bake) -> None:
    """The items of a list are checked like a list that was typed."""
    with pytest.raises(FailedHookException, match=r"^packages .* has an option"):
        bake(packages=["numpy", "--pre"])


def test_numbers_are_texts(bake: Bake) -> None:
    """A number where a number is meant needs no quotes."""
    project = bake(timeout=60, memory_size=512, python_version=3.12)
    text = (project / "samconfig.toml").read_text(encoding="utf-8")
    assert "Timeout=60" in text and "MemorySize=512" in text


def test_python_310_without_quotes(bake: Bake) -> None:
    """The number 3.10 is 3.1: the sentence says what to write."""
    with pytest.raises(FailedHookException, match=r"^python_version '3.1' .* put '3.10' in q"):
        bake(python_version=3.10)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("region: no", "region 'False' is a yes or no"),
        ("region: on", "region 'True' is a yes or no"),
        ("region: null", "region 'null' is not text"),
        ("region:", "region 'null' is not text"),
        ("packages: []\n    timeout: 901", "timeout '901' is not"),
    ],
)
def test_yaml(template: Path, output: Path, tmp_path: Path, yaml: str, said: str) -> None:
    """The user's own defaults, which are YAML, get the same sentences, without a traceback."""
    config = tmp_path / "mine.yaml"
    config.write_text(f"default_context:\n    {yaml}\nreplay_dir: {tmp_path}\n")
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    done = run(*command, "--config-file", str(config), cwd=output)
    assert done.returncode == 1
    assert done.stdout.startswith(said)
    assert len(done.stdout.splitlines()) == 1


def test_sam_init(template: Path, output: Path) -> None:
    """sam init's extra context is JSON: a list of packages is taken, a null refused."""
    command = [tool("sam"), "init", "--location", str(template), "--no-input", "--name", "named"]
    context = json.dumps({"packages": ["numpy", "pandas>=2"]})
    assert run(*command, "--extra-context", context, cwd=output).returncode == 0
    assert read_requirements(output / "named") == ["numpy", "pandas>=2"]
    for value, said in ((None, "'null' is not text"), (["us-east-1", "x"], "is a list")):
        done = run(*command, "--extra-context", json.dumps({"region": value}), cwd=output)
        assert done.returncode == 1
        assert said in done.stdout and "Traceback" not in done.stdout


def test_a_list_is_kept_for_an_update(template: Path, output: Path) -> None:
    """What is remembered of a list holds all of it: a replay generates the same."""
    command = [sys.executable, "-m", "cookiecutter", str(template)]
    context = output / "context.yaml"
    context.write_text("default_context:\n    packages: [numpy, pandas]\n")
    first = [*command, "--no-input", "--config-file", str(context), "-o", "first"]
    assert run(*first, cwd=output).returncode == 0
    assert run(*command, "--replay", "-o", "second", cwd=output).returncode == 0
    for name in ("first", "second"):
        assert read_requirements(output / name / "covalent-lambda") == ["numpy", "pandas"]
