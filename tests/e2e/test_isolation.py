"""What an electron leaves behind, in the deployed image: tests/isolation's ways, one environment.

Each way is followed by an electron that looks at all that could have been left. The container's
user is root here, who may do more than Lambda's.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from functions import another_function, envelope, limit_memory
from harness import Deployed

sys.path.append(str(Path(__file__).parents[1] / "isolation"))

import ways
import world

for module in (ways, world):
    cloudpickle.register_pickle_by_value(module)


class Alone:
    """A function of one environment, asked directly."""

    def __init__(self, deployed: Deployed, name: str) -> None:
        self._lambda, self._name = deployed.client("lambda"), name
        self.bucket, self.s3 = deployed.outputs["BucketName"], deployed.client("s3")

    def call(self, function: Callable[..., Any], *args: Any, **fields: Any) -> dict[str, Any]:
        """Run a function there; the answer."""
        event = envelope(function, *args, **fields)
        answer = self._lambda.invoke(FunctionName=self._name, Payload=json.dumps(event).encode())
        body = answer["Payload"].read().decode()
        assert "FunctionError" not in answer, body
        found: dict[str, Any] = json.loads(body)
        return found

    def returned(self, function: Callable[..., Any], *args: Any) -> Any:
        """The value that a function returns there."""
        answer = self.call(function, *args)
        assert answer["failure"] is None, answer
        return cloudpickle.loads(base64.b64decode(answer["result"]))


@pytest.fixture(scope="module")
def alone(deployed: Deployed) -> Iterator[Alone]:
    """A function that has one environment."""
    with another_function(deployed, "isolation", memory=1024, concurrency=1) as name:
        yield Alone(deployed, name)


@pytest.fixture(scope="module")
def new(alone: Alone) -> Any:
    """The world as the first electron of the environment sees it."""
    return alone.returned(world.seen, ways.WORD)


@pytest.mark.parametrize("name", ways.IN_A_CONTAINER)
def test_next_electron_finds_the_world_new(alone: Alone, new: Any, name: str) -> None:
    """After each way to leave something behind, the next electron finds the world new, and the
    environment is warm."""
    way, ends = ways.IN_A_CONTAINER[name]
    failure = alone.call(way)["failure"]
    assert (failure["kind"] if failure else "") == ends, failure
    after = alone.call(world.seen, ways.WORD)
    assert after["failure"] is None, after["failure"]
    assert after["stdout"] == "seen\n" and after["stderr"] == ""
    found = alone.returned(world.seen, ways.WORD)
    assert {k: (v, new[k]) for k, v in found.items() if v != new[k]} == {}
    assert not after["usage"]["cold"]


def test_default_session_of_an_electron(alone: Alone) -> None:
    """An electron that sets boto3's default session, its endpoint and its keys redirects nothing
    of the function's: the large result of the next one lies in the bucket."""

    def redirects() -> None:
        import os

        import boto3

        os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        boto3.setup_default_session(aws_access_key_id="another", aws_secret_access_key="x")

    def large() -> bytes:
        return bytes(7_000_000)

    assert alone.call(redirects, bucket=alone.bucket)["failure"] is None
    answer = alone.call(large, task_id="isolation-0-a", bucket=alone.bucket)
    assert answer["failure"] is None and answer["result"]["key"] == "tasks/isolation-0-a/result"
    stored = alone.s3.get_object(Bucket=alone.bucket, Key=answer["result"]["key"])
    assert cloudpickle.loads(stored["Body"].read()) == bytes(7_000_000)
    alone.s3.delete_object(Bucket=alone.bucket, Key=answer["result"]["key"])


def test_cancelled_by_an_order(alone: Alone) -> None:
    """An order in the bucket ends an electron that holds the interpreter's lock, and what it had
    printed is told."""

    def holds() -> None:
        print("begun", end="")
        sum(range(10**13))

    alone.s3.put_object(Bucket=alone.bucket, Key="tasks/isolation-1-a/order", Body=b"cancel")
    answer = alone.call(holds, task_id="isolation-1-a", bucket=alone.bucket)
    assert answer["failure"]["kind"] == "cancelled"
    assert answer["stdout"] == "begun"
    assert answer["usage"]["duration"] < 2 + 3 + 3
    alone.s3.delete_object(Bucket=alone.bucket, Key="tasks/isolation-1-a/order")


def test_sign_of_life_and_outcome(alone: Alone) -> None:
    """An executor that lost its connection is told that the electron runs, and finds its end."""

    def sleeps() -> str:
        import time

        time.sleep(5)
        return "slept"

    folder = "tasks/isolation-2-a"
    alone.s3.put_object(Bucket=alone.bucket, Key=f"{folder}/order", Body=b"report 1")
    answer = alone.call(sleeps, task_id="isolation-2-a", bucket=alone.bucket)
    assert answer["text"] == "slept"
    read = {
        name: alone.s3.get_object(Bucket=alone.bucket, Key=f"{folder}/{name}")["Body"].read()
        for name in ("running", "outcome")
    }
    assert read["running"].endswith(b"\nreport 1")
    assert json.loads(read["outcome"].partition(b"\n")[2]) == answer
    for name in ("order", *read):
        alone.s3.delete_object(Bucket=alone.bucket, Key=f"{folder}/{name}")


def test_out_of_memory(deployed: Deployed) -> None:
    """An electron that takes more memory than there is is told of as such, with what it printed;
    the environment stays, and the next electron is warm."""

    def hoards() -> None:
        print("begun", end="")
        hoard = []
        while True:
            hoard.append(b"x" * 10_000_000)

    with another_function(deployed, "hoards", memory=256, concurrency=1) as name:
        alone = Alone(deployed, name)
        assert alone.returned(abs, -1) == 1
        limit_memory(deployed, name, 256)
        answer = alone.call(hoards)
        assert answer["failure"]["kind"] == "out-of-memory", answer
        assert answer["stdout"] == "begun"
        after = alone.call(abs, -2)
        assert after["text"] == "2" and not after["usage"]["cold"]
