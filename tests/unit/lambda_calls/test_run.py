"""A call's attempts: which are repeated, and what of a result is never lost."""

import asyncio
import threading
import time
from typing import Any

import cloudpickle
import pytest
from aws_server import AWS, Answer
from calls import Noted, call, called, target
from electrons import bad, good, request_of
from lambda_calls import attempt, blobs, wire
from lambda_calls.aws import clients
from lambda_calls.aws.objects import Objects
from lambda_calls.errors import (
    CallFailedError,
    CallRejectedError,
    ConfigurationError,
    LambdaCallError,
    ResourceLimitError,
    ResultUnreadError,
    UnreachableError,
)
from lambda_calls.run import Spread
from lambda_calls.session import Process
from patience import wait_until


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (bad(wire.PYTHON_DIFFERS, "3.8"), CallRejectedError),
        (bad(wire.CANNOT_LOAD, "No module named 'x'"), CallRejectedError),
        (bad(wire.ENVIRONMENT, "/tmp is full"), CallRejectedError),
        (Answer(status=404, code="ResourceNotFoundException"), ConfigurationError),
        (Answer(status=403, code="AccessDeniedException"), ConfigurationError),
    ],
)
def test_what_would_not_run_is_not_retried(
    aws: AWS, process: Process, answer: Answer, error: type[Exception]
) -> None:
    """`retries` is for calls that failed; a refused one would be refused again."""
    aws.script = lambda event: answer
    with pytest.raises(error):
        call(process, len, "x", retries=5)
    assert aws.posts == 1


@pytest.mark.parametrize("kind", [wire.EXCEPTION, wire.CRASHED, wire.OUT_OF_MEMORY])
def test_what_failed_is_retried(aws: AWS, process: Process, kind: str) -> None:
    """Each retry has a name of its own in S3; the observer sees each error."""
    names: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        names.append(request_of(event).task_id)
        return good("third") if len(names) == 3 else bad(kind, "flaky", type="E")

    aws.script = script
    observer = Noted()
    assert call(process, len, "x", retries=2, observer=observer) == "third"
    assert len(set(names)) == 3 and names == observer.task_ids
    assert len(observer.errors) == 2


def test_what_fails_each_time_ends(aws: AWS, process: Process) -> None:
    """The last attempt's error is the call's."""
    aws.script = lambda event: bad(wire.EXCEPTION, "always", type="E")
    with pytest.raises(CallFailedError, match="E: always"):
        call(process, len, "x", retries=2)
    assert aws.posts == 3


def stored_result(aws: AWS, event: dict[str, Any], value: Any) -> Answer:
    """An answer whose result is in S3."""
    data = cloudpickle.dumps(value)
    key = wire.task_key(request_of(event).task_id, wire.RESULT)
    aws.objects[f"/bucket/{key}"] = data
    response = wire.Response(
        python="3.11.0", cloudpickle="3", result=wire.blob(data, key=key), text="large"
    )
    return Answer(payload=response.to_json())


