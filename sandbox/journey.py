"""The whole journey: scaffold, start an AWS, deploy, start Covalent, run the hello workflow."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import quote

from sandbox import aws as embedded
from sandbox import deploying, environment, processes, server, state
from sandbox import engine as docker
from sandbox.aws import Aws
from sandbox.deploying import ROOT, Deployment
from sandbox.errors import SandboxError
from sandbox.server import Server
from sandbox.settings import Settings

BUILD = ROOT / "build"
PLUGIN = "covalent-awslambda-plugin"
GREETING = "Hello, World!"
CONFIGURE_SECONDS = 60.0
WORKFLOW_SECONDS = 180.0


class Log:
    """Prints each step with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """Print a step that begins."""
        print(f"[{self.seconds:6.1f} s] {text}", flush=True)

    @staticmethod
    def detail(text: str) -> None:
        """Print what belongs to the step before."""
        for line in text.splitlines():
            print(f"           {line}", flush=True)


class Journey:
    """One sandbox with a project deployed to it.

    Attributes:
        home: the folder of all its files but the logs.
        logs: the folder of the logs, which outlives it.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.home = BUILD / name
        self.logs = BUILD / "logs" / name
        self.settings = settings
        self.log = Log()
        self.running = state.Running(path=self.home / "state.json")

    def begin(self) -> None:
        """Check what can be checked at once, end what a killed run left, and clear the folders."""
        plugin_version()
        _check_folder(self.home)
        left_over = state.load(self.running.path)
        if left_over:
            left_over.stop()
        processes.port_or_free(self.settings.port, server.WHAT, "PORT")
        processes.port_or_free(self.settings.aws_port, embedded.WHAT, "AWS_PORT")
        for folder in (self.home, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def set_up(self) -> tuple[Aws, Server, Deployment, Path]:
        """Take all steps up to the workflow."""
        asked = self.settings
        engine = docker.find() if asked.mode != "worker" else None

        self.log.step("cookiecutter --no-input: scaffolding a project")
        project = self._scaffold(engine)
        self.log.detail(f"{_short(project)}")

        self.log.step("starting an AWS on this machine (MiniStack) and a Covalent server")
        aws = embedded.start(
            self.home / "aws", port=asked.aws_port, engine=engine, log=self.logs / "ministack.log"
        )
        self.running.aws, self.running.aws_port = aws.child, aws.port
        self.running.save()
        covalent = server.launch(
            self.home / "covalent", aws.env, port=asked.port, log=self.logs / "covalent.log"
        )
        self.running.covalent, self.running.covalent_port = covalent.child, covalent.port
        self.running.save()

        deployment = deploying.deploy(
            project, aws, asked.mode, push=False, work=self.logs / "deploy", say=self.log.step
        )
        self._ping(deployment, aws, project)
        self.log.step(f"the executor: {PLUGIN} {plugin_version()} is installed")
        server.wait(covalent)
        self.log.step(f"Covalent answers at {covalent.url}")
        return aws, covalent, deployment, project

    def greet(self, aws: Aws, covalent: Server, project: Path) -> None:
        """Run the hello workflow and show what came of it.

        Raises:
            SandboxError: when it does not end COMPLETED with the greeting.
        """
        self.log.step("python workflows/hello.py, with AWSLambdaExecutor() reading samconfig.toml")
        env = environment.clean(os.environ, home=self.home / "home", python=Path(sys.executable))
        env.update({**aws.env, **covalent.env})
        output = processes.run(
            "workflows/hello.py",
            [sys.executable, "workflows/hello.py"],
            env=env,
            cwd=project,
            log=self.logs / "hello.log",
            seconds=WORKFLOW_SECONDS,
        )
        self.log.detail(output)
        dispatches = covalent.dispatches()
        if not dispatches:
            raise SandboxError("the workflow did not reach the Covalent server")
        dispatch = covalent.dispatch(dispatches[0])
        self.log.step(
            f"status {dispatch.status}; the server captured the electrons' lines marked stdout"
        )
        if dispatch.status != "COMPLETED" or GREETING not in output:
            raise SandboxError(f"the workflow did not answer {GREETING!r}: {dispatch.error}")
        lost = [line for line in dispatch.stdout.splitlines() if line not in output]
        if lost or not dispatch.stdout:
            raise SandboxError(f"{self.logs}/hello.log lacks what the electrons printed: {lost}")

    def clean_up(self, *, keep_project: bool = False) -> None:
        """End everything, and remove the folder, except for the project if it is to be kept."""
        self.running.stop()
        processes.stop_all()
        if not keep_project:
            shutil.rmtree(self.home, ignore_errors=True)
            return
        for path in self.home.iterdir():
            if path == self._projects:
                continue
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink()

    @property
    def _projects(self) -> Path:
        return self.home / "project"

    def _scaffold(self, engine: docker.Engine | None) -> Path:
        return deploying.scaffold(
            self._projects, answers=self.answers(engine), log=self.logs / "cookiecutter.log"
        )

    def answers(self, engine: docker.Engine | None) -> dict[str, str]:
        """Return the answers that differ from the template's defaults."""
        answers = {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"}
        # The bucket's name is in the image's: the same each time, or images would pile up.
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()
        answers["bucket_name"] = f"covalent-lambda-{digest[:8]}"
        # The emulation of another processor would be many times slower.
        machine = engine.architecture if engine else _architecture()
        if machine != "x86_64":
            answers["architecture"] = machine
        return answers

    def _ping(self, deployment: Deployment, aws: Aws, project: Path) -> None:
        self.log.step("invoking the deployed function with events/ping.json")
        answer = deploying.ping(deployment, aws, project)
        self.log.detail(
            f"{deployment.outputs.get('FunctionName')}: Python {answer.get('python')}, "
            f"{answer.get('architecture')}, {answer.get('memory_mb')} MB\n"
            f"runs in {deployment.where}"
        )


def plugin_version() -> str:
    """Return the version of the executor that is installed beside Covalent.

    Raises:
        SandboxError: when it is not installed.
    """
    try:
        return importlib.metadata.version(PLUGIN)
    except importlib.metadata.PackageNotFoundError:
        raise SandboxError(
            f"{PLUGIN} is not installed for {sys.executable}; run this through make"
        ) from None


def configure(journey: Journey, aws: Aws, covalent: Server, project: Path) -> None:
    """Write the project's names into the sandbox's own covalent.conf."""
    env = environment.clean(os.environ, home=journey.home / "home", python=Path(sys.executable))
    env.update({**aws.env, **covalent.env})
    processes.run(
        "python -m covalent_awslambda_plugin configure",
        [sys.executable, "-m", "covalent_awslambda_plugin", "configure"],
        env=env,
        cwd=project,
        log=journey.logs / "configure.log",
        seconds=CONFIGURE_SECONDS,
    )
    journey.log.step('configured: executor="awslambda" is this function, from any directory')


def write_environment(path: Path, aws: Aws, covalent: Server, project: Path) -> None:
    """Write a shell file that points any Covalent script at this sandbox, and back."""
    variables = {
        "PYTHON": sys.executable,
        "PYTHONPYCACHEPREFIX": str(BUILD / "pycache"),
        **aws.env,
        **covalent.env,
        "COVALENT_LAMBDA_SAMCONFIG": str(project / "samconfig.toml"),
    }
    text = _ENVIRONMENT.format(
        names=" ".join([*variables, *_UNSET, *_EXTENDED]),
        unset=" ".join(_UNSET),
        exports="\n".join(f"export {name}={shlex.quote(variables[name])}" for name in variables),
        sam=shlex.quote(str(Path(deploying.sam_command()).parent)),
    )
    path.write_text(text, encoding="utf-8")


_UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)
_EXTENDED = ("NO_PROXY", "no_proxy", "PATH")

