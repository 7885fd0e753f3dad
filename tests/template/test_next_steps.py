"""A person at a terminal is told what to do with the project; nobody else is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from baking import TEMPLATE, tool

pytestmark = pytest.mark.timeout(120)

NEXT = (
    "Next:",
    '  cd my-p && pip install ./executor "covalent==0.240.0"',
    "  sam build && sam deploy",
    "  covalent start && python workflows/hello.py",
)
COOKIECUTTER = (sys.executable, "-m", "cookiecutter", "--no-input", str(TEMPLATE))


def at_a_terminal(folder: Path, *command: str) -> list[str]:
    """Run a program whose output is a terminal; the lines that it printed."""
    reader, terminal = pty.openpty()
    env = {**os.environ, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=folder, env=env, stdout=terminal, stderr=terminal, check=False)
    os.close(terminal)
    text = b""
    try:
        while chunk := os.read(reader, 65536):
            text += chunk
    except OSError:  # the other end is closed and all is read
        pass
    os.close(reader)
    return text.decode().splitlines()


@pytest.mark.parametrize("program", ["cookiecutter", "sam init"])
def test_a_person_is_told(tmp_path: Path, program: str) -> None:
    """The three commands are what both programs end with."""
    if program == "cookiecutter":
        command = [*COOKIECUTTER, "project_name=my-p"]
    else:
        command = [tool("sam"), "init", "--no-input", "--location", str(TEMPLATE)]
        command += ["--name", "my-p"]
    said = at_a_terminal(tmp_path, *command)
    start = said.index(NEXT[0])
    assert tuple(said[start : start + 4]) == NEXT
    assert (tmp_path / "my-p" / "README.md").read_text().startswith("# my-p\n")


def test_a_failure_has_no_next_step(tmp_path: Path) -> None:
    """A refused answer leaves no project to go on with."""
    said = at_a_terminal(tmp_path, *COOKIECUTTER, "project_name=my-p", "memory_size=1")
    assert not set(NEXT) & set(said)


def test_a_program_is_not_told(tmp_path: Path) -> None:
    """What reads the output through a pipe gets what it got before: nothing."""
    command = [*COOKIECUTTER, "project_name=my-p"]
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True)
    assert done.stdout == b""
