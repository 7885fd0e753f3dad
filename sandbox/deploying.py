"""Scaffolds a project from this repository's template and deploys it to the machine's own AWS.

Two modes. *image*: `sam build`, a thin layer with Lambda's Runtime Interface Emulator on top (on
AWS the platform brings it), `sam deploy`, which pushes the image to MiniStack's registry; the
function runs as a Docker container. *worker*, without Docker: the same template.yaml and the same
`sam deploy`, with the function's own code as a zip, which MiniStack runs in a Python process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox import environment, processes
from sandbox.aws import (
    ACCESS_KEY,
    ACCOUNT,
    REPOSITORY,
    SECRET_KEY,
    Aws,
    in_ecr,
    local_image,
    registry,
)
from sandbox.engine import Engine
from sandbox.errors import SandboxError
from sandbox.settings import MODES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SCAFFOLD_SECONDS = 120.0
BUILD_SECONDS = 1200.0
DEPLOY_SECONDS = 600.0

_ARTIFACTS = "covalent-lambda-sandbox-artifacts"
_POLL_SECONDS = "0.5"
# The image's entry point in AWS's own base images, which bring the emulator along.
_AWS_ENTRY_POINT = "/lambda-entrypoint.sh"
_RESOLVING = re.compile(r"^[ \t]*(resolve_image_repos|resolve_s3)\s*=.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Deployment:
    """A project deployed to the machine's own AWS.

    Attributes:
        mode: "image" or "worker".
        where: where its function runs, in words.
        region: the stack's region.
        outputs: the stack's outputs by name.
        image: the name of the image that `sam build` made; empty in mode "worker".
    """

    mode: str
    where: str
    region: str
    outputs: Mapping[str, str]
    image: str = ""


def scaffold(into: Path, *, answers: Mapping[str, str] | None = None, log: Path) -> Path:
    """Generate a project from this repository with cookiecutter and return its folder.

    Args:
        into: the folder to make it in; made if missing.
        answers: answers that differ from the template's defaults.
        log: the file for cookiecutter's output.

    Raises:
        SandboxError: when cookiecutter refuses; its message is included.
    """
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.iterdir())
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(into), str(ROOT)]
    command += [f"{name}={value}" for name, value in (answers or {}).items()]
    env = environment.clean(os.environ, home=into.parent / "home", python=Path(sys.executable))
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # cookiecutter imports the template's extensions
    processes.run("cookiecutter", command, env=env, cwd=into, log=log, seconds=SCAFFOLD_SECONDS)
    made = set(into.iterdir()) - before
    if len(made) != 1:
        raise SandboxError(f"cookiecutter made no project in {into}; see {log}")
    return made.pop()


def deploy(
    project: Path,
    aws: Aws,
    mode: str = "auto",
    *,
    push: bool = True,
    work: Path | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Deployment:
    """Deploy a generated project with SAM CLI.

    Args:
        project: the project's folder.
        aws: the running AWS to deploy to.
        mode: "image", "worker", or "auto": image if a Docker engine answers and can get the base
            image, worker if not.
        push: push the image to the embedded AWS's registry, as `sam deploy` does for a real one
            (10 s for 400 MB). Without it, MiniStack finds the image on the Docker engine. An
            engine in a virtual machine cannot reach a registry of this machine: never a push.
        work: folder for intermediate files and logs; None means next to the project.
        say: called with a line of text at each step.

    Raises:
        SandboxError: when the mode is impossible here, or SAM CLI fails; the message holds the
            end of its output.
    """
    work = work or project.parent / f"{project.name}-deploy"
    work.mkdir(parents=True, exist_ok=True)
    steps = Deploying(project, aws, work, say)
    mode, reason = choose_mode(project, aws.engine, mode, work / "pull.log")
    image = ""
    if mode == "image":
        image = steps.image(
            push=push and aws.engine is not None and aws.engine.gateway is not None
        )
        where = f"a Docker container of the image that sam build made ({image})"
    else:
        say(f"{reason}: deploying the function's code for MiniStack's Python worker (sam deploy)")
        where = f"MiniStack's local Python worker, because {reason}"
        steps.worker()
    return Deployment(mode, where, steps.region, steps.outputs(), image)


def choose_mode(project: Path, engine: Engine | None, mode: str, log: Path) -> tuple[str, str]:
    """Return the mode to deploy in, and the reason when it is the worker.

    Raises:
        SandboxError: when `mode` is unknown, or "image" and impossible here.
    """
    if mode not in MODES:
        raise SandboxError(f"MODE={mode} is unknown: say one of {', '.join(MODES)}")
    if mode == "worker":
        return "worker", "MODE=worker was asked for"
    problem = _why_no_image(project, engine, log)
    if problem is None:
        return "image", ""
    if mode == "image":
        raise SandboxError(f"MODE=image is impossible: {problem}; start Docker or use MODE=worker")
    return "worker", problem


def ping(deployment: Deployment, aws: Aws, project: Path) -> dict[str, Any]:
    """Invoke the function with the project's events/ping.json and return its answer.

    Raises:
        SandboxError: when it cannot be invoked, or does not answer with status ok.
    """
    payload = (project / "events" / "ping.json").read_bytes()
    name = deployment.outputs.get("FunctionName", "")
    try:
        answer = client(aws, "lambda", deployment.region).invoke(
            FunctionName=name, Payload=payload
        )
        body = json.loads(answer["Payload"].read())
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SandboxError(f"the function {name} did not answer a ping: {error}") from error
    if not isinstance(body, dict) or body.get("status") != "ok":
        kind, text = _error_of(body)
        raise SandboxError(f"the function {name} failed on a ping: {kind}: {text}")
    return body


def client(aws: Aws, service: str, region: str) -> Any:
    """Return a boto3 client for the machine's own AWS that ignores all outer settings."""
    session = boto3.session.Session(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=region
    )
    settings = Config(
        read_timeout=900, retries={"total_max_attempts": 1}, proxies={}, signature_version=None
    )
    return session.client(service, endpoint_url=aws.endpoint_url, config=settings)


