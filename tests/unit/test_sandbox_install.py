"""The venvs: which Python they get, and what an interrupted installation leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from template_paths import REPOSITORY

pytestmark = pytest.mark.timeout(60)

VENVS = ("build/venv", "build/venv-sam")
# Made for the tests only.
CHECKOV_VENV = "build/venv-checkov"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the Makefile, the requirements, and two Pythons that only look so."""
    folder = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
    shutil.copy(REPOSITORY / "Makefile", folder)
    executor = folder / "{{cookiecutter.project_name}}" / "executor"
    executor.mkdir(parents=True)
    (executor / "pyproject.toml").write_text("")
    for name in ("3.8.18", "3.11.7", "3.12.1"):
        python(folder / name, name)
    for name in [name for name in os.environ if name.startswith("MAKE") or name == "MFLAGS"]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHON", raising=False)
    return folder


def python(path: Path, version: str) -> None:
    """Write a program that says this version and needs half a minute to make a venv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = -S ] && {{ echo {version}; exit; }}\n'
        'mkdir -p "$3"; echo a traceback; echo of many lines; sleep 30\n'
    )
    path.chmod(0o755)


def finished(folder: Path, version: str) -> None:
    """Make all venvs of this version, with their stamps newer than everything."""
    for venv in (*VENVS, CHECKOV_VENV):
        python(folder / venv / "bin" / "python", version)
        (folder / venv / "bin" / "pip").touch()
    for stamp in ("venv/.sandbox", "venv/.executor", "venv/.test", "venv-sam/.sam"):
        (folder / "build" / stamp).touch()


def make(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start make in a session of its own."""
    return subprocess.Popen(
        ["make", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def venvs_begun(program: subprocess.Popen[str]) -> list[str]:
    """Wait until both venvs are being made; the lines that say so."""
    assert program.stdout is not None
    return sorted(program.stdout.readline() for _venv in VENVS)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("./3.8.18", "'./3.8.18' is Python 3.8.18, but Covalent needs 3.10, 3.11 or 3.12"),
        ("./nonsense", "'./nonsense' is not a Python interpreter"),
    ],
)
def test_an_unfit_python_is_refused(checkout: Path, asked: str, said: str, *, there: bool) -> None:
    """Also when the venvs are there already; they stay."""
    if there:
        finished(checkout, "3.11.7")
    with make(checkout, "venvs", f"PYTHON={asked}") as program:
        _, error = program.communicate(timeout=30)
    assert program.returncode != 0
    assert error.startswith(said)
    assert (checkout / "build" / "venv").exists() is there


def test_the_venvs_are_kept_when_no_python_is_asked_for(checkout: Path) -> None:
    """One made with PYTHON=python3.11 serves every later command that names none, or the same."""
    finished(checkout, "3.11.7")
    for arguments in ([], ["PYTHON=./3.11.7"]):
        with make(checkout, "venvs", *arguments) as program:
            assert program.communicate(timeout=30) == ("", "")
        assert program.returncode == 0


def test_another_python_means_other_venvs(checkout: Path) -> None:
    """They are made anew, the tests' own too; Ctrl-C meanwhile is one line and leaves none."""
    finished(checkout, "3.11.7")
    with make(checkout, "venvs", "PYTHON=./3.12.1") as program:
        begun = venvs_begun(program)
        os.killpg(program.pid, signal.SIGINT)
        _, error = program.communicate(timeout=30)
    assert begun == [f"making {venv} (Python 3.12.1; one to three minutes)\n" for venv in VENVS]
    own = [line for line in error.splitlines() if line and not line.startswith("make")]
    assert own == ["interrupted; nothing was kept"]
    assert not any((checkout / venv).exists() for venv in (*VENVS, CHECKOV_VENV))


def test_checkov_has_a_venv_of_its_own(checkout: Path) -> None:
    """It is made for the tests, with the Python of the others, once these are there."""
    finished(checkout, "3.11.7")
    shutil.rmtree(checkout / CHECKOV_VENV)
    with make(checkout, "test-venvs") as program:
        assert program.stdout is not None
        begun = program.stdout.readline()
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate(timeout=30)
    assert begun == f"making {CHECKOV_VENV} (Python 3.11.7; one to three minutes)\n"


def test_a_venv_whose_python_is_gone_is_made_anew(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter that it links to was removed from the machine."""
    finished(checkout, "3.11.7")
    (checkout / "build" / "venv" / "bin" / "python").unlink()
    python(checkout / "bin" / "python3", "3.12.1")
    monkeypatch.setenv("PATH", f"{checkout}/bin:{os.environ['PATH']}")
    with make(checkout, "venvs") as program:
        begun = venvs_begun(program)
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate(timeout=30)
    assert all("(Python 3.12.1; one to three minutes)" in line for line in begun)


def test_venvs_in_use_are_not_replaced(checkout: Path) -> None:
    """What `make up` left running runs on them."""
    finished(checkout, "3.11.7")
    (checkout / "build" / "up").mkdir()
    (checkout / "build" / "up" / "state.json").touch()
    with make(checkout, "venvs", "PYTHON=./3.12.1") as program:
        _, error = program.communicate(timeout=30)
    assert program.returncode != 0
    assert error.startswith("build/venv has another Python and 'make up' runs on it; 'make down'")
    assert (checkout / "build" / "venv" / ".sandbox").exists()
