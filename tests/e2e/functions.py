"""More functions beside the deployed one, and what functions leave: logs, marks, objects."""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import harness
from harness import Deployed
from patience import wait_until

MARKS = "tasks/e2e-marks"
PUBLIC_PLUGIN = "covalent-awslambda-plugin==0.34.0rc0"
_HAS_ENDED = "REPORT RequestId"


@dataclass(frozen=True)
class Invocation:
    """One invocation, as the function's log in CloudWatch tells it.

    Attributes:
        ended: when the platform wrote its last line; seconds since 1970.
        text: its lines.
    """

    ended: float
    text: str


def envelope(function: Callable[..., Any], *args: Any, **fields: Any) -> dict[str, Any]:
    """The event that has a function run; `fields` are the request's own."""

    def part(value: Any) -> str:
        return base64.b64encode(cloudpickle.dumps(value)).decode()

    return {
        "covalent_lambda": 2,
        "task_id": "e2e-0-a",
        "key": "a key",
        "python": platform.python_version(),
        "cloudpickle": cloudpickle.__version__,
        "function": part(function),
        "args": [part(x) for x in args],
        **fields,
    }


@contextlib.contextmanager
def another_function(
    deployed: Deployed,
    name: str,
    *,
    image: str | None = None,
    memory: int = 512,
    timeout: int = 60,
    concurrency: int | None = None,
) -> Iterator[str]:
    """Deploy one more function for the time of a `with` block; yields its name.

    The generated policy names the deployed function alone: this one's own policy lets the user
    invoke it.

    Args:
        deployed: whose role it gets, and whose image if `image` is None.
        name: the end of its name.
        image: the image it runs.
        memory, timeout: in MB and seconds.
        concurrency: its reserved concurrency; None reserves none.
    """
    client = deployed.client("lambda")
    name = f"{deployed.outputs['FunctionName']}-{name}"
    client.create_function(
        FunctionName=name,
        PackageType="Image",
        Code={"ImageUri": image or deployed_image(deployed)},
        Role=deployed.outputs["FunctionRoleArn"],
        MemorySize=memory,
        Timeout=timeout,
    )
    try:
        client.add_permission(
            FunctionName=name,
            StatementId="user",
            Action="lambda:InvokeFunction",
            Principal=deployed.user.arn,
        )
        if concurrency is not None:
            client.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=concurrency
            )
        yield name
    finally:
        client.delete_function(FunctionName=name)


