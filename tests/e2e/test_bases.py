"""Images on other bases than `auto`, and images with large packages: built and run for real.

No registry need be reached: bases/*.Dockerfile make stand-ins of the published base and of AWS's
own, in what an image built on them depends on. The generated Dockerfile is not touched.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import PYTHON, Outcome, Project
from iam import User
from lacking import lacking

from sandbox.aws import Aws
from sandbox.deploying import Deployment, base_images, deploy, sam_command, scaffold
from sandbox.engine import Engine
from sandbox.server import Server

BASES = Path(__file__).with_name("bases")
LAYOUT = "covalent-lambda-bases-published:1"
OLD = "covalent-lambda-bases-other:1"  # the same with another Python, under a name that tells none
AWS_BASE = "covalent-lambda-bases-aws:1"
BUILD_SECONDS = 600.0

# AWS's own are longer, and do the same.
ENTRY_POINT = """#!/bin/sh
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then
    exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
fi
exec /var/runtime/bootstrap
"""
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH="$LAMBDA_TASK_ROOT:/var/runtime${PYTHONPATH:+:$PYTHONPATH}"
exec /var/lang/bin/python3 -m awslambdaric "$_HANDLER"
"""

# Makes an event for `sam local invoke` with the Python, the cloudpickle and the wire.py of the
# image.
MAKE_EVENT = """
import platform, sys
import cloudpickle, wire

def work(text):
    print("electron", text)
    return text.upper()

parts = [wire.encode(cloudpickle.dumps(each)) for each in (work, "on python")]
print(wire.Request(
    task_id="bases", key="k", python=platform.python_version(),
    cloudpickle=cloudpickle.__version__, function=parts[0], args=parts[1:],
).to_json())
"""
READ_RESULT = "import pickle, sys, wire; print(repr(pickle.loads(wire.decode(sys.argv[1]))))"

Make = Callable[..., Project]
Published = Callable[[str, str], str]