@pytest.mark.parametrize("refusal", [(503, "SlowDown"), (400, "ExpiredToken")])
def test_result_is_fetched_again(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str]
) -> None:
    """S3 that does not answer, or keys that expired, cost no result: it is asked for again."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def script(event: dict[str, Any]) -> Answer:
        aws.denied, aws.refusal = {"GET"}, refusal
        threading.Timer(1.0, aws.denied.clear).start()
        return stored_result(aws, event, "whole")

    aws.script = script
    assert call(process, len, "x") == "whole"
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


@pytest.mark.parametrize("ends", [False, True])
def test_result_does_not_wait_for_deletions(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Results are handed over while S3 does not answer, however many; what they left is deleted
    later, or when the program ends."""
    release, remove = threading.Event(), Objects.delete

    def delete(self: Objects, *keys: str) -> None:
        release.wait(60)
        remove(self, *keys)

    monkeypatch.setattr(Objects, "delete", delete)
    aws.script = lambda event: stored_result(aws, event, "whole")

    async def many() -> list[Any]:
        return await asyncio.gather(*[called(process, len, "x") for _ in range(40)])

    try:
        assert asyncio.run(many()) == ["whole"] * 40
        assert len(aws.objects) == 40 and not release.is_set()
    finally:
        release.set()
    if ends:
        process.at_exit.run()
        assert not aws.objects
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_result_that_cannot_be_fetched_is_kept(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that the call ran, and where its result is; it is not run again."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(attempt, "_FETCHES_FOR", 0.3)

    def script(event: dict[str, Any]) -> Answer:
        aws.denied, aws.refusal = {"GET"}, (503, "SlowDown")
        return stored_result(aws, event, "kept")

    aws.script = script
    with pytest.raises(ResultUnreadError, match=r"ran; its result is at s3://bucket/tasks/call-"):
        call(process, len, "x", timeout=1, retries=3)
    assert aws.posts == 1
    assert len(aws.objects) == 1


def test_changed_result_is_refused(aws: AWS, process: Process) -> None:
    """A result whose digest differs is never unpickled, and not asked for again."""

    def script(event: dict[str, Any]) -> Answer:
        answer = stored_result(aws, event, "whole")
        (path,) = aws.objects
        aws.objects[path] = b"evil" + aws.objects[path][4:]
        return answer

    aws.script = script
    with pytest.raises(LambdaCallError, match=r"its result is lost.*has the sha256"):
        call(process, len, "x")


# -- large arguments -----------------------------------------------------------------------------


LARGE = "x" * 7_000_000


def test_timeout_bounds_uploads(aws: AWS, process: Process) -> None:
    """What could not be stored in time was not sent, and the error says so."""
    release = threading.Event()
    put = aws.before_put = lambda: release.wait(10)
    assert put is not None
    try:
        with pytest.raises(ResourceLimitError, match=r"was not sent.*not stored in bucket bucket"):
            call(process, len, LARGE, timeout=1)
    finally:
        release.set()
    assert aws.posts == 0


@pytest.mark.parametrize("linger", [0.1, 60.0])
def test_upload_that_ends_too_late_is_deleted(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, linger: float
) -> None:
    """Its thread goes on when nobody waits any more: what it stores then, nobody else deletes;
    whether it ends while the loop lives, or after the process has let go of all it held."""
    monkeypatch.setattr(blobs, "_LINGER", linger)
    release, stored = threading.Event(), threading.Event()
    aws.before_put = lambda: (release.wait(30), stored.set())

    async def late() -> None:
        with pytest.raises(ResourceLimitError, match="not stored in bucket"):
            await called(process, len, LARGE, timeout=3)
        await asyncio.sleep(0.5)

    asyncio.run(late())
    if linger > 1:
        process.at_exit.run()
    release.set()
    assert stored.wait(30)
    wait_until(lambda: any(x.startswith("DELETE") for x in aws.requests), "its deletion", 30)
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


@pytest.mark.parametrize("waits", [1, 20], ids=["nobody waits any more", "its call waits"])
def test_upload_without_an_answer_is_deleted(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, waits: float
) -> None:
    """S3 may have stored an object although its answer has not come; it stays no longer than one
    whose answer has."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(clients, "_S3_READ_TIMEOUT", 2.0)
    monkeypatch.setattr(blobs, "_TRIES_FOR", 0.0)
    monkeypatch.setattr(blobs, "_LINGER", 0.1)
    release = threading.Event()
    aws.after_put = lambda: release.wait(30)

    async def unanswered() -> None:
        with pytest.raises((ResourceLimitError, UnreachableError)):
            await called(process, len, LARGE, timeout=waits)
        await asyncio.sleep(0.5)

    try:
        asyncio.run(unanswered())
        wait_until(lambda: any(x.startswith("DELETE") for x in aws.requests), "its deletion", 30)
        wait_until(lambda: not aws.objects, "the bucket is empty", 30)
    finally:
        release.set()


def test_arguments_stay_while_s3_is_busy(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is sent again, since its function could not read them, stores them only once:
    at the end of `timeout` there would be no time left for it, and the error would name that."""
    monkeypatch.setattr(attempt, "_LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(blobs, "_LINGER", 0.05)
    answers = [bad(wire.STORAGE_BUSY, "SlowDown")] * 2 + [good("later")]
    aws.script = lambda event: answers.pop(0)
    assert call(process, len, LARGE) == "later"
    assert sum(x.startswith("PUT") for x in aws.requests) == 1


def test_uploads_are_bounded(aws: AWS, process: Process) -> None:
    """Forty large arguments travel a few at a time, in a few threads."""
    at_once: list[int] = []
    under_way = 0
    lock = threading.Lock()

    def before_put() -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            at_once.append(under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1

    aws.before_put = before_put
    aws.script = lambda event: good(1)

    async def many() -> list[Any]:
        return await asyncio.gather(
            *[called(process, len, str(i) + "x" * 6_500_000) for i in range(12)]
        )

    assert asyncio.run(many()) == [1] * 12
    assert max(at_once) <= 6


def test_upload_that_breaks_off_is_made_again(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 that fails for a second is asked again; what it refuses for good is not."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(blobs, "_AFTER_FAILURE", 0.1)
    aws.denied, aws.refusal = {"PUT"}, (503, "SlowDown")
    threading.Timer(1.0, aws.denied.clear).start()
    aws.script = lambda event: good(1)
    assert call(process, len, LARGE) == 1
    aws.denied, aws.refusal = {"PUT"}, (403, "AccessDenied")
    with pytest.raises(ConfigurationError, match="Access denied: s3:PutObject"):
        call(process, len, LARGE + "y")


def test_large_argument_without_a_bucket(aws: AWS, process: Process) -> None:
    """Where there is no bucket, the size is named and nothing is sent."""
    with pytest.raises(ConfigurationError, match=r"needs a bucket: an argument of 70\d+ bytes"):
        call(process, len, LARGE, to=target(bucket=None))
    assert not aws.requests


@pytest.mark.parametrize(
    "options", ['{"batch": -1}', '{"max_workers": 0}', '{"batch": "3"}', "[]"]
)
def test_options_of_a_spread_that_could_not_be_followed(options: str) -> None:
    """With no call in a request, or no request at a time, a fan-out would wait for ever."""
    frames = b"".join(
        wire.Frame(kind, 0, data).to_bytes()
        for kind, data in (
            (wire.FUNCTION, b"f"),
            (wire.SHARED, b"s"),
            (wire.OPTIONS, options.encode()),
        )
    )
    answer = good(1).payload
    with pytest.raises(wire.EnvelopeError):
        Spread.of(wire.encode(frames), wire.Response.from_json(answer))
