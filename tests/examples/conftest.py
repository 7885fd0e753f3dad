"""A sandbox for what users run: an embedded AWS, a project deployed to it, a Covalent server.

It is that of `make up MODE=worker`: the function's code runs in Python processes of this machine,
so these tests need no Docker, and the function has the packages of the tests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_sandbox import Sandbox

from sandbox import aws as embedded
from sandbox import environment
from sandbox.deploying import deploy, scaffold
from sandbox.server import running_covalent

CALLS_AT_A_TIME = 8  # a process each


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all tests; `executor="awslambda"` works in it."""
    work = tmp_path_factory.mktemp("sandbox")
    (work / "deploy").mkdir()
    answers = {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"}
    project = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    aws = embedded.start(work / "aws", concurrency=CALLS_AT_A_TIME)
    try:
        deploy(project, aws, "worker", work=work / "deploy")
        with running_covalent(work / "covalent", aws.env) as server:
            env = environment.clean(os.environ, home=work / "user", python=Path(sys.executable))
            env |= aws.env | server.env
            env["COVALENT_LAMBDA_SAMCONFIG"] = str(project / "samconfig.toml")
            found = Sandbox(env, project)
            done = found.python("-m", "covalent_awslambda_plugin", "configure", cwd=project)
            assert done.code == 0, str(done)
            yield found
    finally:
        embedded.stop(aws.child, aws.port, None)
