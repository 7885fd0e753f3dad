"""Files of settings that the tests of this folder write."""

from __future__ import annotations

from pathlib import Path

OURS = """\
version = 0.1
[default.global.parameters]
stack_name = "my-stack"
region = "eu-west-1"
profile = "lab"
parameter_overrides = ["FunctionName=my-fn", "BucketName=my-bucket", "MemorySize=512"]
[default.deploy.parameters]
resolve_image_repos = true
[prod.global.parameters]
stack_name = "prod-stack"
region = "eu-north-1"
parameter_overrides = ["FunctionName=prod-fn", "BucketName=prod-bucket"]
"""
OTHER_PROJECT = """\
version = 0.1
[default.deploy.parameters]
stack_name = "photo-api"
region = "us-west-2"
profile = "photos"
parameter_overrides = "Stage=dev TableName=photos"
"""
STACK_ONLY = """\
version = 0.1
[default.global.parameters]
stack_name = "my-stack"
region = "eu-west-1"
"""


def write(folder: Path, text: str | bytes, name: str = "samconfig.toml") -> Path:
    """Write a file, making its folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def overrides(value: str, command: str = "global") -> str:
    """Make a samconfig.toml whose parameter_overrides is the given TOML value."""
    return f"version = 0.1\n[default.{command}.parameters]\nparameter_overrides = {value}\n"


def tables(**commands: str) -> str:
    """Make a samconfig.toml with these command tables."""
    return "".join(f"[default.{name}.parameters]\n{text}\n" for name, text in commands.items())
