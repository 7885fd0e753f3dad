"""The handler and S3: blobs, results beside the answer, and what its executor orders meanwhile."""

import builtins
import io
import json
import os
import socket
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import aws_server
import pytest
from function_box import (
    Function,
    batch,
    batch_response,
    part,
    returned,
    stored_argument,
    timed,
    with_bucket,
)
from patience import BUSY

import task_guard
import task_storage
import wire


def test_blob_argument_is_fetched_once(aws: aws_server.AWS, stored: Function) -> None:
    """A warm environment takes a blob that it had before from /tmp."""
    blob = stored_argument(aws, "large")
    for _ in range(3):
        response = stored.call(
            lambda x, y: x + y, bucket="bucket", kwargs={"x": blob, "y": part("!")}
        )
        assert returned(response) == "large!"
    # A slow machine makes a call look for orders as well.
    fetched = [request for request in aws.requests if "/blobs/" in request]
    assert fetched == [f"GET /bucket/{blob.key}"]


def test_tampered_blob_is_not_unpickled(aws: aws_server.AWS, stored: Function) -> None:
    """Neither a changed object nor a changed cache file is ever unpickled."""
    blob = stored_argument(aws, "good")
    aws.objects[f"/bucket/{blob.key}"] = wire.decode(part(builtins.print))
    failure = stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).failure
    assert failure is not None and failure.kind == wire.BLOB_TAMPERED
    assert blob.key in failure.message

    stored_argument(aws, "good")
    assert stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"
    (stored.tasks.parent / "blobs" / blob.sha256).write_bytes(b"evil")
    assert stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"


def test_missing_blob_is_reported_before_anything_runs(stored: Function) -> None:
    """A blob that expired is a failure of its own, so that the executor can store it again."""
    response = stored.call(print, bucket="bucket", kwargs={"x": wire.blob(b"gone")})
    assert response.failure is not None and response.failure.kind == wire.BLOB_MISSING
    assert response.stdout == ""


def test_initializer_that_was_tampered_with(aws: aws_server.AWS, stored: Function) -> None:
    """It is refused as often as it is asked for, and each time all files are closed again."""
    setup = wire.Blob(key="blobs/empty", size=0, sha256="0" * 64)
    aws.objects["/bucket/blobs/empty"] = b""

    def refused() -> int:
        response = batch_response(stored, lambda x: x, [(1,)], bucket="bucket", setup=setup)
        assert response.failure is not None and response.failure.kind == wire.BLOB_TAMPERED
        return len(os.listdir(f"/proc/{stored.process.pid}/fd"))

    assert batch(stored, lambda x: x, [(1,)]) == [1]
    first = refused()
    assert [refused() for _ in range(3)] == [first] * 3


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((503, "SlowDown"), wire.STORAGE_BUSY),
        ((500, "InternalError"), wire.STORAGE_BUSY),
        ((403, "AccessDenied"), wire.STORAGE),
        ((400, "ExpiredToken"), wire.STORAGE),
    ],
)
def test_refusal_of_s3(
    aws: aws_server.AWS, stored: Function, refusal: tuple[int, str], kind: str
) -> None:
    """What S3 refuses for now may be sent again; what it refuses for good is told as such."""
    blob = stored_argument(aws, "large")
    aws.denied, aws.refusal = {"GET"}, refusal
    failure = stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).failure
    assert failure is not None and failure.kind == kind
    assert refusal[1] in failure.message and blob.key in failure.message


def test_large_result_becomes_a_blob(aws: aws_server.AWS, stored: Function) -> None:
    """A result beyond 6 MB, and its long text, go to the task's folder in the bucket."""
    response = stored.call(lambda: "y" * 7_000_000, bucket="bucket")
    assert isinstance(response.result, wire.Blob) and isinstance(response.text, wire.Blob)
    assert response.result.key == "tasks/dispatch-0-attempt/result"
    data = response.result.verified(aws.objects[f"/bucket/{response.result.key}"])
    assert len(data) > 7_000_000
    assert aws.objects[f"/bucket/{response.text.key}"] == b"y" * 7_000_000


