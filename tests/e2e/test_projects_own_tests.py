"""The generated project's own tests, run as its README says, nothing of this repository beside."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import harness
from harness import Command, Project, Workbench


def run_tests(project: Project, env: Mapping[str, str], *words: str) -> Command:
    """Run pytest in the project's folder; `covalent-lambda` is there as after pip install."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    options = ("-m", "pytest", "-rs", "-p", "no:cacheprovider", *words)
    return project.python(*options, env={**env, "PATH": path}, seconds=harness.BUILD_SECONDS)


def test_files_handler_and_image(project: Project, built: Command) -> None:
    """After `sam build` they pass, the image's too; only the one for AWS waits to be asked for."""
    done = run_tests(project, project.sam_env(), "tests")
    assert done.code == 0, str(done)
    skipped = re.findall(r"^SKIPPED \[\d+\] (\S+?):", done.stdout, re.M)
    assert skipped == ["tests/test_live.py"], str(done)
    assert "tests/test_on_this_machine.py .." in done.stdout, str(done)


def test_deployed_function(workbench: Workbench) -> None:
    """On request the live one passes, with the executor's policy and nothing else."""
    env = {**workbench.env, "COVALENT_LAMBDA_LIVE": "1"}
    done = run_tests(workbench.deployed.project, env, "tests/test_live.py")
    assert done.code == 0, str(done)
    assert "1 passed" in done.stdout, str(done)
