"""The generated project with `sam build` and `sam local`: no AWS account, no server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cloudpickle
import harness
import pytest
from botocore.config import Config
from harness import PYTHON, Command, Project

from sandbox import processes
from sandbox.deploying import image_functions, read_template, sam_command, scaffold

START_SECONDS = 60.0


# Put at the end of a project's handler, so that its answers tell whose image gave them.
MARK = """
_unmarked = handler


def handler(event, context):
    return {**_unmarked(event, context), "marked": True}
"""


@contextlib.contextmanager
def serving(project: Project) -> Iterator[str]:
    """`sam local start-lambda` for the time of a `with` block: its address."""
    port = processes.free_port()
    child = processes.start(
        "sam local start-lambda",
        [sam_command(), "local", "start-lambda", "--port", str(port)],
        env=project.sam_env(),
        cwd=project.folder,
        log=project.work / "start-lambda.log",
    )
    try:
        processes.wait_until_ready(child, lambda: harness.listens(port), seconds=START_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop(child, grace=30)  # it removes its containers first


@pytest.fixture(scope="module")
def start_lambda(project: Project, built: Command) -> Iterator[str]:
    """`sam local start-lambda`: its address."""
    with serving(project) as address:
        yield address


def ping(project: Project, address: str) -> dict[str, Any]:
    """Invoke the function that is served there with events/ping.json."""
    (name,) = image_functions(read_template(project.folder / "template.yaml"))
    settings = Config(read_timeout=60, retries={"total_max_attempts": 1}, proxies={})
    client = boto3.client(
        "lambda",
        "us-east-1",
        endpoint_url=address,
        config=settings,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    event = (project.folder / "events" / "ping.json").read_bytes()
    answer = client.invoke(FunctionName=name, Payload=event)
    found: dict[str, Any] = json.loads(answer["Payload"].read())
    return found


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


def test_one_container_serves_all(project: Project, start_lambda: str) -> None:
    """samconfig.toml keeps the first container: later electrons start none."""
    ping(project, start_lambda)
    before = emulated(project)
    for _ in range(3):
        assert ping(project, start_lambda)["status"] == "ok"
    assert emulated(project) == before
    assert len(before) == 1


def emulated(project: Project) -> list[str]:
    """The containers that run the project's image, as `sam local` made it."""
    command = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter"]
    command.append(f"ancestor={project.local_repository()}:rapid-{project.engine.architecture}")
    return harness.run(command, project.folder, project.engine.env, 60).stdout.split()


def test_two_projects_at_once(project: Project, start_lambda: str, work: Path) -> None:
    """Two projects with the same answers that are served side by side run their own images."""
    folder = scaffold(
        work / "beside",
        answers={"project_name": harness.PROJECT, "python_version": PYTHON},
        log=work / "beside.log",
    )
    (work / "beside-work").mkdir()
    other = Project(folder, work / "beside-work", project.engine)
    with (folder / "function" / "app.py").open("a", encoding="utf-8") as file:
        file.write(MARK)
    try:
        built = other.sam("build")
        assert built.code == 0, str(built)
        with serving(other) as address:
            marks = [
                (ping(project, start_lambda).get("marked"), ping(other, address).get("marked"))
                for _ in range(6)
            ]
    finally:
        other.prune_images()
    assert marks == [(None, True)] * 6