# For sh, bash and zsh. Sourced a second time, it keeps what it saved the first time.
_ENVIRONMENT = """\
# Points this shell's Covalent and AWS clients at the sandbox of `make up`:
#   . build/demo.env && "$PYTHON" any_workflow.py
if [ -z "${{SANDBOX_ON-}}" ]; then
    for sandbox_name in {names}; do
        eval "SANDBOX_HAD_$sandbox_name=\\${{$sandbox_name+yes}}"
        eval "SANDBOX_OLD_$sandbox_name=\\${{$sandbox_name-}}"
    done
fi
SANDBOX_ON=yes
sandbox_off() {{
    for sandbox_name in {names}; do
        if eval "[ -n \\"\\$SANDBOX_HAD_$sandbox_name\\" ]"; then
            eval "export $sandbox_name=\\"\\$SANDBOX_OLD_$sandbox_name\\""
        else
            unset "$sandbox_name"
        fi
        unset "SANDBOX_HAD_$sandbox_name" "SANDBOX_OLD_$sandbox_name"
    done
    unset SANDBOX_ON sandbox_name
    unset -f sandbox_off
    echo "this shell has its own settings again" >&2
}}
unset {unset}
{exports}
export NO_PROXY="${{SANDBOX_OLD_NO_PROXY:+$SANDBOX_OLD_NO_PROXY,}}127.0.0.1,localhost"
export no_proxy="$NO_PROXY"
export PATH="$SANDBOX_OLD_PATH":{sam}
echo "this shell now uses the sandbox of make up; sandbox_off undoes it" >&2
"""


def _check_folder(folder: Path) -> None:
    """Covalent 0.240 makes URLs of its files' paths, and does not turn them back."""
    strange = sorted({letter for letter in str(folder) if quote(letter) != letter})
    if strange:
        raise SandboxError(
            f"Covalent finds no files below {folder}, as there is {' '.join(map(repr, strange))} "
            "in that path: clone to one of the letters a to z, digits, '-', '_' and '.'"
        )


def _architecture() -> str:
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def _short(path: Path) -> str:
    return os.path.relpath(path)
