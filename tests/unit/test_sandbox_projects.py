"""What stays of the project of `make up`, and which packages go where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import aws, packages, processes, projects, server
from sandbox.errors import SandboxError

pytestmark = pytest.mark.timeout(120)


def fresh(tmp_path: Path, *, handler: str = "", wanted: str = "") -> Path:
    """Make what cookiecutter would make."""
    project = tmp_path / "fresh" / "covalent-lambda"
    (project / "function").mkdir(parents=True)
    (project / "function" / "app.py").write_text(handler)
    (project / projects.REQUIREMENTS).write_text(f"# Packages\n{wanted}\n")
    (project / "docs").mkdir()
    answers = {"region": "us-east-1", "packages": wanted}
    (project / projects.ANSWERS).write_text(json.dumps(answers))
    return project


def answered(project: Path) -> str:
    """The packages among the answers that the project keeps."""
    answers = json.loads((project / projects.ANSWERS).read_text())
    assert answers["region"] == "us-east-1"
    return str(answers["packages"])


def place(tmp_path: Path, project: Path, *, renew_packages: bool = False) -> tuple[Path, str]:
    return projects.put_in_place(project, tmp_path / "kept", renew_packages=renew_packages)


def test_the_project_stays_as_its_user_left_it(tmp_path: Path) -> None:
    """Changes, new files and packages are there the next time."""
    project, note = place(tmp_path, fresh(tmp_path, wanted="numpy"))
    assert note == ""
    (project / "function" / "app.py").write_text("mine")
    (project / "mine.py").touch()
    again, note = place(tmp_path, fresh(tmp_path))
    assert again == project
    assert note == "the one of the last time, with your changes"
    assert (project / "function" / "app.py").read_text() == "mine"
    assert (project / "mine.py").exists()
    assert projects.packages(project) == ["numpy"]
    assert answered(project) == "numpy"


def test_other_packages_replace_those_of_the_last_time(tmp_path: Path) -> None:
    """Nothing else of the project changes; no packages at all can be asked for, too."""
    project, _ = place(tmp_path, fresh(tmp_path, wanted="numpy"))
    (project / "mine.py").touch()
    place(tmp_path, fresh(tmp_path, wanted="pandas>=2 # yes"), renew_packages=True)
    assert projects.packages(project) == ["pandas>=2"]
    assert answered(project) == "pandas>=2 # yes"
    assert (project / "mine.py").exists()
    place(tmp_path, fresh(tmp_path), renew_packages=True)
    assert projects.packages(project) == []


def test_a_changed_template_means_a_new_project(tmp_path: Path) -> None:
    """The one of the last time is set aside, and its packages come along."""
    project, _ = place(tmp_path, fresh(tmp_path, wanted="numpy"))
    (project / "mine.py").touch()
    project, note = place(tmp_path, fresh(tmp_path, handler="new"))
    assert (project / "function" / "app.py").read_text() == "new"
    assert projects.packages(project) == ["numpy"]
    assert answered(project) == "numpy"
    assert (tmp_path / "kept" / "before" / "mine.py").exists()
    assert note.endswith(os.path.relpath(tmp_path / "kept" / "before"))


def test_without_packages_no_venv_is_made(tmp_path: Path) -> None:
    """The sandbox's own Python serves."""
    project = fresh(tmp_path)
    python = packages.python_with(project, tmp_path / "venv", tmp_path / "log")
    assert python == Path(sys.executable)
    assert not (tmp_path / "venv").exists()


def wheel(folder: Path, name: str) -> Path:
    """Make a package that can be installed without an index."""
    source = folder / name
    source.mkdir(parents=True)
    (source / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "7.0"\n'
        f'[tool.setuptools]\npy-modules = ["{name}"]\n'
    )
    (source / f"{name}.py").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True)
    return next(folder.glob("*.whl"))


def test_packages_lie_on_top_of_the_sandboxs_own(tmp_path: Path) -> None:
    """The venv's Python imports both, finds the executor's entry point, and has no other version
    of what the sandbox has."""
    project = fresh(tmp_path, wanted=f"{wheel(tmp_path / 'wheels', 'ours_alone')}")
    python = packages.python_with(project, tmp_path / "venv", tmp_path / "log")
    program = (
        "import ours_alone, psutil, importlib.metadata as m;"
        "print(m.version('covalent-awslambda-plugin'), psutil.__file__)"
    )
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    version, file = done.stdout.split()
    assert version
    assert not file.startswith(str(tmp_path))
    constraints = (tmp_path / "venv" / "constraints.txt").read_text().splitlines()
    assert "psutil==7.2.2" in [line.strip() for line in constraints]
    assert not [line for line in constraints if "hash" in line or line.endswith("\\")]


def test_packages_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """With what the installer says, and where they come from."""
    project = fresh(tmp_path, wanted="psutil==1.0")
    with pytest.raises(SandboxError, match=r"(?s)psutil.*change it there, or with"):
        packages.python_with(project, tmp_path / "venv", tmp_path / "log")


def test_the_servers_run_on_that_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MiniStack, whose workers run on its own, and Covalent's server, which loads results."""
    commands: list[list[str]] = []

    def start(name: str, command: list[str], **_rest: object) -> processes.Child:
        commands.append(command)
        return processes.Child(name, 1, 0.0, "")

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "wait_until_ready", lambda *_args, **_named: None)
    python = tmp_path / "bin" / "python"
    aws.start(tmp_path / "aws", python=python)
    server.launch(tmp_path / "covalent", {}, python=python)
    assert [str(python) in command for command in commands] == [True, True]


def test_a_server_on_another_port_forgets_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Covalent's own configuration is written anew; its results stay."""
    for name in ("config", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    child = processes.Child("", 1, 0.0, "")
    monkeypatch.setattr(processes, "start", lambda *_args, **_named: child)
    server.launch(tmp_path, {})
    assert not (tmp_path / "config" / "old").exists()
    assert (tmp_path / "results" / "old").exists()


def test_only_the_aws_gets_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps its limit, and hands it on; throttling is MiniStack's, by the account."""
    import resource

    seen: dict[str, object] = {}

    def start(name: str, command: list[str], **rest: object) -> processes.Child:
        words = command[: command.index(sys.executable)]
        done = subprocess.run(
            [*words, "sh", "-c", "ulimit -n"], capture_output=True, text=True, check=True
        )
        seen.update(limit=done.stdout.strip(), env=rest["env"])
        return processes.Child(name, 1, 0.0, "")

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "wait_until_ready", lambda *_args, **_named: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        aws.start(tmp_path, concurrency=8)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == lower
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen["limit"] == str(hard)
    env = seen["env"]
    assert isinstance(env, dict)
    assert env["LAMBDA_ACCOUNT_CONCURRENCY"] == "8"
