"""The generated project with `sam build` and `sam local`: no AWS account, no server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import harness
import pytest
from harness import PYTHON, Command, Project

from sandbox import processes
from sandbox.deploying import sam_command

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def start_lambda(project: Project, built: Command, work: Path) -> Iterator[str]:
    """`sam local start-lambda`: its address."""
    port = processes.free_port()
    child = processes.start(
        "sam local start-lambda",
        [sam_command(), "local", "start-lambda", "--port", str(port)],
        env=project.sam_env(),
        cwd=project.folder,
        log=work / "start-lambda.log",
    )
    try:
        processes.wait_until_ready(child, lambda: harness.listens(port), seconds=START_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop(child, grace=30)  # it removes its containers first


def test_build(built: Command) -> None:
    """`sam build` succeeds without a flag."""
    assert "Build Succeeded" in built.stdout + built.stderr


def test_image_for_lambda(project: Project, built: Command) -> None:
    """The image has the Python asked for, and Lambda's unprivileged user loads the handler."""
    command = ["docker", "run", "--rm", "--network", "none", "--user", "993:990"]
    command += ["--entrypoint", "python3", project.image(), "-c"]
    program = "import app, sys; print(*sys.version_info[:2], sep='.')"
    done = harness.run([*command, program], project.folder, project.engine.env, START_SECONDS)
    assert done.code == 0, str(done)
    assert done.stdout.strip() == PYTHON


def test_ping(project: Project, built: Command) -> None:
    """`sam local invoke -e events/ping.json` answers with the versions inside the image."""
    command = project.sam("local", "invoke", "-e", "events/ping.json")
    answer = command.json
    assert answer.get("status") == "ok", str(command)
    assert answer["python"].startswith(f"{PYTHON}.")
    assert answer["cloudpickle"].split(".")[0] == cloudpickle.__version__.split(".")[0]
    assert answer["covalent"] is not None
    assert answer["memory_mb"] == 1769


def test_start_lambda(project: Project, start_lambda: str) -> None:
    """The executor runs an electron on `sam local start-lambda`, streams and result included."""
    script = str(harness.WORKFLOWS / "without_a_server.py")
    answer = project.python(script, start_lambda, env=project.sam_env()).json
    assert answer["status"] == "COMPLETED", json.dumps(answer, indent=1)
    assert answer["value"]["sum"] == 42
    assert answer["stdout"] == "adding on the laptop\n"
