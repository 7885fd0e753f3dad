"""What an electron leaves behind, on the Pythons that neither the tests nor containers run on, as
far as this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ways
from named import Named, lay_out, serving

PYTHONS = ["3.9", "3.10", "3.12"]


def interpreter(version: str) -> str:
    """The path of a Python of this version: on the PATH, or made by pyenv; "" if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")]
    for path in filter(None, found):
        script = "import sys; print('%d.%d' % sys.version_info[:2])"  # one of pyenv's may refuse
        told = subprocess.run([path, "-c", script], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return str(path)
    return ""


@pytest.fixture(scope="module", params=PYTHONS)
def function(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Named]:
    """One environment for all: what each electron leaves would reach all that follow."""
    python = interpreter(request.param)
    if not python:
        pytest.skip(f"Python {request.param} is not on this machine")
    folder = tmp_path_factory.mktemp("python")
    lay_out(folder / "task")
    with Named(folder / "tmp", [python, "-c", serving(str(folder / "task"))]) as running:
        yield running


@pytest.mark.parametrize("name", ways.WAYS)
def test_next_electron_finds_the_world_new(function: Named, new: Any, name: str) -> None:
    """After each way to leave something behind, what an electron sees is as before."""
    function.finds_the_world_new_after(*ways.WAYS[name], new)
