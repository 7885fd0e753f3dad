"""Baking for the template's tests: cookiecutter's own API, in a home of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import leaks
import pytest
from baking import FIRST, PROJECT, TEMPLATE, Bake, commit, git
from cookiecutter.main import cookiecutter


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's cookiecutter defaults, AWS and git settings and HOME do not reach a test."""
    ambient = ("AWS_", "COOKIECUTTER_", "GIT_")
    for name in [name for name in os.environ if name.startswith(ambient)]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SAM_CLI_TELEMETRY", "0")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.syspath_prepend(str(TEMPLATE))


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread, a task, a descriptor or a process behind."""
    with leaks.none(request):
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a fresh clone has it, without what tools leave in a working copy."""
    clone = tmp_path_factory.mktemp("template")
    left_by_tools = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", ".aws-sam")
    shutil.copy(TEMPLATE / "cookiecutter.json", clone)
    for name in ("local_extensions", PROJECT):
        shutil.copytree(TEMPLATE / name, clone / name, ignore=left_by_tools)
    return clone


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This working copy, as its next commit would have it, in a repository of its own at v1."""
    folder = tmp_path_factory.mktemp("published") / "cookiecutter-covalent-lambda"
    folder.mkdir()
    listed = git(TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.split("\0"):
        # Of a file that was removed, git knows until the next commit.
        if name and (TEMPLATE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "first")
    git(folder, "tag", FIRST)
    return folder


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
