"""What is deployed, and how, follows from the project's own files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sandbox import deploying
from sandbox.engine import Engine, gateway_of
from sandbox.errors import SandboxError

DOCKERFILE = """\
ARG PYTHON_IMAGE=registry.example/python:3.12-slim
FROM ${PYTHON_IMAGE} AS packages
ARG LAMBDA_TASK_ROOT=/var/task
RUN pip install \\
    awslambdaric
COPY function/build/install.py /tmp/function/
FROM --platform=linux/amd64 ${OTHER:-registry.example/debian} AS base
COPY --from=packages /packages/ ${LAMBDA_TASK_ROOT}/
FROM base
COPY function/*.py executor/wire.py ${LAMBDA_TASK_ROOT}/
CMD ["app.handler"]
"""

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  ElectronFunction:
    Type: AWS::Serverless::Function
    Metadata: {Dockerfile: function/Dockerfile}
    Properties:
      PackageType: Image
      FunctionName: !Ref FunctionName
      Role: !GetAtt Role.Arn
      Timeout: 30
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: 2012-10-17}
      Description: !Sub ["role of ${name}", {name: !Ref FunctionName}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with the files that matter here."""
    for name in ("function/app.py", "function/task.py", "function/build/install.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "executor").mkdir()
    (tmp_path / "executor" / "wire.py").write_text("")
    (tmp_path / "function" / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path


def engine(*, has: bool) -> Engine:
    """Make an engine whose images are all present, or that can get none."""

    class Fixed(Engine):
        def can_get(self, image: str, log: Path) -> bool:
            return has

    return Fixed(host="", architecture="x86_64", gateway=None, env={})


def test_base_images_fill_in_arguments_and_skip_stages() -> None:
    """Only images from outside count: not a stage's name, and with defaults for ARGs."""
    expected = ["registry.example/python:3.12-slim", "registry.example/debian"]
    assert deploying.base_images(DOCKERFILE) == expected


def test_the_worker_gets_what_the_dockerfile_puts_beside_the_handler(project: Path) -> None:
    """The zip holds the files of the task root, and no build helper."""
    code = deploying.copy_function_code(project, project / "code")
    assert sorted(path.name for path in code.iterdir()) == ["app.py", "task.py", "wire.py"]


def test_a_dockerfile_without_the_handler_is_refused(project: Path) -> None:
    """A Dockerfile whose COPY lines bring no app.py cannot be run as a zip."""
    (project / "function" / "Dockerfile").write_text("FROM base\n")
    with pytest.raises(SandboxError, match=r"brings app\.py"):
        deploying.copy_function_code(project, project / "code")


def test_the_worker_template_changes_the_function_only(project: Path) -> None:
    """Package type, runtime, handler and code change; names, role and settings stay."""
    template = deploying.read_template(project / "template.yaml")
    changed = deploying.as_worker_template(template, Path("/code"))
    path = deploying.write_template(changed, project / "worker.yaml")
    resources = yaml.safe_load(path.read_text())["Resources"]
    properties = resources["ElectronFunction"]["Properties"]
    assert properties.pop("Runtime").startswith("python3.")
    assert properties == {
        "FunctionName": {"Ref": "FunctionName"},
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Timeout": 30,
        "Handler": "app.handler",
        "CodeUri": "/code",
    }
    role = resources["Role"]["Properties"]
    assert role["AssumeRolePolicyDocument"] == {"Version": "2012-10-17"}
    assert role["Description"] == {
        "Fn::Sub": ["role of ${name}", {"name": {"Ref": "FunctionName"}}]
    }


@pytest.mark.parametrize(
    ("asked", "here", "expected"),
    [
        ("auto", engine(has=True), ("image", "")),
        ("image", engine(has=True), ("image", "")),
        ("worker", engine(has=True), ("worker", "MODE=worker was asked for")),
        ("auto", None, ("worker", "no Docker engine answers")),
        (
            "auto",
            engine(has=False),
            ("worker", "the base image registry.example/python:3.12-slim cannot be pulled"),
        ),
    ],
)
def test_the_mode_follows_from_what_is_there(
    project: Path, asked: str, here: Engine | None, expected: tuple[str, str]
) -> None:
    """An image where one can be built, the worker and the reason elsewhere."""
    assert deploying.choose_mode(project, here, asked, project / "log") == expected


def test_an_image_without_docker_is_refused(project: Path) -> None:
    """Asking for the impossible is an error that says what to do."""
    with pytest.raises(SandboxError, match="no Docker engine answers; start Docker or use MODE"):
        deploying.choose_mode(project, None, "image", project / "log")


def test_an_unknown_mode_is_refused(project: Path) -> None:
    """A misspelt mode lists the known ones."""
    with pytest.raises(SandboxError, match="MODE=docker is unknown: say one of auto, image"):
        deploying.choose_mode(project, None, "docker", project / "log")


def test_only_the_resolving_settings_leave_samconfig() -> None:
    """Names, capabilities and comments of a project's samconfig.toml stay as they are."""
    text = 'region = "eu-west-1"\nresolve_image_repos = true\n# a note\n  resolve_s3=true\n'
    assert deploying.without_resolving(text) == 'region = "eu-west-1"\n# a note\n'


def test_the_gateway_is_the_first_address_where_the_engine_does_not_say() -> None:
    """Docker 20.10 lists a subnet without its gateway."""
    assert gateway_of({"Subnet": "172.17.0.0/16"}) == "172.17.0.1"
    assert gateway_of({"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.9"}) == "172.17.0.9"
