"""Tells a person at a terminal what to do with the project that was just generated.

cookiecutter would run a hook for that, but SAM CLI refuses templates that have one.
"""

from __future__ import annotations

import atexit
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

COMMANDS = """
Next:
  cd {folder} && pip install ./executor "covalent==0.240.0"
  sam build && sam deploy
  covalent start && python workflows/hello.py
README.md there says more.
"""


def next_steps(answers: Mapping[str, object]) -> str:
    """Remember the project, to speak of it once the program ends; nothing for the text."""
    folder = Path(str(answers.get("_output_dir", "."))) / str(answers["project_name"])
    atexit.unregister(_tell)  # the last project, if one program makes several
    atexit.register(_tell, folder)
    return ""


def _tell(folder: Path) -> None:
    """Print the commands, unless nobody reads them or a failure has removed the project."""
    if sys.stdout.isatty() and folder.is_dir():
        print(COMMANDS.format(folder=shlex.quote(os.path.relpath(folder))), end="")
