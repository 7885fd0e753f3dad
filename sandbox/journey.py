"""The whole journey: scaffold, start an AWS, deploy, start Covalent, run the hello workflow."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from sandbox import aws as embedded
from sandbox import deploying, environment, packages, processes, projects, server, state
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
# Each concurrent execution is a process here. Lambda throttles as well, at the account's quota.
CALLS_PER_CORE = 4
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
        python: the Python of its programs, once `set_up` has chosen it.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.python = Path(sys.executable)
        self.home = BUILD / name
        self.logs = BUILD / "logs" / name
        self.settings = settings
        self.log = Log()
        self.running = state.Running(path=self.home / "state.json")

    @property
    def kept(self) -> tuple[str, ...]:
        """What stays in `home` from one time to the next: of `make up`, all that is the user's."""
        return ("project", "covalent") if self.name == "up" else ()

    def begin(self) -> None:
        """Check what can be checked at once, end what a killed run left, and clear the folders."""
        plugin_version()
        _check_folder(self.home)
        left_over = state.load(self.running.path)
        if left_over:
            left_over.stop(grace=0.0)
        processes.port_or_free(self.settings.port, server.WHAT, "PORT")
        processes.port_or_free(self.settings.aws_port, embedded.WHAT, "AWS_PORT")
        self._remove_all_but(self.kept)
        shutil.rmtree(self.logs, ignore_errors=True)
        for folder in (self.home, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def set_up(self) -> tuple[Aws, Server, Deployment, Path]:
        """Take all steps up to the workflow."""
        asked = self.settings
        engine = docker.find() if asked.mode != "worker" else None

        self.log.step("cookiecutter --no-input: scaffolding a project")
        project = self._project(engine)
        self._install_packages(project)

        self.log.step("starting an AWS on this machine (MiniStack) and a Covalent server")
        aws = embedded.start(
            self.home / "aws",
            port=asked.aws_port,
            engine=engine,
            log=self.logs / "ministack.log",
            python=self.python,
            concurrency=CALLS_PER_CORE * (os.cpu_count() or 1),
        )
        self.running.aws, self.running.aws_port = aws.child, aws.port
        self.running.mode = "worker" if engine is None else ""
        self.running.save()
        covalent = server.launch(
            self.home / "covalent",
            aws.env,
            port=asked.port,
            log=self.logs / "covalent.log",
            python=self.python,
        )
        self.running.covalent, self.running.covalent_port = covalent.child, covalent.port
        self.running.save()

        deployment = deploying.deploy(
            project, aws, asked.mode, push=False, work=self.logs / "deploy", say=self.log.step
        )
        self.running.mode = deployment.mode
        self.running.image = deployment.image
        self.running.save()
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
        output = processes.run(
            "workflows/hello.py",
            [str(self.python), "workflows/hello.py"],
            env=self._client_env(aws, covalent),
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

    def configure(self, aws: Aws, covalent: Server, project: Path) -> None:
        """Write the project's names into the sandbox's own covalent.conf."""
        processes.run(
            "python -m covalent_awslambda_plugin configure",
            [str(self.python), "-m", "covalent_awslambda_plugin", "configure"],
            env=self._client_env(aws, covalent),
            cwd=project,
            log=self.logs / "configure.log",
            seconds=CONFIGURE_SECONDS,
        )
        self.log.step('configured: executor="awslambda" is this function, from any directory')

    def clean_up(self, *, keep_project: bool = False) -> None:
        """End everything and remove what is not kept; the whole folder if nothing is."""
        # What will be removed needs no time to be written.
        self.running.stop(grace=2.0 if self.kept else 0.0)
        processes.stop_all(self.logs)
        self._remove_all_but((*self.kept, *(["project"] if keep_project else [])))

    def _client_env(self, aws: Aws, covalent: Server) -> dict[str, str]:
        env = environment.clean(os.environ, home=self.home / "home", python=self.python)
        return {**env, **aws.env, **covalent.env}

    def _remove_all_but(self, kept: Iterable[str]) -> None:
        for path in self.home.glob("*"):
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
            elif not path.is_dir():
                path.unlink()
        with contextlib.suppress(OSError):  # not empty, or never made
            self.home.rmdir()

    def _project(self, engine: docker.Engine | None) -> Path:
        """Scaffold a project; of `make up`, the one of the last time stays if it can."""
        fresh = deploying.scaffold(
            self.home / "fresh", answers=self.answers(engine), log=self.logs / "cookiecutter.log"
        )
        project, note = projects.put_in_place(
            fresh, self.home / "project", renew_packages=self.settings.packages is not None
        )
        fresh.parent.rmdir()
        self.log.detail(f"{_short(project)}{f' ({note})' if note else ''}")
        return project

    def _install_packages(self, project: Path) -> None:
        wanted = projects.packages(project)
        self.running.packages = "\n".join(wanted)
        if wanted:
            self.log.step(f"installing for the server and for scripts: {', '.join(wanted)}")
        self.python = packages.python_with(project, self.home / "venv", self.logs / "packages.log")

    def answers(self, engine: docker.Engine | None) -> dict[str, str]:
        """Return the answers that differ from the template's defaults."""
        answers = {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"}
        # The bucket's name is in the image's: the same each time, or images would pile up.
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()
        answers["bucket_name"] = f"covalent-lambda-{digest[:8]}"
        # The emulation of another processor would be many times slower.
        machine = engine.architecture if engine else docker.architecture_of(platform.machine())
        if machine != "x86_64":
            answers["architecture"] = machine
        if self.settings.packages:
            answers["packages"] = self.settings.packages
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


def write_environment(path: Path, aws: Aws, covalent: Server, project: Path, python: Path) -> None:
    """Write a shell file that points any Covalent script at this sandbox, and back.

    Args:
        path: the file to write.
        aws: the sandbox's AWS.
        covalent: its server.
        project: its project.
        python: the Python that the shell's `python` is to be.
    """
    variables = {
        "PYTHONPYCACHEPREFIX": str(BUILD / "pycache"),
        "SAM_CLI_TELEMETRY": "0",
        **aws.env,
        **covalent.env,
        "COVALENT_LAMBDA_SAMCONFIG": str(project / "samconfig.toml"),
    }
    own = _write_programs(path.parent / "sandbox-bin", python)
    # Behind the Python that has the packages, what else the sandbox's own one brings: `covalent`.
    first = f"{own}:{python.parent}:{Path(sys.executable).parent}"
    text = _ENVIRONMENT.format(
        names=" ".join([*variables, *_UNSET, *_EXTENDED]),
        unset=" ".join(_UNSET),
        exports="\n".join(f"export {name}={shlex.quote(variables[name])}" for name in variables),
        first=shlex.quote(first),
    )
    path.write_text(text, encoding="utf-8")


def _write_programs(folder: Path, python: Path) -> Path:
    """Write a `sam` that deploys to the sandbox, and a `covalent-lambda` on the right Python."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "sam": _SAM.format(
            root=shlex.quote(str(ROOT)),
            python=shlex.quote(sys.executable),
            sam=shlex.quote(deploying.sam_command()),
        ),
        "covalent-lambda": _COVALENT_LAMBDA.format(python=shlex.quote(str(python))),
    }
    for name, text in texts.items():
        program = folder / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    return folder


# SAM CLI would push to a registry on amazonaws.com, and MiniStack runs no image without the
# emulator that AWS brings along.
_SAM = """\
#!/bin/sh
# `sam deploy` goes to the sandbox of `make up`; all else is SAM CLI's.
if [ "${{1-}}" = deploy ]; then
    shift
    PYTHONPATH={root} exec {python} -m sandbox deploy "$@"
fi
exec {sam} "$@"
"""

# It imports scripts, and compares packages: with those of the Python that has all of them.
_COVALENT_LAMBDA = """\
#!/bin/sh
exec {python} -m covalent_awslambda_plugin "$@"
"""

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
#   . build/demo.env && python any_workflow.py
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
export PATH={first}:"$SANDBOX_OLD_PATH"
hash -r 2>/dev/null || true
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


def _short(path: Path) -> str:
    return os.path.relpath(path)
