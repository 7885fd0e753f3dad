"""The embedded AWS's log of a function, read while the function runs."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from patience import wait_until

from sandbox import Aws, running_aws

SECONDS = 60.0  # far more than any of it takes
CODE = """\
import pathlib, sys, time

def handler(event, context):
    print("begun", event["name"], file=sys.stderr)
    for number in range(event.get("lines", 0)):
        print(number, event["name"], file=sys.stderr)
    while not pathlib.Path(event["until"]).exists():
        time.sleep(0.05)
    print("ended", event["name"], file=sys.stderr)
    if event.get("fails"):
        raise ValueError("as asked")
    return "done"
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """An embedded AWS with a function that runs until a file is there."""
    with running_aws(tmp_path_factory.mktemp("aws"), with_docker=False) as running:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("app.py", CODE)
        client(running, "lambda").create_function(
            FunctionName="fn",
            Runtime="python3.11",
            Handler="app.handler",
            Role="arn:aws:iam::000000000000:role/r",
            Code={"ZipFile": archive.getvalue()},
            Timeout=120,
        )
        yield running


def client(aws: Aws, service: str) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=aws.endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def lines_of(aws: Aws, name: str) -> list[str]:
    """The log of the one invocation that was given this name."""
    logs = client(aws, "logs")
    group = "/aws/lambda/fn"
    for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
        events = logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )["events"]
        lines = [re.sub(r"[0-9a-f-]{36}.*", "ID", event["message"]) for event in events]
        if any(line.endswith(f" {name}") for line in lines):
            return lines
    return []


def begun(aws: Aws, name: str) -> list[str]:
    return ["START RequestId: ID", f"begun {name}"]


def test_it_can_be_read_while_the_function_runs(aws: Aws, tmp_path: Path) -> None:
    """Each of two invocations at once has its own lines, and each line once when both ended."""
    invoke = client(aws, "lambda").invoke
    with ThreadPoolExecutor(2) as threads:
        work = {
            name: threads.submit(
                invoke,
                FunctionName="fn",
                Payload=f'{{"name": "{name}", "until": "{tmp_path / name}"}}'.encode(),
            )
            for name in ("one", "two")
        }
        for name in work:
            wait_until(lambda n=name: lines_of(aws, n) == begun(aws, n), "its lines", SECONDS)
        assert not any(x.done() for x in work.values())
        (tmp_path / "two").touch()
        assert work["two"].result()["Payload"].read() == b'"done"'
        assert lines_of(aws, "one") == begun(aws, "one")
        (tmp_path / "one").touch()
        work["one"].result()
    for name in work:
        ended = [f"ended {name}", "END RequestId: ID", "REPORT RequestId: ID"]
        assert lines_of(aws, name) == begun(aws, name) + ended


def test_a_failed_invocation_ends_its_log(aws: Aws, tmp_path: Path) -> None:
    """With the traceback, between what it printed and its end."""
    event = f'{{"name": "three", "until": "{tmp_path}", "fails": true}}'
    client(aws, "lambda").invoke(FunctionName="fn", Payload=event.encode())
    lines = lines_of(aws, "three")
    assert lines[:3] == [*begun(aws, "three"), "ended three"]
    assert lines[-3:] == ["ValueError: as asked", "END RequestId: ID", "REPORT RequestId: ID"]


def test_an_invocation_has_all_its_lines(aws: Aws, tmp_path: Path) -> None:
    """Though others keep the AWS busy: none of them is left to the next one in its worker."""
    invoke, event = (
        client(aws, "lambda").invoke,
        f'{{"name": "%s", "until": "{tmp_path}", "lines": %d}}',
    )
    with ThreadPoolExecutor(4) as threads:
        for number in range(4):
            payload = (event % (f"busy-{number}", 9_000)).encode()
            threads.submit(invoke, FunctionName="fn", Payload=payload)
        for number in range(20):
            name = f"small-{number}"
            invoke(FunctionName="fn", Payload=(event % (name, 3)).encode())
            said = [*(f"{line} {name}" for line in range(3)), f"ended {name}"]
            ended = ["END RequestId: ID", "REPORT RequestId: ID"]
            assert lines_of(aws, name) == begun(aws, name) + said + ended
