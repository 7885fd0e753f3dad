"""Baking for the template's tests: cookiecutter's own API, in a home of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from baking import TEMPLATE, Bake
from cookiecutter.main import cookiecutter


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's cookiecutter defaults, AWS settings and HOME do not reach a test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "COOKIECUTTER_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SAM_CLI_TELEMETRY", "0")
    monkeypatch.syspath_prepend(str(TEMPLATE))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a fresh clone has it, without what tools leave in a working copy."""
    clone = tmp_path_factory.mktemp("template")
    left_by_tools = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", ".aws-sam")
    for name in ("cookiecutter.json", "local_extensions.py"):
        shutil.copy(TEMPLATE / name, clone)
    project = "{{cookiecutter.project_name}}"
    shutil.copytree(TEMPLATE / project, clone / project, ignore=left_by_tools)
    return clone


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder that projects are generated in."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def bake(template: Path, output: Path, tmp_path: Path) -> Bake:
    """Generate a project from the given answers and return its folder."""
    config = tmp_path / "cookiecutter.yaml"
    folders = {name: tmp_path / name for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text("".join(f"{name}: {folder}\n" for name, folder in folders.items()))

    def baked(**answers: str) -> Path:
        project = cookiecutter(
            str(template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            config_file=str(config),
        )
        return Path(project)

    return baked