def sam_command() -> str:
    """Return the path of SAM CLI: beside this interpreter's environment, or on the PATH.

    Raises:
        SandboxError: when there is none.
    """
    beside = Path(sys.prefix).parent / "venv-sam" / "bin" / "sam"
    found = str(beside) if beside.exists() else shutil.which("sam")
    if found is None:
        raise SandboxError(f"SAM CLI is missing: no {beside}, no sam on the PATH; run make demo")
    return found


class Deploying:
    """The steps of one deployment, for callers that want to take them one by one.

    Args:
        project: the project's folder.
        aws: the running AWS to deploy to.
        work: folder for intermediate files and logs; made by the caller.
        say: called with a line of text at each step.
    """

    def __init__(self, project: Path, aws: Aws, work: Path, say: Callable[[str], None]) -> None:
        self.project = project
        self.aws = aws
        self.work = work
        self.say = say
        settings = _read_toml(project / "samconfig.toml")["default"]["global"]["parameters"]
        self.region = str(settings["region"])
        self.stack = str(settings["stack_name"])

    def image(self, *, push: bool) -> str:
        """Build, layer and deploy the image; return the name of what was built."""
        self.say("sam build: building the image (minutes the first time, seconds later)")
        self._sam("build", "build", seconds=BUILD_SECONDS)
        return self.built_image(push=push)

    def built_image(self, *arguments: str, push: bool) -> str:
        """Layer and deploy the image that `sam build` made; return its name.

        Args:
            arguments: more arguments for `sam deploy`.
            push: push it to the embedded AWS's registry.

        Raises:
            SandboxError: when it was not built, or SAM CLI fails.
        """
        engine = self.aws.engine
        assert engine is not None
        path = self.project / ".aws-sam" / "build" / "template.yaml"
        if not path.is_file():
            raise SandboxError(f"there is no {path}: run `sam build` in {self.project} first")
        template = read_template(path)
        local = local_image(self.aws.port)
        for resource in image_functions(template).values():
            built = str(resource["Properties"]["ImageUri"])
            self.add_emulator(engine, built, local)
            resource["Properties"]["ImageUri"] = local
        self.say(f"sam deploy: {'pushing the image, ' if push else ''}creating the stack")
        self._create_repository()
        if not push:
            self._skip_push(engine, template, local)
        repositories = " ".join(
            f"{name}={registry(self.aws.port)}" for name in image_functions(template)
        )
        path = write_template(template, self.work / "template.image.yaml")
        self._deploy(path, "--image-repositories", repositories, *arguments)
        return built

    def worker(self) -> None:
        """Deploy the function's code as a zip."""
        code = copy_function_code(self.project, self.work / "worker-code")
        template = as_worker_template(read_template(self.project / "template.yaml"), code)
        self._deploy(write_template(template, self.work / "template.worker.yaml"))

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs."""
        try:
            stacks = client(self.aws, "cloudformation", self.region).describe_stacks(
                StackName=self.stack
            )["Stacks"]
        except (BotoCoreError, ClientError) as error:
            raise SandboxError(f"the stack {self.stack} cannot be read: {error}") from error
        return {item["OutputKey"]: item["OutputValue"] for item in stacks[0].get("Outputs", [])}

    def add_emulator(self, engine: Engine, image: str, name: str) -> None:
        """Make the image `name`: `image` with the Runtime Interface Emulator as entry point."""
        settings = engine.image_settings(image)
        config: dict[str, Any] = settings["Config"]  # type: ignore[assignment]
        entry_point = list(config.get("Entrypoint") or [])
        machine = "arm64" if settings["Architecture"] == "arm64" else "x86_64"
        context = self.work / "emulator"
        context.mkdir(exist_ok=True)
        lines = [f"FROM {image}"]
        if entry_point != [_AWS_ENTRY_POINT]:
            shutil.copyfile(_emulator(machine), context / "aws-lambda-rie")
            (context / "aws-lambda-rie").chmod(0o755)
            wrapped = ["/usr/local/bin/aws-lambda-rie", *entry_point]
            lines += [
                "COPY aws-lambda-rie /usr/local/bin/aws-lambda-rie",
                f"ENTRYPOINT {json.dumps(wrapped)}",
                f"CMD {json.dumps(config.get('Cmd') or [])}",
            ]
        (context / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
        processes.run(
            "docker build (the emulator's layer)",
            ["docker", "build", "--tag", name, "."],
            env=engine.env,
            cwd=context,
            log=self.work / "emulator.log",
            seconds=BUILD_SECONDS,
        )

    def _skip_push(self, engine: Engine, template: dict[str, Any], local: str) -> None:
        """Name the image as if it were in ECR already, so that SAM CLI deploys without a push.

        MiniStack takes a local image of the function's ImageUri without pulling it. Another image
        has another name, or CloudFormation would find nothing to change.
        """
        version = str(engine.image_settings(local)["Id"]).removeprefix("sha256:")[:12]
        uri = in_ecr(self.region, self.aws.port, version)
        engine.tag(local, uri)
        for resource in image_functions(template).values():
            resource["Properties"]["ImageUri"] = uri

    def _create_repository(self) -> None:
        ecr = client(self.aws, "ecr", self.region)
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=REPOSITORY)

    def _deploy(self, template: Path, *arguments: str) -> None:
        """Run `sam deploy` with the project's own samconfig.toml.

        Only how artifacts are stored differs: `resolve_image_repos` would name a registry under
        amazonaws.com, and each `resolve_…` waits for a stack of its own.
        """
        client(self.aws, "s3", self.region).create_bucket(
            Bucket=_ARTIFACTS, **_location(self.region)
        )
        settings = (self.project / "samconfig.toml").read_text(encoding="utf-8")
        config = self.work / "samconfig.toml"
        config.write_text(without_resolving(settings), encoding="utf-8")
        command = ["deploy", "--config-file", str(config), "--template-file", str(template)]
        command += ["--s3-bucket", _ARTIFACTS, "--no-progressbar", *arguments]
        self._sam("deploy", *command, seconds=DEPLOY_SECONDS)

    def _sam(self, step: str, *arguments: str, seconds: float) -> str:
        home = self.work / "home"
        sam = Path(sam_command())
        env = environment.clean(os.environ, home=home, python=sam)
        env.update(self.aws.env)
        env.update(SAM_CLI_TELEMETRY="0", SAM_CLI_POLL_DELAY=_POLL_SECONDS)
        if self.aws.engine is not None:
            env["DOCKER_HOST"] = self.aws.engine.host
        if step == "deploy":
            env["DOCKER_CONFIG"] = str(self._docker_login(home))
        elif "DOCKER_CONFIG" not in env:
            env["DOCKER_CONFIG"] = str(Path.home() / ".docker")
        return processes.run(
            f"sam {step}",
            [str(sam), *arguments],
            env=env,
            cwd=self.project,
            log=self.work / f"sam-{step}.log",
            seconds=seconds,
        )

    def _docker_login(self, home: Path) -> Path:
        """Write a Docker configuration that holds a login for MiniStack's ECR endpoint.

        SAM CLI logs in at the address that ECR's token names, which is on amazonaws.com; it does
        not when the login is there already. The address that it then pushes to asks for none.
        """
        folder = home / "docker"
        folder.mkdir(parents=True, exist_ok=True)
        address = f"https://{ACCOUNT}.dkr.ecr.{self.region}.amazonaws.com"
        auths = {address: {"auth": b64encode(b"AWS:local").decode()}}
        (folder / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")
        return folder


def base_images(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile starts from, build arguments' defaults filled in."""
    values: dict[str, str] = {}
    stages: set[str] = set()
    found: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        if len(words) > 1 and words[0].upper() == "ARG" and not found:
            name, _, value = words[1].partition("=")
            values[name] = value.strip("\"'")
        elif len(words) > 1 and words[0].upper() == "FROM":
            rest = [word for word in words[1:] if not word.startswith("--")]
            image = _filled_in(rest[0], values)
            if image not in stages and image != "scratch" and image not in found:
                found.append(image)
            if len(rest) == 3 and rest[1].upper() == "AS":
                stages.add(rest[2])
    return found


