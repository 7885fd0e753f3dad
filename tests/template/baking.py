"""Where the template is, and how its tests run other programs on what it generates."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[2]
SAM_VENV = Path(os.environ.get("COVALENT_LAMBDA_SAM_VENV") or TEMPLATE / "build" / "venv-sam")

Bake = Callable[..., Path]


def tool(name: str) -> str:
    """The path of a program from SAM CLI's venv; a missing one is an error, not a skip."""
    program = SAM_VENV / "bin" / name
    if not program.is_file():
        pytest.fail(f"{program} is missing: make the venv, or name it in COVALENT_LAMBDA_SAM_VENV")
    return str(program)


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and show its output when a test fails."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    print(done.stdout)
    return done