def test_answer_stays_below_lambdas_limit(stored: Function) -> None:
    """Result, text and full streams together never exceed 6 MB, just below the limit too."""

    def much(size: int) -> bytes:
        print("\x01" * 400_000)
        print("é" * 400_000, file=sys.stderr)
        return bytes(size)

    def fail() -> None:
        much(0)
        raise ValueError("x" * 7_000_000)

    failed = stored.call(fail, bucket="bucket")
    assert failed.failure is not None and failed.failure.traceback.startswith("Traceback")
    assert len(json.dumps(failed.to_json())) < wire.PAYLOAD_LIMIT
    for size in (1_000_000, 3_000_000, 4_400_000):
        response = stored.call(much, size, bucket="bucket")
        assert response.failure is None
        assert len(json.dumps(response.to_json())) < wire.PAYLOAD_LIMIT


def test_answer_of_a_fan_out_stays_below_lambdas_limit(stored: Function) -> None:
    """Items of a fan-out and what finding them wrote never exceed 6 MB together."""

    def split(args: Any, kwargs: Any) -> Any:
        print("\x01" * 400_000)
        return [((item,), {}) for item in args[0]], kwargs

    def loop(items: list[bytes]) -> None:
        raise AssertionError("its items are to be called")

    setattr(loop, wire.FAN_OUT, {"function": bytes, "split": split, "options": {}})
    response = stored.call(loop, [os.urandom(100_000) for _ in range(44)], bucket="bucket")
    assert isinstance(response.spread, wire.Blob)
    assert len(json.dumps(response.to_json())) < wire.PAYLOAD_LIMIT


def test_large_result_without_a_bucket(function: Function) -> None:
    """Where there is no bucket, a large result is reported with its size."""
    failure = function.call(lambda: bytes(7_000_000)).failure
    assert failure is not None and failure.kind == wire.RESULT_LOST
    assert "of 7000" in failure.message and "s3_bucket_name is empty" in failure.message


def test_lost_connection_is_acknowledged_and_the_outcome_left(
    aws: aws_server.AWS, stored: Function
) -> None:
    """An executor that lost its connection is told within 2 s that the task runs, again when it
    asks again, and finds the answer in the end, though the task was short."""
    order = "/bucket/tasks/dispatch-0-attempt/order"
    aws.objects[order] = b"report 1"
    seen: dict[str, float] = {}

    def watch() -> None:
        while len(seen) < 2:
            left = aws.objects.get("/bucket/tasks/dispatch-0-attempt/running")
            if left and (text := wire.unseal(left, "the attempt's key")) not in seen:
                seen[text] = time.monotonic()
                aws.objects[order] = b"report 2"
            time.sleep(0.02)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    response = stored.call(lambda: time.sleep(12), bucket="bucket")
    watching.join(12)
    assert list(seen) == ["report 1", "report 2"]
    assert seen["report 2"] - seen["report 1"] < 2 + BUSY
    left = wire.unseal(
        aws.objects["/bucket/tasks/dispatch-0-attempt/outcome"], "the attempt's key"
    )
    assert wire.Response.from_json(json.loads(left)) == response


def test_connection_lost_between_the_last_look_and_the_end(
    aws: aws_server.AWS, stored: Function
) -> None:
    """Where the executor asks after the last look at its orders, the outcome is left, too."""

    def ask() -> None:
        while not aws.requests:
            time.sleep(0.01)
        time.sleep(0.05)
        aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"report 1"

    def until_asked() -> None:
        time.sleep(2.95)

    stored.call(lambda: time.sleep(2.5), bucket="bucket")  # boto3 is imported by now
    aws.requests.clear()
    asking = threading.Thread(target=ask)
    asking.start()
    response = stored.call(until_asked, bucket="bucket")
    asking.join()
    left = aws.objects["/bucket/tasks/dispatch-0-attempt/outcome"]
    assert response.failure is None and wire.unseal(left, "the attempt's key")


