"""Days on which the machine, the project or the deployment is not as it was."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_server import AWS, Answer
from calls import call
from covalent_awslambda_plugin import running
from electrons import execute, good, made
from function_box import timed
from lambda_calls.errors import LambdaCallError, ResourceLimitError, ResultUnreadError
from lambda_calls.session import Process
from patience import BUSY
from secret_keys import SECRET_KEY
from template_paths import EXECUTOR
from tmpfs import fill, mounted

import wire

SCRIPT = f"""
import sys
sys.path.insert(0, {str(EXECUTOR)!r})
from lambda_calls import LambdaPoolExecutor
with LambdaPoolExecutor(function_name="fn", s3_bucket_name="b", region="eu-west-1") as pool:
    future = pool.submit(abs, -7)
    print("sent", flush=True)
    print(future.result(), flush=True)
"""


def answered(event: dict[str, Any], value: Any) -> Answer:
    """A batch's answer in which the only call returned `value`."""
    import pickle

    frames = wire.Frame(wire.BEGUN, 0, b"").to_bytes()
    frames += wire.Frame(wire.VALUE, 0, pickle.dumps(value)).to_bytes()
    task_id = json.loads(event["payload"])["task_id"]
    response = wire.Response(
        python="3.11", cloudpickle="3", result=wire.encode(frames), task_id=task_id
    )
    return Answer(payload=response.to_json())


def script(aws: AWS, **environment: str) -> "subprocess.Popen[str]":
    keys = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": aws.url,
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={"PATH": os.environ["PATH"], **keys, **environment},
        cwd=environment.get("HOME", "/"),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_suspended_laptop(aws: AWS, tmp_path: Path) -> None:
    """A client that is stopped in the middle of a call has its result once it goes on."""

    def slow(event: dict[str, Any]) -> Answer:
        time.sleep(1)
        return answered(event, 7)

    aws.script = slow
    with script(aws, HOME=str(tmp_path)) as client:
        assert client.stdout is not None and client.stdout.readline() == "sent\n"
        client.send_signal(signal.SIGSTOP)
        time.sleep(3)
        client.send_signal(signal.SIGCONT)
        assert client.stdout.readline() == "7\n"
        assert client.wait(30) == 0


def test_nothing_can_be_written(aws: AWS) -> None:
    """The pool needs no file: home, working and temporary folder may be read-only."""
    aws.script = lambda event: answered(event, 7)
    with script(aws, HOME="/proc", TMPDIR="/proc") as client:
        assert client.communicate(timeout=60)[0] == "sent\n7\n"


@pytest.mark.parametrize("options", ["size=64k", "size=1m,ro"])
def test_disk_full_or_read_only(aws: AWS, tmp_path: Path, options: str) -> None:
    """So it is on a disk on which no byte is left, and on one that is mounted to be read."""
    with mounted(tmp_path / "disk", options) as folder:
        fill(folder)
        aws.script = lambda event: answered(event, 7)
        with script(aws, HOME=str(folder), TMPDIR=str(folder)) as client:
            assert client.communicate(timeout=60)[0] == "sent\n7\n"