def bucket_by_hand(deployed: Deployed, name: str) -> str:
    """Make a bucket beside the deployed one, for the stock protocol, whose objects lie at a
    bucket's root; its name.

    The generated policies name the deployed bucket alone: this one's own policy lets in the user
    and the function's role.
    """
    s3, bucket = deployed.client("s3"), f"{deployed.outputs['BucketName']}-{name}"
    s3.create_bucket(Bucket=bucket)
    principals = [deployed.user.arn, deployed.outputs["FunctionRoleArn"]]
    arn = f"arn:aws:s3:::{bucket}"
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": actions, "Resource": on}
        for actions, on in (
            (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{arn}/*"),
            (["s3:ListBucket"], arn),
        )
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return bucket


def deployed_image(deployed: Deployed) -> str:
    """The image of the deployed function, by its name in the registry."""
    function = deployed.client("lambda").get_function(
        FunctionName=deployed.outputs["FunctionName"]
    )
    return str(function["Code"]["ImageUri"])


def build_stock_image(deployed: Deployed, work: Path) -> str:
    """Build an image whose handler is the public plugin's own; its name.

    Nothing but the plugin is downloaded: the rest of the image is the project's, which holds what
    Covalent's stock image holds (awslambdaric, boto3, cloudpickle, Covalent). The handler's client
    is told to address buckets by path, because bucket.endpoint is no name of this machine.
    """
    work.mkdir()
    command = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    done = deployed.project.python(
        *command, "--dest", str(work), PUBLIC_PLUGIN, env=deployed.project.sam_env()
    )
    assert done.code == 0, str(done)
    (package,) = work.glob("covalent*plugin*.tar.gz")
    with tarfile.open(package) as archive:
        (member,) = (m for m in archive.getmembers() if m.name.endswith("_plugin/exec.py"))
        handler = archive.extractfile(member)
        assert handler is not None
        (work / "exec.py").write_bytes(handler.read())
    (work / "aws-config").write_text("[default]\ns3 =\n    addressing_style = path\n", "utf-8")
    (work / "Dockerfile").write_text(
        f"FROM {deployed_image(deployed)}\n"
        "COPY exec.py aws-config /var/task/\n"
        "RUN chmod a+r /var/task/exec.py /var/task/aws-config\n"
        "ENV AWS_CONFIG_FILE=/var/task/aws-config\n"
        'CMD ["exec.handler"]\n',
        encoding="utf-8",
    )
    name = f"{harness.PROJECT}-stock:latest"
    docker(deployed, "build", "--quiet", "--tag", name, str(work))
    return name


def limit_memory(deployed: Deployed, function: str, megabytes: int) -> None:
    """Hold the function's containers to this much memory, as Lambda does; MiniStack does not."""
    found = containers(deployed, function)
    assert found, f"no container of {function}"
    limit = f"{megabytes}m"
    docker(deployed, "update", "--memory", limit, "--memory-swap", limit, *found)


def containers(deployed: Deployed, function: str) -> list[str]:
    """The running containers of a function of this AWS."""
    label = f"label=ministack.instance=covalent-lambda-sandbox:{deployed.aws.port}"
    ours = docker(deployed, "ps", "--quiet", "--filter", label).split()
    settings = json.loads(docker(deployed, "inspect", *ours)) if ours else []
    name = f"AWS_LAMBDA_FUNCTION_NAME={function}"
    return [one["Id"] for one in settings if name in one["Config"]["Env"]]


def docker(deployed: Deployed, *words: str) -> str:
    """Run a docker command; its output."""
    done = subprocess.run(
        ["docker", *words],
        env=dict(deployed.project.engine.env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout


def invocations(deployed: Deployed, function: str, text: str) -> list[Invocation]:
    """The ended invocations of a function in whose log `text` occurs."""
    logs, group = deployed.client("logs"), f"/aws/lambda/{function}"
    found = []
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for stream in page["logStreams"]:
            events = logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
            lines = "\n".join(event["message"] for event in events)
            if text in lines and _HAS_ENDED in lines:
                found.append(Invocation(events[-1]["timestamp"] / 1000, lines))
    return found


def invocation(deployed: Deployed, text: str, seconds: float = 10.0) -> Invocation:
    """The one invocation of the deployed function with `text` in its log, once it has ended."""
    function = deployed.outputs["FunctionName"]
    wait_until(
        lambda: bool(invocations(deployed, function, text)), f"the log of {text!r}", seconds
    )
    (one,) = invocations(deployed, function, text)
    return one


def marks(deployed: Deployed, name: str) -> int:
    """How many marks of this name electrons left."""
    return len(objects(deployed, f"{MARKS}/{name}/"))


def objects(deployed: Deployed, prefix: str = "", bucket: str = "") -> list[str]:
    """The keys in a bucket; in the project's if none is named."""
    pages = deployed.client("s3").get_paginator("list_objects_v2")
    bucket = bucket or deployed.outputs["BucketName"]
    return [
        item["Key"]
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", [])
    ]


def uploads(deployed: Deployed, prefix: str) -> list[str]:
    """The keys of all uploads to the project's bucket, one for each upload.

    The bucket keeps versions, so what was deleted again is among them.
    """
    pages = deployed.client("s3").get_paginator("list_object_versions")
    bucket = deployed.outputs["BucketName"]
    return [
        item["Key"]
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Versions", [])
    ]


def throttles(deployed: Deployed, function: str) -> float:
    """How many invocations of a function were refused for lack of concurrency in the last hour."""
    now = time.time()
    points = deployed.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Throttles",
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=now - 3600,
        EndTime=now + 300,
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def outcomes(answers: dict[str, Any]) -> dict[str, harness.Outcome]:
    """What a script of workflows/ printed, read."""
    return {name: harness.Outcome.from_json(answer) for name, answer in answers.items()}
