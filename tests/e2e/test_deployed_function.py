"""The function that `sam deploy` put on the embedded AWS, asked directly."""

from __future__ import annotations

import json
import platform
from types import ModuleType

import harness
import pytest
from harness import PYTHON, Deployed


@pytest.fixture(scope="module")
def wire(deployed: Deployed) -> ModuleType:
    """The generated project's own wire.py."""
    return harness.project_wire(deployed.project)


def test_deploy_needs_no_flag(deployed: Deployed) -> None:
    """`sam deploy` alone pushes the image, creates the stack and prints its outputs."""
    assert deployed.command.words[1:] == ("deploy",)
    wanted = {"FunctionName", "FunctionArn", "BucketName", "Region", "FunctionRoleArn"}
    assert wanted | {"ExecutorPolicyArn", "ExecutorSnippet"} <= set(deployed.outputs)
    assert all(deployed.outputs.values())


def test_function_is_the_pushed_image(deployed: Deployed) -> None:
    """The function's code is an image in the account's registry, its entry point untouched."""
    name = deployed.outputs["FunctionName"]
    function = deployed.client("lambda").get_function(FunctionName=name)
    assert function["Configuration"]["PackageType"] == "Image"
    assert ".dkr.ecr." in function["Code"]["ImageUri"]
    assert not function["Configuration"].get("ImageConfigResponse", {}).get("ImageConfig")


def test_names_come_from_samconfig(deployed: Deployed) -> None:
    """Function and bucket exist under the names that samconfig.toml gives."""
    function = deployed.outputs["FunctionName"]
    settings = (deployed.project.folder / "samconfig.toml").read_text(encoding="utf-8")
    assert f'"FunctionName={function}"' in settings
    assert f'"BucketName={deployed.outputs["BucketName"]}"' in settings
    deployed.client("s3").head_bucket(Bucket=deployed.outputs["BucketName"])


def test_ping(deployed: Deployed) -> None:
    """The deployed function answers events/ping.json with what runs it."""
    event = json.loads((deployed.project.folder / "events" / "ping.json").read_text("utf-8"))
    answer = deployed.invoke(event)
    assert answer["status"] == "ok"
    assert answer["python"].startswith(f"{PYTHON}.")
    assert answer["architecture"] == platform.machine()


def test_event_that_is_no_envelope(deployed: Deployed) -> None:
    """Anything else is refused in words, and nothing of it is run."""
    answer = deployed.invoke({"key": "value"})
    assert "covalent_lambda" in answer
    assert "not an envelope" in json.dumps(answer)


def test_other_python(deployed: Deployed, wire: ModuleType) -> None:
    """A pickle of another Python is not touched; both versions and the remedy are named."""
    request = wire.Request(
        task_id="e2e-other-python",
        key="of no use here",
        python="3.13.1",
        cloudpickle="3.1.2",
        function=wire.encode(b"no pickle at all: unpickling it would fail in another way"),
    )
    response = wire.Response.from_json(deployed.invoke(json.loads(request.to_json())))
    assert response.failure is not None
    assert response.failure.kind == wire.PYTHON_DIFFERS
    assert "3.13.1" in response.failure.message
    assert f"Python {PYTHON}" in response.failure.message
    assert "python_version 3.13" in response.failure.message
