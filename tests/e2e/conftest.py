"""Fixtures of the end-to-end tests. Each starts one real thing, once for all, and takes it down.

    docker ─► project ─► built ─┬─► deployed ─► workbench ─► endings
                      aws ──────┤      covalent ─┤
                       └─► user ┴────────────────┘

IAM policies are enforced. The account's root user deploys, and looks on for the tests; the
function runs under its generated role; Covalent's server and the workflows' scripts run as `user`,
an IAM user who holds the generated ExecutorPolicy and nothing else.

A machine that lacks something skips the tests, and says what; with COVALENT_LAMBDA_REQUIRE_E2E=1
they fail instead. The folders of a failed run stay where pytest says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import harness
import iam
import pytest
from harness import PROJECT, PYTHON, Deployed, Outcome, Project, Workbench
from iam import User
from lacking import lacking

from sandbox import engine as docker_engine
from sandbox import journey
from sandbox.aws import Aws, running_aws
from sandbox.deploying import Deploying, base_images, scaffold
from sandbox.engine import Engine
from sandbox.errors import SandboxError
from sandbox.server import Server, running_covalent


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """A Docker engine; the images that the tests made are gone afterwards."""
    found = docker_engine.find()
    if found is None:
        lacking("no Docker engine answers")
    assert found is not None
    before = _image_names(found)
    yield found
    # Their names hold the project's, in the registry without hyphens.
    ours = (PROJECT, PROJECT.replace("-", ""))
    made = [name for name in _image_names(found) - before if any(part in name for part in ours)]
    if made:
        _docker(found, "image", "rm", *made)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run."""
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def project(docker: Engine, work: Path) -> Iterator[Project]:
    """A project generated with the default answers, but for its name and its Python."""
    answers = {"project_name": PROJECT, "python_version": PYTHON}
    if docker.architecture != "x86_64":  # another processor's emulation would take hours
        answers["architecture"] = docker.architecture
    folder = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    for image in base_images((folder / "function" / "Dockerfile").read_text("utf-8")):
        if not docker.can_get(image, work / "pull.log"):
            lacking(f"the base image {image} cannot be had: .ci/base-images makes a stand-in")
    made = Project(folder, work, docker)
    yield made
    made.prune_images()


@pytest.fixture(scope="session")
def built(project: Project) -> harness.Command:
    """`sam build`, as it ended."""
    command = project.sam("build")
    assert command.code == 0, str(command)
    return command


@pytest.fixture(scope="session")
def aws(docker: Engine, work: Path) -> Iterator[Aws]:
    """The embedded AWS, with IAM policies enforced; its own keys are the account's root user."""
    with running_aws(work / "aws", auth=True) as running:
        yield running


@pytest.fixture(scope="session")
def user(aws: Aws, secrets: set[str]) -> User:
    """Who runs Covalent's server and the scripts; what `deployed` attaches is all it may do. Its
    key must stand in no file that the tests leave."""
    made = iam.create_user(aws, "scientist")
    secrets.add(made.keys["AWS_SECRET_ACCESS_KEY"])
    return made


@pytest.fixture(scope="session")
def deployed(
    project: Project, built: harness.Command, aws: Aws, user: User, work: Path
) -> Iterator[Deployed]:
    """The project, deployed by `sam deploy` with no flags, its image pushed; the user holds its
    ExecutorPolicy."""
    steps = Deploying(project.folder, aws, work, print)
    problem = harness.why_no_push(steps.region)
    if problem:
        lacking(problem)
    with harness.reachable_registry(aws, work), project.with_emulator(aws):
        command = project.sam("deploy", env=aws.env, seconds=harness.DEPLOY_SECONDS)
    assert command.code == 0, str(command)
    outputs = steps.outputs()
    with user.holding(outputs["ExecutorPolicyArn"]):
        iam.allow_plain_http(user, steps.region, outputs["BucketName"])
        yield Deployed(project, aws, user, command, steps.region, outputs)


@pytest.fixture(scope="session")
def covalent(user: User, work: Path) -> Iterator[Server]:
    """A Covalent server with a HOME of its own, that reaches only the embedded AWS, as `user`."""
    try:
        journey.plugin_version()
    except SandboxError as error:
        lacking(str(error))
    with running_covalent(work / "covalent", user.env) as server:
        yield server


@pytest.fixture(scope="session")
def workbench(deployed: Deployed, covalent: Server) -> Workbench:
    """The deployed project and the server; covalent.conf holds the project's names."""
    bench = Workbench(deployed, covalent)
    command = bench.run("-m", "covalent_awslambda_plugin", "configure")
    assert command.code == 0, str(command)
    return bench


@pytest.fixture(scope="session")
def endings(workbench: Workbench) -> Mapping[str, Outcome]:
    """What became of each lattice of workflows/endings.py."""
    answers = workbench.run(harness.WORKFLOWS / "endings.py").json
    return {name: Outcome.from_json(answer) for name, answer in answers.items()}


def _image_names(engine: Engine) -> set[str]:
    return set(_docker(engine, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split())


def _docker(engine: Engine, *words: str) -> str:
    command = ["docker", *words]
    done = subprocess.run(
        command, env=dict(engine.env), capture_output=True, text=True, check=True
    )
    return done.stdout
