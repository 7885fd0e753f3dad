"""Where the template comes from, for the project to record."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from cookiecutter.config import BUILTIN_ABBREVIATIONS
from cookiecutter.repository import expand_abbreviations

GIT_SECONDS = 30


def address(template: str) -> str:
    """Where the template is, as git and cruft take it.

    Without a user and a password or token: projects are published.
    """
    whole = expand_abbreviations(template.removeprefix("git+"), BUILTIN_ABBREVIATIONS)
    return re.sub(r"(?<=://)[^/@]*@", "", whole).removeprefix("file://")


def template_version() -> str:
    """What git calls the version of the template; empty when it does not come from git."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():  # git would name the version of a folder above
        return ""
    command = ["git", "-C", str(folder), "describe", "--tags", "--always", "--abbrev=40"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
