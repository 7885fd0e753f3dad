"""A real embedded AWS (MiniStack, IAM enforced) and a real Covalent server, for the commands.

Lambda alone is the stand-in of these tests: it has the real handler answer, in a process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_server
import boto3
import pytest
from aws_server import Answer
from function_box import Function
from secret_keys import written_in

from sandbox import Aws, Server, running_aws, running_covalent

REGION = "us-east-1"
FUNCTION, BUCKET = "fn", "transfer-bucket"
SAMCONFIG = f"""\
version = 0.1
[default.global.parameters]
region = "{REGION}"
stack_name = "my-stack"
parameter_overrides = ["FunctionName={FUNCTION}", "BucketName={BUCKET}"]
"""
ROOT = Path(__file__).parents[4]


@dataclass
class Cloud:
    """The embedded AWS, the stand-in for Lambda in it, and what must not be written."""

    aws: Aws
    functions: aws_server.AWS
    secrets: set[str]

    def env(self, key: str = "", secret: str = "") -> dict[str, str]:
        """What a client needs, with its own keys or the root user's."""
        env = {**self.aws.env, "AWS_ENDPOINT_URL_LAMBDA": self.functions.url}
        if key:
            env.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        return env

    def client(self, service: str) -> Any:
        """A client of the root user's."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.aws.endpoint_url,
            aws_access_key_id=self.aws.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.aws.env["AWS_SECRET_ACCESS_KEY"],
        )

    def user(self, name: str, *actions: str) -> dict[str, str]:
        """What the clients of a new user need, who may do `actions` on everything."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if actions:
            allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.secrets.add(key["SecretAccessKey"])
        return self.env(key["AccessKeyId"], key["SecretAccessKey"])


@pytest.fixture(scope="session")
def home(secrets: set[str]) -> Iterator[Path]:
    """A folder without letters that Covalent's addresses cannot hold; what servers and commands
    have left in it holds no user's key."""
    folder = Path(tempfile.mkdtemp(prefix="covalent-lambda-cli-"))
    yield folder
    found = written_in([folder], secrets)
    shutil.rmtree(folder, ignore_errors=True)
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def whole_cloud(home: Path, secrets: set[str]) -> Iterator[Cloud]:
    """Started once; tests take `cloud`."""
    with (
        aws_server.running() as functions,
        running_aws(home / "aws", auth=True) as aws,
        Function(home / "function") as function,
    ):

        def handled(event: dict[str, Any]) -> Answer:
            if not event["payload"]:  # a dry run
                return Answer(status=204, payload=b"")
            return Answer(payload=function.handle(json.loads(event["payload"])))

        functions.script = handled
        yield Cloud(aws, functions, secrets)


@pytest.fixture
def cloud(whole_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An AWS account that holds nothing but the bucket; the environment names it."""
    script = whole_cloud.functions.script
    reset = urllib.request.Request(
        f"{whole_cloud.aws.endpoint_url}/_ministack/reset", method="POST"
    )
    urllib.request.urlopen(reset).close()
    whole_cloud.client("s3").create_bucket(Bucket=BUCKET)
    for name, value in whole_cloud.env().items():
        monkeypatch.setenv(name, value)
    yield whole_cloud
    whole_cloud.functions.script = script


@pytest.fixture
def project(clean_surroundings: Path) -> Path:
    """A project's folder, which is the working directory."""
    (clean_surroundings / "samconfig.toml").write_text(SAMCONFIG)
    return clean_surroundings


@pytest.fixture(scope="session")
def covalent(whole_cloud: Cloud, home: Path) -> Iterator[Server]:
    """A real server, whose electrons go to the stand-in."""
    with running_covalent(home / "covalent", whole_cloud.env()) as server:
        yield server


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(covalent: Server, whole_cloud: Cloud) -> Command:
    """Runs a program in an environment of its own, as a user's shell would."""

    def run(*words: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            **whole_cloud.env(),
            **covalent.env,
            "PYTHONPATH": str(ROOT / "{{cookiecutter.project_name}}" / "executor"),
        }
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
