"""Scripts, run as `python` in a sandbox's shell runs them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0


@dataclass(frozen=True)
class Ran:
    """A program that ran to its end."""

    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@dataclass(frozen=True)
class Sandbox:
    """Where a user's scripts run.

    Attributes:
        env: the environment of the shell that sourced build/demo.env.
        project: the deployed project's folder.
    """

    env: dict[str, str]
    project: Path

    def python(self, *words: str | Path, cwd: Path) -> Ran:
        """Run a script as `python` in that shell does."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)
