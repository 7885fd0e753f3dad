"""What the end-to-end tests start, and how they read what came back.

    cookiecutter ──► sam build ──► sam deploy ──► MiniStack: registry, Lambda, S3
                                                      ▲
    workflows/*.py ──► Covalent server ──► executor ──┘

The commands are those of the project's README, without a flag. Only two things are not as on AWS:
the image gets Lambda's Runtime Interface Emulator as a last layer (there the platform brings it),
and its registry's name leads to this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from iam import User
from patience import wait_until

from sandbox import environment, processes
from sandbox.aws import ACCOUNT, Aws
from sandbox.deploying import Deploying, client, image_functions, read_template, sam_command
from sandbox.engine import Engine
from sandbox.server import Server

WORKFLOWS = Path(__file__).with_name("workflows")
EXAMPLES = Path(__file__).parents[2] / "examples"

# Not the default answer: a sandbox of `make up`, with that name, may be running. Each process of
# the tests has a project of its own, as each removes its images.
PROJECT = "covalent-lambda-e2e" + os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw", "-")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

BUILD_SECONDS = 900.0
DEPLOY_SECONDS = 300.0
WORKFLOW_SECONDS = 300.0

# CloudFormation's answers come at once here; SAM CLI would ask every 5 s.
_POLL_SECONDS = "0.5"


@dataclass(frozen=True)
class Command:
    """A program that ran to its end."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        """All of it, for a failed assertion."""
        return (
            f"$ {' '.join(self.words)}\nexit code {self.code} after {self.seconds:.1f} s\n"
            f"--- stdout\n{self.stdout[-6000:]}\n--- stderr\n{self.stderr[-6000:]}"
        )

    @property
    def json(self) -> Any:
        """The last line of its standard output, as JSON."""
        assert self.code == 0, str(self)
        assert self.stdout.strip(), str(self)
        return json.loads(self.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Project:
    """A generated project and the programs that a user runs in its folder.

    Attributes:
        folder: where it is.
        work: a folder for homes and logs, outside of it.
        engine: the Docker engine that builds its image.
    """

    folder: Path
    work: Path
    engine: Engine

    def sam(
        self, *words: str, env: Mapping[str, str] | None = None, seconds: float = BUILD_SECONDS
    ) -> Command:
        """Run SAM CLI in the project's folder."""
        return run([sam_command(), *words], self.folder, self.sam_env(env), seconds)

    def sam_env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of SAM CLI: none of the user's own settings, invented keys."""
        env = environment.clean(os.environ, home=self.work / "home", python=Path(sam_command()))
        env.update(
            DOCKER_HOST=self.engine.host,
            SAM_CLI_TELEMETRY="0",
            SAM_CLI_POLL_DELAY=_POLL_SECONDS,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_EC2_METADATA_DISABLED="true",
        )
        env.update(more or {})
        return env

    def python(
        self, *words: str, env: Mapping[str, str], seconds: float = WORKFLOW_SECONDS
    ) -> Command:
        """Run a script in the project's folder, with the Python that has Covalent."""
        return run([sys.executable, *words], self.folder, env, seconds)

    def built_template(self) -> dict[str, Any]:
        """The template that `sam build` wrote and `sam deploy` reads."""
        return read_template(self.folder / ".aws-sam" / "build" / "template.yaml")

    def local_repository(self) -> str:
        """What SAM CLI calls this project's images on this machine, `sam local`'s too."""
        (logical_id,) = image_functions(read_template(self.folder / "template.yaml"))
        return logical_id.lower()

    def prune_images(self) -> None:
        """Remove this project's images from this machine, by the command in its README."""
        text = (self.folder / "README.md").read_text(encoding="utf-8")
        (command,) = (x for x in text.splitlines() if x.strip().startswith("docker image prune"))
        with one_at_a_time():  # Docker refuses a second one meanwhile
            done = run([*command.split(), "--force"], self.folder, self.engine.env, 60)
        assert done.code == 0, str(done)

    def image(self) -> str:
        """The name that `sam build` gave the image."""
        functions = image_functions(self.built_template())
        (function,) = functions.values()
        return str(function["Properties"]["ImageUri"])

    def sam_at(self, aws: Aws, env: Mapping[str, str], *words: str) -> Command:
        """Run SAM CLI with nobody at the terminal, the registry at hand."""
        with reachable_registry(aws, self.work), self.with_emulator(aws):
            return self.sam(*words, env=env)

    @contextlib.contextmanager
    def with_emulator(self, aws: Aws) -> Iterator[None]:
        """Let the image's name mean, in the block, the image with the emulator on top."""
        name = self.image()
        identity = str(self.engine.image_settings(name)["Id"])
        steps = Deploying(self.folder, aws, self.work, print)
        steps.add_emulator(self.engine, name, name)
        try:
            yield
        finally:
            self.engine.tag(identity, name)  # `sam local` brings an emulator of its own


