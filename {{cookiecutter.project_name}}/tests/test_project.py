"""Tests of this project that need no AWS: python -m pytest tests

They need pytest and PyYAML; the one that calls the handler also needs cloudpickle.
"""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PING = ROOT / "events" / "ping.json"


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """template.yaml, with CloudFormation's tags (!Ref, !Sub) read as plain values."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """A loader of its own, as constructors belong to the class."""

    def plain(loader: Any, _tag: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_mapping(node, deep=True)

    Loader.add_multi_constructor("!", plain)
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=Loader)
    return loaded


@pytest.fixture(scope="module")
def samconfig() -> dict[str, Any]:
    """samconfig.toml, without its version."""
    module = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    toml = pytest.importorskip(module, reason=f"{module} is not installed")
    loaded: dict[str, Any] = toml.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    loaded.pop("version")
    return loaded


def function(template: dict[str, Any]) -> dict[str, Any]:
    """The one function of the template."""
    kind = "AWS::Serverless::Function"
    (found,) = (each for each in template["Resources"].values() if each["Type"] == kind)
    return dict(found)


def overrides(environment: dict[str, Any]) -> dict[str, str]:
    """Parameters that one environment of samconfig.toml sets."""
    pairs = environment["global"]["parameters"]["parameter_overrides"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_template_has_what_the_executor_reads(template: dict[str, Any]) -> None:
    """The function is an image, and the outputs the executor looks for are there."""
    assert function(template)["Properties"]["PackageType"] == "Image"
    assert {"FunctionName", "BucketName", "Region"} <= set(template["Outputs"])


def test_dockerfile_is_where_the_template_says(template: dict[str, Any]) -> None:
    """sam build finds the Dockerfile in its context."""
    metadata = function(template)["Metadata"]
    assert (ROOT / metadata["DockerContext"] / metadata["Dockerfile"]).is_file()


def test_samconfig_sets_parameters_the_template_allows(
    template: dict[str, Any], samconfig: dict[str, Any]
) -> None:
    """Each environment sets only parameters that exist, to values within their limits."""
    for environment in samconfig.values():
        for name, value in overrides(environment).items():
            rules = template["Parameters"][name]
            if "AllowedPattern" in rules:
                assert re.fullmatch(rules["AllowedPattern"], value), (name, value)
            if "MinValue" in rules:
                assert rules["MinValue"] <= int(value) <= rules["MaxValue"], (name, value)
            if "AllowedValues" in rules:
                assert value in map(str, rules["AllowedValues"]), (name, value)


def test_environments_share_no_name(samconfig: dict[str, Any]) -> None:
    """Deploying one environment never touches another's stack, function or bucket."""
    stacks = {each["global"]["parameters"]["stack_name"] for each in samconfig.values()}
    assert len(stacks) == len(samconfig)
    for kind in ("FunctionName", "BucketName"):
        assert len({overrides(each)[kind] for each in samconfig.values()}) == len(samconfig)


def test_network_is_whole(samconfig: dict[str, Any]) -> None:
    """Subnets and security groups come together, or not at all: Lambda refuses one alone."""
    for environment in samconfig.values():
        given = overrides(environment)
        assert bool(given.get("SubnetIds")) == bool(given.get("SecurityGroupIds"))


def test_ping_event() -> None:
    """events/ping.json is the event the handler answers without running anything."""
    assert json.loads(PING.read_text(encoding="utf-8")) == {"covalent_lambda": 1, "ping": True}


def test_requirements_parse() -> None:
    """Every line of function/requirements.txt is one that pip can read."""
    requirements = pytest.importorskip("packaging.requirements")
    for line in (ROOT / "function" / "requirements.txt").read_text("utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*|\s--hash[ =]\S+", "", line).strip()
        if text and not text.startswith(("-", "http://", "https://")):
            requirements.Requirement(text)


def test_handler_answers_ping(tmp_path: Path) -> None:
    """The handler's files, laid out as in the image, answer the ping event."""
    if importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("cloudpickle is not installed, and the handler needs it")
    wire = ROOT / "executor" / "lambda_calls" / "wire.py"
    for source in [*(ROOT / "function").glob("*.py"), wire]:
        shutil.copy(str(source), str(tmp_path))
    program = (
        "import app, json, sys, types\n"
        "context = types.SimpleNamespace(memory_limit_in_mb='512')\n"
        "print(json.dumps(app.handler(json.load(sys.stdin), context)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=str(tmp_path),
        input=PING.read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["covalent_lambda"] == runpy.run_path(str(wire))["PROTOCOL"]
    assert answer["status"] == "ok"
    assert answer["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