@pytest.fixture(scope="module")
def make(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Generate a project; its images are gone afterwards."""
    projects: list[Project] = []

    def made(name: str, **answers: str) -> Project:
        work = tmp_path_factory.mktemp(name)
        if docker.architecture != "x86_64":
            answers = {"architecture": docker.architecture, **answers}
        answers = {"project_name": name, **answers}
        folder = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
        projects.append(Project(folder, work, docker))
        return projects[-1]

    yield made
    for project in projects:
        project.prune_images()


def build_base(engine: Engine, file: str, tag: str, context: Path, *arguments: str) -> None:
    """`docker build` of one of BASES."""
    command = ["docker", "build", "--quiet", "--tag", tag, "--file", str(BASES / file)]
    for argument in arguments:
        command += ["--build-arg", argument]
    done = harness.run([*command, str(context)], context, engine.env, BUILD_SECONDS)
    assert done.code == 0, str(done)


def needs(engine: Engine, image: str, log: Path) -> None:
    """Skip, or fail, where an image cannot be had."""
    if not engine.can_get(image, log):
        lacking(f"the image {image} cannot be had: .ci/base-images makes a stand-in")


@pytest.fixture(scope="module")
def published(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Make a stand-in of Covalent's published base for a Python."""
    made: list[str] = []

    def build(tag: str, python: str) -> str:
        context = tmp_path_factory.mktemp("published")
        plain = f"public.ecr.aws/docker/library/python:{python}-slim"
        needs(docker, plain, context / "pull.log")
        build_base(docker, "published.Dockerfile", tag, context, f"PYTHON={python}")
        made.append(tag)
        return tag

    yield build
    for tag in made:
        docker.remove_images(tag)


@pytest.fixture(scope="module")
def aws_base(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stand-in of AWS's base image for this Python."""
    context = tmp_path_factory.mktemp("aws-base")
    needs(docker, f"public.ecr.aws/docker/library/python:{PYTHON}-slim", context / "pull.log")
    (context / "lambda-entrypoint.sh").write_text(ENTRY_POINT)
    (context / "bootstrap").write_text(BOOTSTRAP)
    shutil.copyfile(emulator(docker), context / "aws-lambda-rie")
    build_base(docker, "aws.Dockerfile", AWS_BASE, context, f"PYTHON={PYTHON}")
    yield AWS_BASE
    docker.remove_images(AWS_BASE)


def emulator(engine: Engine) -> Path:
    """The Runtime Interface Emulator that SAM CLI brings along."""
    name = f"samcli/local/rapid/aws-lambda-rie-{engine.architecture}"
    libraries = Path(sam_command()).resolve().parent.parent / "lib"
    return next(libraries.glob(f"python3*/site-packages/{name}"))


def in_image(project: Project, *words: str) -> harness.Command:
    """Run the image's Python, as Lambda's unprivileged user."""
    command = ["docker", "run", "--rm", "--network", "none", "--user", "993:990"]
    command += ["--entrypoint", "python3", project.image(), *words]
    return harness.run(command, project.folder, project.engine.env, 60)


def check_locally(project: Project, python: str) -> dict[str, Any]:
    """A ping and an electron through `sam local invoke`; the ping's answer."""
    ping = project.sam("local", "invoke", "-e", "events/ping.json").json
    assert ping["status"] == "ok"
    assert ping["python"].startswith(f"{python}.")
    event = in_image(project, "-c", MAKE_EVENT)
    assert event.code == 0, str(event)
    (project.work / "event.json").write_text(event.stdout)
    answer = project.sam("local", "invoke", "-e", str(project.work / "event.json")).json
    assert answer["failure"] is None, answer
    assert answer["stdout"] == "electron on python\n"
    result = in_image(project, "-c", READ_RESULT, answer["result"])
    assert ast.literal_eval(result.stdout) == "ON PYTHON", str(result)
    return dict(ping)


def settings(project: Project, image: str) -> dict[str, Any]:
    config: dict[str, Any] = project.engine.image_settings(image)["Config"]  # type: ignore[assignment]
    return config


def test_published_base(make: Make, published: Published) -> None:
    """The generated Dockerfile builds on a base of the published one's layout: entry point kept,
    its own handler replaced, user packages beside what it has, an electron runs."""
    layout = published(LAYOUT, PYTHON)
    project = make(
        "bases-published", python_version=PYTHON, base_image=layout, packages="toolz==1.0.0"
    )
    built = project.sam("build")
    assert built.code == 0, str(built)
    base, image = settings(project, layout), settings(project, project.image())
    assert image["Entrypoint"] == base["Entrypoint"] == ["python", "-m", "awslambdaric"]
    assert image["Cmd"] == ["app.handler"]
    assert image["WorkingDir"] == "/var/task"
    check_locally(project, PYTHON)
    version = in_image(project, "-c", "import toolz; print(toolz.__version__, toolz.__file__)")
    assert version.stdout.split() == ["1.0.0", "/var/task/toolz/__init__.py"], str(version)


def test_aws_base(make: Make, aws_base: str) -> None:
    """On AWS's own base, which has neither Covalent nor cloudpickle, the handler gets what it
    needs, and AWS's entry point starts it."""
    project = make("bases-aws", python_version=PYTHON, base_image=aws_base, packages="toolz")
    built = project.sam("build")
    assert built.code == 0, str(built)
    image = settings(project, project.image())
    assert image["Entrypoint"] == ["/lambda-entrypoint.sh"]
    assert image["Cmd"] == ["app.handler"]
    ping = check_locally(project, PYTHON)
    assert ping["covalent"] is None
    where = in_image(
        project, "-c", "import cloudpickle, sys; print(cloudpickle.__file__, sys.prefix)"
    )
    assert where.stdout.split() == ["/var/task/cloudpickle/__init__.py", "/var/lang"], str(where)


def test_other_python(make: Make, published: Published) -> None:
    """A base whose Python is not the project's ends the build: both versions, what to do."""
    old = published(OLD, "3.8")
    project = make("bases-other-python", python_version=PYTHON, base_image=old)
    built = project.sam("build")
    assert built.code != 0
    said = " ".join((built.stdout + built.stderr).split())
    assert f"The base image has Python 3.8, but this project is for Python {PYTHON}" in said
    assert "in function/Dockerfile" in said
    assert "PROJECT_PYTHON=3.8" in said


def test_no_lambda_runtime(make: Make, docker: Engine, tmp_path: Path) -> None:
    """A plain Python image under another name ends the build too, and says what is missing."""
    plain = f"public.ecr.aws/docker/library/python:{PYTHON}-slim"
    needs(docker, plain, tmp_path / "pull.log")
    docker.tag(plain, "covalent-lambda-bases-plain:1")
    try:
        project = make(
            "bases-plain", python_version=PYTHON, base_image="covalent-lambda-bases-plain:1"
        )
        built = project.sam("build")
    finally:
        docker.remove_images("covalent-lambda-bases-plain:1")
    assert built.code != 0
    assert "has no Lambda runtime (awslambdaric)" in " ".join(built.stderr.split())


def test_hashed_packages(make: Make, docker: Engine) -> None:
    """The README's commands pin base and packages by hash; what they write is installed, with the
    versions pinned, and listed in the image's bill of materials; another hash ends the build."""
    project = make("bases-hashed", python_version=PYTHON, packages="requests")
    for image in base_images((project.folder / "function" / "Dockerfile").read_text("utf-8")):
        needs(docker, image, project.work / "pull.log")
    pin(project)
    pinned = pins(project, "build/base.txt") | pins(project, "requirements.txt")
    built = project.sam("build")
    assert built.code == 0, str(built)
    bill = in_image(project, "-c", "print(open('/var/task/bill-of-materials.json').read())")
    listed = {each["name"]: each["version"] for each in json.loads(bill.stdout)["components"]}
    installed = {normal(name): version for name, version in listed.items()}
    names = ("requests", "covalent", "awslambdaric", "boto3", "cloudpickle")
    assert {name: installed[name] for name in names} == {name: pinned[name] for name in names}
    assert "pip" in installed  # what the interpreter itself has counts too
    requirements = project.folder / "function" / "requirements.txt"
    text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, requirements.read_text("utf-8"))
    requirements.write_text(text, encoding="utf-8")
    refused = project.sam("build")
    assert refused.code != 0
    assert "DO NOT MATCH THE HASHES" in refused.stdout + refused.stderr, str(refused)


def pin(project: Project) -> None:
    """Run what the README says under "Packages, by version and hash"."""
    text = (project.folder / "README.md").read_text(encoding="utf-8")
    commands = text.split("- Packages, by version and hash.")[1].split("```")[1]
    path = f"{uv().parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path}
    done = harness.run(["sh", "-ec", commands], project.folder, env, BUILD_SECONDS)
    assert done.code == 0, str(done)


def uv() -> Path:
    """uv, which makes this repository's own venvs."""
    own = Path(sys.prefix).parent / "uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        lacking("uv is missing")
    assert found is not None
    return Path(found)


def pins(project: Project, name: str) -> dict[str, str]:
    """The versions that a file of requirements pins."""
    text = (project.folder / "function" / name).read_text(encoding="utf-8")
    assert "--hash=sha256:" in text
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


def normal(name: str) -> str:
    """A package's name as uv writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def science(
    make: Make, aws: Aws, user: User, docker: Engine
) -> Iterator[tuple[Project, Deployment]]:
    """A project with numpy, pandas and scipy, deployed; the user holds its ExecutorPolicy too."""
    project = make("bases-science", python_version=PYTHON, packages="numpy pandas scipy")
    for image in base_images((project.folder / "function" / "Dockerfile").read_text("utf-8")):
        needs(docker, image, project.work / "pull.log")
    work = project.work / "deploy"
    deployed = deploy(project.folder, aws, "image", push=False, work=work)
    with user.holding(deployed.outputs["ExecutorPolicyArn"]):
        yield project, deployed


def test_compiled_packages(
    science: tuple[Project, Deployment], covalent: Server, user: User
) -> None:
    """numpy, pandas and scipy compute in the deployed image, used by an electron through
    Covalent's server, which lacks pandas."""
    project, deployed = science
    env = {**project.sam_env(), **user.env, **covalent.env}
    names = [deployed.outputs[name] for name in ("FunctionName", "BucketName", "Region")]
    answer = project.python(str(harness.WORKFLOWS / "science.py"), *names, env=env).json
    assert "pandas" not in answer.pop("here")
    outcome = Outcome.from_json(answer)
    assert outcome.status == "COMPLETED", answer
    result = ast.literal_eval(outcome.result)
    assert result == {"solves": True, "sums": {"a": 2, "b": 4}, "area": 2.0}


def test_sizes(science: tuple[Project, Deployment]) -> None:
    """The handler adds under 1 MB to the base; the packages are a layer of their own."""
    project, _ = science
    layers = layer_sizes(project)
    print(json.dumps(layers))
    assert layers["handler"] < 1_000_000
    assert layers["packages"] > 50_000_000


def test_changes_rebuild_only_their_layers(science: tuple[Project, Deployment]) -> None:
    """A changed handler reinstalls nothing: base and packages stay the very same layers."""
    project, _ = science
    before = layers_of(project)
    with (project.folder / "function" / "app.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    built = project.sam("build")
    assert built.code == 0, str(built)
    after = layers_of(project)
    assert len(after) == len(before)
    assert after[:-1] == before[:-1]  # settings make no layer
    assert after[-1] != before[-1]


def layers_of(project: Project) -> list[str]:
    """The digests of an image's layers."""
    found: Any = project.engine.image_settings(project.image())["RootFS"]
    return list(found["Layers"])


def layer_sizes(project: Project) -> dict[str, int]:
    """Bytes that each part of the image takes: base, packages, handler."""
    form = "{{.Size}}\t{{.CreatedBy}}"
    command = ["docker", "history", "--no-trunc", "--human=false", "--format", form]
    done = subprocess.run(
        [*command, project.image()],
        env=dict(project.engine.env),
        capture_output=True,
        text=True,
        check=True,
    )
    sizes = {"base": 0, "packages": 0, "handler": 0}
    for part, line in zip(("handler", "packages"), copies(done.stdout), strict=True):
        sizes[part] = line
    total = sum(int(line.partition("\t")[0]) for line in done.stdout.splitlines())
    sizes["base"] = total - sizes["packages"] - sizes["handler"]
    return sizes


def copies(history: str) -> Iterator[int]:
    """The sizes of the two layers that the last stage copies, the last one first."""
    rows = [line.partition("\t") for line in history.splitlines()]
    found = [int(size) for size, _, command in rows if "COPY" in command and int(size)]
    yield from found[:2]