def copy_function_code(project: Path, target: Path) -> Path:
    """Copy the Python files that the Dockerfile puts beside the handler, and return `target`.

    Raises:
        SandboxError: when no COPY line brings app.py.
    """
    dockerfile = (project / "function" / "Dockerfile").read_text(encoding="utf-8")
    sources: dict[str, list[Path]] = {}
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = [word for word in line.split() if not word.startswith("--chown")]
        if len(words) > 2 and words[0].upper() == "COPY" and not words[1].startswith("--"):
            files = [path for pattern in words[1:-1] for path in _python_files(project, pattern)]
            sources.setdefault(words[-1], []).extend(files)
    beside = [files for files in sources.values() if "app.py" in {path.name for path in files}]
    if not beside:
        raise SandboxError(f"no COPY line of {project}/function/Dockerfile brings app.py")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in beside[0]:
        shutil.copyfile(path, target / path.name)
    return target


def as_worker_template(template: dict[str, Any], code: Path) -> dict[str, Any]:
    """Return the template with its image functions as zip functions of the folder `code`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for resource in image_functions(template).values():
        resource.pop("Metadata", None)
        properties = resource["Properties"]
        for name in ("PackageType", "ImageUri", "ImageConfig"):
            properties.pop(name, None)
        properties.update(Runtime=version, Handler="app.handler", CodeUri=str(code))
    return template


def without_resolving(settings: str) -> str:
    """Return the text of a samconfig.toml without its settings that find places to upload to."""
    return _RESOLVING.sub("", settings)


def image_functions(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's serverless functions of package type Image, by logical id."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
        and resource["Properties"].get("PackageType") == "Image"
    }


def read_template(path: Path) -> dict[str, Any]:
    """Read a CloudFormation template; short tags (!Ref) become their long form."""
    template: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _TemplateLoader)
    return template


def write_template(template: Mapping[str, Any], path: Path) -> Path:
    """Write a template, as the JSON that YAML includes, and return its path."""
    path.write_text(json.dumps(template, indent=1, default=str), encoding="utf-8")
    return path


class _TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's tags."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        value = value.split(".", 1) if suffix == "GetAtt" else value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _intrinsic)


def _error_of(body: Any) -> tuple[str, str]:
    """Return the type and the message of an error that a function answered with."""
    if isinstance(body, dict) and "errorType" in body:
        return str(body["errorType"]), str(body.get("errorMessage"))
    return "unexpected answer", json.dumps(body)[:500]


def _why_no_image(project: Path, engine: Engine | None, log: Path) -> str | None:
    if engine is None:
        return "no Docker engine answers"
    dockerfile = (project / "function" / "Dockerfile").read_text(encoding="utf-8")
    for image in base_images(dockerfile):
        if not engine.can_get(image, log):
            return f"the base image {image} cannot be pulled"
    return None


def _emulator(machine: str) -> Path:
    """Return the Runtime Interface Emulator that SAM CLI brings along."""
    root = Path(sam_command()).resolve().parent.parent
    found = sorted(
        root.glob(f"lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}")
    )
    if not found:
        raise SandboxError(f"SAM CLI in {root} has no Runtime Interface Emulator for {machine}")
    return found[0]


def _python_files(project: Path, pattern: str) -> list[Path]:
    found = sorted(project.glob(pattern.strip("\"',[]").lstrip("./")))
    files = [inner for path in found for inner in ([path] if path.is_file() else path.iterdir())]
    return [path for path in files if path.suffix == ".py"]


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        return values.get(match[1] or match[3], "") or (match[2] or "")

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)", value_of, text)


def _location(region: str) -> dict[str, Any]:
    if region == "us-east-1":
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": region}}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = tomllib.load(file)
            return content
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SandboxError(f"{path} cannot be read: {error}") from error