def test_covalents_results_folder_is_full(
    aws: AWS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the executor itself writes there is no reason to fail an electron; the log says what is
    missing, once."""
    aws.script = lambda event: good(1)
    with mounted(tmp_path / "disk", "size=64k") as folder:
        monkeypatch.setattr(running, "get_config", lambda name: str(folder))
        (folder / "dispatch").mkdir()
        fill(folder)
        result, _, stderr, status = execute(made(), len, "x")
        assert (result.get_deserialized(), stderr, status) == (1, "", "COMPLETED")
    said = [x.getMessage() for x in caplog.records if "could not be noted" in x.getMessage()]
    assert len(said) == 1 and "No space left" in said[0]


def test_suspended_until_the_connection_is_gone(aws: AWS, tmp_path: Path) -> None:
    """A client that is stopped while its connection breaks asks for the outcome once it goes on,
    and has it: the call ran once."""
    calls: list[str] = []

    def lost(event: dict[str, Any]) -> Answer:
        calls.append(event["payload"])
        request = json.loads(event["payload"])
        outcome = json.dumps(answered(event, 7).payload)
        key = wire.task_key(request["task_id"], wire.OUTCOME)
        aws.objects[f"/b/{key}"] = wire.seal(outcome, request["key"])
        time.sleep(1)
        return Answer(hang_up=True)

    aws.script = lost
    with script(aws, HOME=str(tmp_path)) as client:
        assert client.stdout is not None and client.stdout.readline() == "sent\n"
        while not calls:
            time.sleep(0.01)
        client.send_signal(signal.SIGSTOP)
        time.sleep(3)
        client.send_signal(signal.SIGCONT)
        assert client.stdout.readline() == "7\n"
        assert client.wait(30) == 0
    assert len(calls) == 1


@pytest.fixture
def silent_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 that takes each connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield


def test_s3_that_never_takes_an_argument(aws: AWS, process: Process, silent_s3: None) -> None:
    """The call is not sent, and ends at its `timeout`; the error says what was not stored."""
    aws.script = lambda event: good(7)
    took, error = timed(lambda: failed(process, len, "x" * 7_000_000, timeout=3))
    assert isinstance(error, ResourceLimitError)
    assert "its large arguments were not stored in bucket bucket within" in str(error)
    assert "redentials" not in str(error)
    assert aws.posts == 0 and took < 3 + BUSY


@pytest.mark.parametrize("size", [1000, 9_000_000])
def test_s3_that_never_gives_a_result(
    aws: AWS, process: Process, silent_s3: None, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """It is asked for again while the call has time, and the error says where the result is. Of
    its waiting times, a minute and half a minute, two seconds are left here."""
    monkeypatch.setattr("lambda_calls.attempt._FETCHES_FOR", 2.0)
    monkeypatch.setattr("lambda_calls.aws.clients._S3_READ_TIMEOUT", 2)

    def answer(event: dict[str, Any]) -> Answer:
        task_id = json.loads(event["payload"])["task_id"]
        blob = wire.Blob(wire.task_key(task_id, wire.RESULT), size, "0" * 64)
        payload = {**good(7).payload, "result": vars(blob), "task_id": task_id}
        return Answer(payload=payload)

    aws.script = answer
    took, error = timed(lambda: failed(process, abs, -7, timeout=3))
    assert isinstance(error, ResultUnreadError)
    assert "The call ran; its result is at s3://bucket/tasks/" in str(error)
    assert "s3:GetObject on bucket bucket got no answer" in str(error)
    assert "redentials" not in str(error)
    assert aws.posts == 1 and took < 3 + 2 + 2 + BUSY


def failed(process: Process, *args: Any, **options: Any) -> LambdaCallError:
    """What a call raises."""
    with pytest.raises(LambdaCallError) as error:
        call(process, *args, **options)
    return error.value


def test_redeployed_in_the_middle(aws: AWS, process: Process) -> None:
    """While old and new images answer, each answer of another protocol is told from ours."""
    versions = iter([wire.PROTOCOL, wire.PROTOCOL + 1, wire.PROTOCOL])

    def answer(event: dict[str, Any]) -> Answer:
        found = good(7)
        found.payload[wire.MARK] = next(versions)
        return found

    aws.script = answer
    assert call(process, abs, -7) == 7
    with pytest.raises(LambdaCallError, match="sam build && sam deploy"):
        call(process, abs, -7)
    assert call(process, abs, -7) == 7


def test_samconfig_changed_while_running(aws: AWS, clean_surroundings: Path) -> None:
    """An executor keeps the names that it was made with."""
    asked: list[str] = []
    file = clean_surroundings / "samconfig.toml"
    file.write_text(
        'version = 0.1\n[default.global.parameters]\nregion = "eu-west-1"\n'
        'parameter_overrides = "FunctionName=before BucketName=bucket"\n'
    )
    executor = made(function_name=None, s3_bucket_name=None, region=None)
    file.write_text(file.read_text().replace("before", "after"))
    aws.script = lambda event: good(7)
    execute(executor, abs, -7)
    asked += [x for x in aws.requests if x.startswith("POST")]
    assert asked and all("/before/" in x for x in asked)