@dataclass(frozen=True)
class Node:
    """One electron of a dispatch, as Covalent keeps it."""

    number: int
    name: str
    status: str
    stdout: str
    stderr: str
    error: str

    @property
    def complaint(self) -> str:
        """What Covalent's UI shows under an electron's error: its stderr, then its error."""
        return self.stderr + self.error


@dataclass(frozen=True)
class Outcome:
    """What became of a dispatch."""

    dispatch_id: str
    status: str
    result: str
    error: str
    nodes: tuple[Node, ...]

    @staticmethod
    def from_json(answer: Mapping[str, Any]) -> Outcome:
        """Read what workflows/report.py reports."""
        nodes = tuple(Node(**node) for node in answer["nodes"])
        fields = ("dispatch_id", "status", "result", "error")
        return Outcome(nodes=nodes, **{name: answer[name] for name in fields})

    def named(self, name: str) -> tuple[Node, ...]:
        """The electrons of this name."""
        return tuple(node for node in self.nodes if node.name == name)

    def only(self, name: str) -> Node:
        """The one electron of this name."""
        (node,) = self.named(name)
        return node


@dataclass(frozen=True)
class Deployed:
    """A project on the machine's own AWS.

    Attributes:
        user: who holds the generated ExecutorPolicy, and nothing else.
    """

    project: Project
    aws: Aws
    user: User
    command: Command
    region: str
    outputs: Mapping[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client of the root user of the account that the project is deployed to."""
        return client(self.aws, service, self.region)

    def invoke(self, event: Any) -> dict[str, Any]:
        """Invoke the function with an event, as root, and return its answer."""
        answer = self.client("lambda").invoke(
            FunctionName=self.outputs["FunctionName"], Payload=json.dumps(event).encode()
        )
        body = answer["Payload"].read().decode()
        assert "FunctionError" not in answer, body
        found: dict[str, Any] = json.loads(body)
        return found


@dataclass(frozen=True)
class Workbench:
    """A deployed project and a Covalent server: where a user's scripts run."""

    deployed: Deployed
    server: Server

    @property
    def env(self) -> dict[str, str]:
        """The environment of a script that the user runs."""
        env = environment.clean(
            os.environ, home=self.deployed.project.work / "user", python=Path(sys.executable)
        )
        env.update(self.deployed.user.env)
        env.update(self.server.env)
        return env

    def run(self, script: Path | str, *words: str, folder: Path | None = None) -> Command:
        """Run a script as a user does, from the project's folder if no other is given."""
        folder = folder or self.deployed.project.folder
        return run([sys.executable, str(script), *words], folder, self.env, WORKFLOW_SECONDS)


def run(words: list[str], cwd: Path, env: Mapping[str, str], seconds: float) -> Command:
    """Run a program to its end, its streams kept apart."""
    started = time.monotonic()
    done = subprocess.run(
        words,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
    )
    elapsed = time.monotonic() - started
    return Command(tuple(words), done.returncode, done.stdout, done.stderr, elapsed)


def registry_name(region: str) -> str:
    """The name of the registry that `sam deploy` pushes to."""
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"


def why_no_push(region: str) -> str | None:
    """Why `sam deploy` without flags could not push from here, or None if it can."""
    with one_at_a_time():
        return _why_no_push_to(registry_name(region))


def _why_no_push_to(name: str) -> str | None:
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "nothing"
    if not address.startswith("127."):
        return f"{name} leads to {address}, not to this machine: .ci/run maps it in /etc/hosts"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, 80))
        except OSError as error:
            return f"port 80 of {address} cannot be used ({error}): the push goes there"
    if shutil.which("socat") is None:
        return "socat is missing"
    return None


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """What there is once on this machine, such as port 80, for one process of the tests."""
    with open(__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def reachable_registry(aws: Aws, work: Path) -> Iterator[None]:
    """Let the registry's name, which leads to port 80 of this machine, reach the embedded AWS."""
    with one_at_a_time(), _forwarded_registry(aws, work):
        yield


@contextlib.contextmanager
def _forwarded_registry(aws: Aws, work: Path) -> Iterator[None]:
    listen = "TCP-LISTEN:80,bind=127.0.0.1,reuseaddr,fork"
    forward = processes.start(
        "the registry's port",
        ["socat", listen, f"TCP:127.0.0.1:{aws.port}"],
        env=os.environ,
        cwd=work,
        log=work / "socat.log",
    )
    try:
        wait_until(lambda: listens(80), "socat on port 80", 10)
        yield
    finally:
        processes.stop(forward)


def project_wire(project: Project) -> ModuleType:
    """The generated project's own wire.py."""
    package = project.folder / "executor" / "lambda_calls"
    spec = importlib.util.spec_from_file_location("project_wire", package / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def listens(port: int) -> bool:
    """Whether something listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
