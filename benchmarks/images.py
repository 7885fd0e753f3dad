"""The images of the container benchmarks, and containers of them that Lambda's limits hold.

    sam build ─► ours ─┬─ + a bare handler
                       ├─ + the stock handler
                       └─ as the base image of the template that had the former handler

The stock one stands in for Covalent's published image, which is for Python 3.8: Python, packages
and their bytecode are ours, so that only handler and protocol differ. So it is with the former
handler, which its own Dockerfile puts there and compiles.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import deploying, environment
from sandbox import engine as docker_engine
from sandbox.engine import Engine
from sandbox.errors import SandboxError

from . import former, lab, progress
from .lab import BenchmarkError
from .paths import PUBLIC, ROOT

PROJECT = "covalent-lambda-benchmark"
BUILD_SECONDS = 1200.0
# A function of this many MB has one whole processor, others their share of it:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEMORY_OF_ONE_CPU = 1769
# Lambda runs a user of its own, who can write to /tmp only.
AS_LAMBDA = ("--read-only", "--tmpfs", "/tmp", "--user", "993:990")

BARE = "def handler(event, context):\n    return event\n"
SAM = ROOT / "build" / "venv-sam" / "bin"


@dataclass(frozen=True)
class Images:
    """The built images.

    Attributes:
        engine: where they are.
        ours: what `sam build` made of the project.
        stock: ours, with the handler of Covalent's stock image as the one that runs.
        bare: ours, with one that returns its event.
        former: ours, with the handler of benchmarks.former; empty where there is none.
    """

    engine: Engine
    ours: str
    stock: str
    bare: str
    former: str = ""


@contextmanager
def built(packages: str = "", *, with_former: bool = False) -> Iterator[Images]:
    """Build the images; remove them after the body. What Docker's builder caches stays.

    Args:
        packages: the project's, as its question has them.
        with_former: whether to build the former handler's, if git has it.

    Raises:
        BenchmarkError: if there is no Docker engine that containers reach this machine from, no
            base image, or a build fails.
    """
    engine = _engine()
    progress.say("building the images")
    with lab.folder() as work, ExitStack() as names:
        project = _scaffold(ROOT, work, f"packages={packages}")
        _require_base_images(project, engine, work)
        _sam_build(project, engine, work)
        ours = _image_of(project)
        names.callback(_remove, engine, ours)
        stock = _with_handler(names, engine, work, ours, "exec", _stock_handler())
        bare = _with_handler(names, engine, work, ours, "bare", BARE)
        before = _with_former(names, engine, work, ours) if with_former else ""
        yield Images(engine, ours, stock, bare, before)


class Container:
    """A container that was created and not yet started."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self._engine, self._identity = engine, identity

    def start(self) -> float:
        """Start it; the time just before, as `time.monotonic` has it."""
        started = time.monotonic()
        docker(self._engine, "start", self._identity)
        return started

    def log(self) -> str:
        """What it printed so far."""
        return docker(self._engine, "logs", self._identity)


@contextmanager
def container(
    engine: Engine, image: str, memory: int, variables: Mapping[str, str]
) -> Iterator[Container]:
    """A container of an image with the limits of a function of `memory` MB."""
    limits = ["--memory", f"{memory}m", "--cpus", f"{memory / MEMORY_OF_ONE_CPU:.3f}"]
    known = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    given = [f"--env={name}={value}" for name, value in {**known, **variables}.items()]
    words = ["create", "--network", "host", *AS_LAMBDA, *limits, *given, image]
    identity = docker(engine, *words).split()[-1]
    try:
        yield Container(engine, identity)
    finally:
        docker(engine, "rm", "--force", "--volumes", identity)


def docker(engine: Engine, *words: str, seconds: float = 60.0) -> str:
    """Run a docker command; what it printed, both streams.

    Raises:
        BenchmarkError: if it fails.
    """
    # The classic builder, as `sam build` has it, finds what that cached.
    env = {**engine.env, "DOCKER_BUILDKIT": "0"}
    return _run(["docker", *words], env=env, seconds=seconds)


