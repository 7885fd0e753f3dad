"""Where the template is, and how its tests run other programs on what it generates."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[2]
SAM_VENV = Path(os.environ.get("COVALENT_LAMBDA_SAM_VENV") or TEMPLATE / "build" / "venv-sam")
CHECKOV_VENV = TEMPLATE / "build" / "venv-checkov"
PROJECT = "{{cookiecutter.project_name}}"
# The tag of the template as it is.
FIRST = "v1"
# With a name for commits; this working copy may belong to another user, as in a container.
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
GIT += ("-c", "safe.directory=*")

Bake = Callable[..., Path]


def tool(name: str) -> str:
    """The path of a program from SAM CLI's venv; a missing one is an error, not a skip."""
    program = SAM_VENV / "bin" / name
    if not program.is_file():
        pytest.fail(f"{program} is missing: make the venv, or name it in COVALENT_LAMBDA_SAM_VENV")
    return str(program)


def checkov() -> str:
    """The path of checkov; a missing one is an error, not a skip."""
    where = f"{os.environ['PATH']}{os.pathsep}{CHECKOV_VENV / 'bin'}"
    program = shutil.which("checkov", path=where)
    return program or pytest.fail(f"checkov is neither on PATH nor in {CHECKOV_VENV}")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and show its output when a test fails."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    print(done.stdout)
    return done


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, without anybody's settings; what it prints."""
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        [*GIT, *arguments],
        cwd=folder,
        env={**surroundings, **settings},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Commit everything in a folder."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
