"""Reads what the template generates, as the programs do that it is for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class CloudFormationLoader(yaml.SafeLoader):
    """Reads !Ref and the like as plain values."""


def _plain(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


CloudFormationLoader.add_multi_constructor("!", _plain)


def read_template(project: Path) -> dict[str, Any]:
    """template.yaml."""
    text = (project / "template.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=CloudFormationLoader)
    return loaded


def image_functions(template: dict[str, Any]) -> dict[str, Any]:
    """The template's functions, by logical id: it is the project's own."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def image_function(project: Path) -> dict[str, Any]:
    """The template's one function."""
    (function,) = image_functions(read_template(project)).values()
    return dict(function)


def read_samconfig(project: Path) -> dict[str, Any]:
    """samconfig.toml, less its version: its environments."""
    loaded = tomllib.loads((project / "samconfig.toml").read_text(encoding="utf-8"))
    assert loaded.pop("version") == 0.1
    return loaded


def read_overrides(environment: dict[str, Any]) -> dict[str, str]:
    """The template's parameters that one environment of samconfig.toml sets."""
    pairs = environment["global"]["parameters"]["parameter_overrides"]
    return dict(pair.split("=", 1) for pair in pairs)


def read_dockerfile(project: Path) -> list[tuple[str, str]]:
    """The Dockerfile's instructions: keyword and the rest, continuation lines joined."""
    text = (project / "function" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.split("\n")]


def read_requirements(project: Path) -> list[str]:
    """The lines of function/requirements.txt that are no comments."""
    text = (project / "function" / "requirements.txt").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line and not line.startswith("#")]
