"""Which benchmarks `make bench` runs, and which names it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from template_paths import REPOSITORY

from benchmarks import names

LISTED = "latency, fanout, shared, payload, coldstart, warm, crash, workflow, import, scaffold"


def test_each_name_is_a_module_of_the_suite() -> None:
    """Every benchmark can be asked for, and nothing else."""
    modules = {path.stem for path in (REPOSITORY / "benchmarks" / "suite").glob("[!_]*.py")}
    assert set(names.NAMES) == modules


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ("", names.NAMES),
        ("latency", ("latency",)),
        ("import", ("imports",)),
        ("imports", ("imports",)),
    ],
)
def test_chosen(only: str, found: tuple[str, ...]) -> None:
    """No name is all of them; `import` is as good as the name of its module."""
    assert names.chosen(only) == found


@pytest.mark.parametrize("only", ["nonsense", "latency fanout", "%", "None"])
def test_unknown_names(only: str) -> None:
    """What is no name is refused in one sentence that lists those that there are."""
    with pytest.raises(SystemExit) as refused:
        names.chosen(only)
    assert refused.value.code == f"ONLY={only} is unknown: say one of {LISTED}"


@pytest.mark.timeout(60)
def test_a_misspelt_name_costs_no_installation(tmp_path: Path) -> None:
    """`make bench ONLY=nonsense` is refused with no venv made and no known one removed."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for folder in ("requirements", "benchmarks"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$2" = venv ] && {{ touch made; exit 1; }}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    other = tmp_path / "build" / "venv-bench" / "bin"
    other.mkdir(parents=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "bench", "ONLY=nonsense", "PYTHON=./python"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"ONLY=nonsense is unknown: say one of {LISTED}\n")
    assert (done.stdout, other.exists(), (tmp_path / "made").exists()) == ("", True, False)