def test_short_task_asks_s3_nothing(aws: aws_server.AWS, stored: Function) -> None:
    """A task of less than two seconds costs no request."""
    assert returned(stored.call(lambda: 1, bucket="bucket")) == 1
    assert aws.requests == []


def test_cancelled_electron_is_gone_soon(aws: aws_server.AWS, stored: Function) -> None:
    """An electron that holds the interpreter's lock is gone at most 3 s after its cancel order
    could be seen, and what it printed and where it stood are told."""

    def holds() -> None:
        print("begun", end="")
        sum(range(10**13))

    aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"cancel"
    seen: list[float] = []

    def watch() -> None:
        while not aws.requests:
            time.sleep(0.01)
        seen.append(time.monotonic())

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    response = stored.call(holds, bucket="bucket")
    ended = time.monotonic()
    assert response.failure is not None and response.failure.kind == wire.CANCELLED
    assert "in holds" in response.failure.traceback and response.stdout == "begun"
    watching.join(1)
    assert ended - seen[0] < 3 + BUSY


def test_order_is_found_when_s3_works_again(aws: aws_server.AWS, stored: Function) -> None:
    """A cancel order that nobody could see ends the electron once S3 does not fail any more."""
    aws.denied, aws.refusal = {"GET"}, (500, "InternalError")

    def heal() -> None:
        time.sleep(7)
        aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"cancel"
        aws.denied = set()

    healing = threading.Thread(target=heal)
    healing.start()
    response = stored.call(lambda: time.sleep(40), bucket="bucket")
    healing.join()
    assert response.failure is not None and response.failure.kind == wire.CANCELLED


def test_times_that_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order is seen within 2 s, as soon as a task has run for 2 s, also where S3 takes its
    longest to answer; what resists is killed within 3 s of that."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = task_storage.Storage("unused").hasty_client().meta.config
    assert task_guard.FIRST_LOOK <= 2
    assert task_guard._LOOK_EVERY + config.read_timeout <= 2
    assert task_guard._DUMP_AFTER < task_guard._KILL_AFTER < 3


class NoPauses(threading.Event):
    """An event that is not waited for; it notes how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return self.is_set()


def test_failing_looks_do_not_end_the_looking() -> None:
    """However often S3 has failed, the next look follows after 8 s at most; after one that did not
    fail, the next one follows as soon as if none had failed; and an order is found."""
    failed = OSError("S3 is away")
    looks = [*[failed] * 50, b"", failed, b"cancel"]

    def order(**_: str) -> dict[str, io.BytesIO]:
        found = looks.pop(0)
        if isinstance(found, OSError):
            raise found
        return {"Body": io.BytesIO(found)}

    client = types.SimpleNamespace(get_object=order)
    orders = task_guard.Orders(lambda: client, "bucket", "dispatch-0-attempt", "key", 0.0)
    orders._ended = not_waited_for = NoPauses()
    orders.start()
    assert orders.heard is not None
    orders.heard.settimeout(20)
    assert orders.heard.recv(1) == b"!"
    orders.close()
    assert orders.cancelled
    assert not_waited_for.pauses == [2.0, 4.0, *[8.0] * 48, 1.0, 2.0]


def test_silent_s3_does_not_defer_the_deadline(tmp_path: Path) -> None:
    """An S3 that accepts and never answers keeps neither deadline nor answer waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen(50)
        port = silent.getsockname()[1]
        with with_bucket(aws_server.AWS(url=f"http://127.0.0.1:{port}"), tmp_path / "t") as stored:
            took, response = timed(
                lambda: stored.call(lambda: time.sleep(60), bucket="bucket", limit=4)
            )
            assert response.failure is not None and response.failure.kind == wire.DEADLINE
            assert took < 4 + BUSY
            blob = wire.blob(b"never")
            took, response = timed(
                lambda: stored.call(print, bucket="bucket", kwargs={"x": blob}, limit=3)
            )
            assert response.failure is not None and response.failure.kind == wire.DEADLINE
            assert took < 3 + BUSY