def _engine() -> Engine:
    engine = docker_engine.find()
    if engine is None:
        raise BenchmarkError("no Docker engine answers, and it is containers that are measured")
    if engine.gateway is None:
        raise BenchmarkError(
            "the Docker engine runs in a virtual machine of its own, so that containers do not "
            "reach the Runtime API of this benchmark at 127.0.0.1"
        )
    return engine


def _scaffold(template: Path, work: Path, *answers: str) -> Path:
    """A project for this Python, whose electrons it will run; other answers are the defaults."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    python = sys.executable
    env = environment.clean(os.environ, home=home, python=Path(python))
    command = [python, "-m", "cookiecutter", "--no-input", "-o", str(work), str(template)]
    # In a folder without Python: the template's extensions must not be found in the working one.
    _run([*command, f"project_name={PROJECT}", *answers], env=env, seconds=BUILD_SECONDS, cwd=home)
    return work / PROJECT


def _require_base_images(project: Path, engine: Engine, work: Path) -> None:
    dockerfile = (project / "function" / "Dockerfile").read_text("utf-8")
    for image in deploying.base_images(dockerfile):
        if not engine.can_get(image, work / "pull.log"):
            raise BenchmarkError(
                f"the base image {image} cannot be had: .ci/base-images makes a stand-in"
            )


def _sam_build(project: Path, engine: Engine, work: Path) -> None:
    try:
        sam = deploying.sam_command()
    except SandboxError as error:
        raise BenchmarkError(str(error)) from error
    env = environment.clean(os.environ, home=work / "home", python=Path(sam))
    env["DOCKER_HOST"], env["SAM_CLI_TELEMETRY"] = engine.host, "0"
    _run([sam, "build"], env=env, cwd=project, seconds=BUILD_SECONDS)


def _image_of(project: Path) -> str:
    template = deploying.read_template(project / ".aws-sam" / "build" / "template.yaml")
    (function,) = deploying.image_functions(template).values()
    return str(function["Properties"]["ImageUri"])


def _stock_handler() -> str:
    source = PUBLIC / "covalent_awslambda_plugin" / "exec.py"
    if not source.exists():
        raise BenchmarkError(f"the public plugin is not in {PUBLIC}: make bench puts it there")
    return source.read_text("utf-8")


def _with_handler(
    names: ExitStack, engine: Engine, work: Path, ours: str, module: str, source: str
) -> str:
    """Our image with another handler, compiled as ours is."""
    context, name, path = work / module, f"{PROJECT}:{module}", f"/var/task/{module}.py"
    context.mkdir()
    (context / f"{module}.py").write_text(source, "utf-8")
    lines = (
        f"FROM {ours}",
        f"COPY {module}.py {path}",
        f"RUN chmod a+r {path} "
        f"&& python3 -m compileall -q --invalidation-mode unchecked-hash {path}",
        f'CMD ["{module}.handler"]',
    )
    (context / "Dockerfile").write_text("\n".join(lines) + "\n", "utf-8")
    docker(engine, "build", "--quiet", "--tag", name, str(context), seconds=BUILD_SECONDS)
    names.callback(_remove, engine, name)
    return name


def _with_former(names: ExitStack, engine: Engine, work: Path, ours: str) -> str:
    """The image of the former template on ours as its base image; empty where git lacks it."""
    folder, name = work / "former", f"{PROJECT}:former"
    folder.mkdir()
    if not former.unpack(folder):
        return ""
    project = _scaffold(folder, folder, f"base_image={ours}")
    dockerfile = str(project / "function" / "Dockerfile")
    words = ["build", "--quiet", "--file", dockerfile, "--tag", name, str(project)]
    docker(engine, *words, seconds=BUILD_SECONDS)
    names.callback(_remove, engine, name)
    return name


def _remove(engine: Engine, name: str) -> None:
    docker(engine, "image", "rm", "--no-prune", name)


def _run(
    words: list[str], *, env: Mapping[str, str], seconds: float, cwd: Path | None = None
) -> str:
    try:
        done = subprocess.run(
            words,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{' '.join(words[:3])} did not run: {error}") from error
    if done.returncode:
        raise BenchmarkError(f"{' '.join(words[:3])} failed:\n{done.stdout[-3000:]}")
    return done.stdout
