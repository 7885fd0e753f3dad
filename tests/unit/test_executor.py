"""The executor over real sockets: a stand-in Lambda answers, everything else is the product's."""

import asyncio
import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aws_server
import cloudpickle
import pytest
from aws_server import AWS, Answer
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.utils.wrappers import wrapper_fn
from covalent_awslambda_plugin import awslambda, blobs, clients, direct, running
from covalent_awslambda_plugin.base64_files import Decoded
from covalent_awslambda_plugin.errors import (
    AWSLambdaExecutorError,
    CannotAnswerError,
    ConfigurationError,
    OutcomeUnknownError,
    ResourceLimitError,
    TaskFailedError,
    TaskRejectedError,
)

import wire

METADATA = {"dispatch_id": "dispatch", "node_id": 7}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AWS]:
    with aws_server.running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        clients.forget_clients()
        running._STOCK.clear()
        blobs._held.clear()
        yield server
        blobs._held.clear()  # what lingers would be deleted from a server that is gone
        clients.forget_clients()


def made(**arguments: Any) -> AWSLambdaExecutor:
    names = {"function_name": "fn", "s3_bucket_name": "bucket", "region": "eu-west-1"}
    return AWSLambdaExecutor(**{**names, **arguments})


def covalents(function: Callable[..., Any]) -> Any:
    """`function` as Covalent's server passes it to `run`."""
    return partial(wrapper_fn, TransportableObject(function), [], [])


def execute(executor: AWSLambdaExecutor, function: Callable[..., Any], *args: Any) -> Any:
    """Run an electron as Covalent's runner does: (result, stdout, stderr, status)."""
    return asyncio.run(under_covalent(executor, function, *args))


async def under_covalent(
    executor: AWSLambdaExecutor, function: Callable[..., Any], *args: Any, cancelled: bool = False
) -> Any:
    executor._init_runtime()

    async def watch() -> None:  # what Covalent's server does with an executor's messages
        while True:
            action, _ = await executor._send_queue.get()
            if str(action).endswith("EXIT"):
                return
            executor._recv_queue.put_nowait((True, cancelled if "GET" in str(action) else None))

    watching = asyncio.ensure_future(watch())
    try:
        return await executor._execute(
            covalents(function), [TransportableObject(x) for x in args], {}, "dispatch", "/tmp", 7
        )
    finally:
        watching.cancel()


def request_of(event: dict[str, Any]) -> wire.Request:
    return wire.Request.from_json(json.loads(event["payload"]))


def good(value: Any, **fields: Any) -> Answer:
    response = wire.Response(
        python="3.11.0",
        cloudpickle="3.1.2",
        result=wire.encode(cloudpickle.dumps(value)),
        text=str(value),
        **fields,
    )
    return Answer(payload=response.to_json())


def bad(kind: str, message: str = "m", **fields: Any) -> Answer:
    failure = wire.Failure(kind=kind, message=message, **fields)
    response = wire.Response(
        python="3.11.0",
        cloudpickle="3.1.2",
        failure=failure,
        stdout="so far\n",
        usage=wire.Usage(duration=1.5, memory_mb=512),
    )
    return Answer(payload=response.to_json())


# -- the way there and back ----------------------------------------------------------------------


def test_one_request_and_no_s3_in_the_common_case(aws: AWS) -> None:
    """A trivial electron is one invocation; its parts arrive without being pickled again."""
    seen: list[wire.Request] = []

    def script(event: dict[str, Any]) -> Answer:
        seen.append(request_of(event))
        return good("Hello", stdout="out\n", stderr="err\n")

    aws.script = script
    function, argument = (lambda x: x), TransportableObject("World")
    executor = made()
    executor._init_runtime()
    result, stdout, stderr, status = execute(executor, function, "World")
    assert result.get_deserialized() == "Hello" and result.object_string == "Hello"
    assert (stdout, stderr, str(status)) == ("out\n", "err\n", "COMPLETED")
    assert seen[0].args == [argument.get_serialized()]
    assert aws.requests == ["POST /2015-03-31/functions/fn/invocations"]


def test_usage_line(aws: AWS) -> None:
    """With usage=True, stderr ends with time, memory, the dispatch's sum and its cost."""
    report = "REPORT RequestId: r\tDuration: 5.1 ms\tBilled Duration: 6 ms\tMemory Size: 512 MB\t"

    def script(event: dict[str, Any]) -> Answer:
        answer = good(1, stderr="own\n", usage=wire.Usage(request_id="r", architecture="x86_64"))
        return Answer(payload=answer.payload, log=report)

    aws.script = script
    stderr = execute(made(usage=True), len)[2]
    assert stderr.startswith(
        "own\n[lambda] 0.005 s, billed 0.006 s, memory 0 of 512 MB, request r"
    )
    assert "dispatch so far: " in stderr
    assert execute(made(), len)[2] == "own\n"


def test_import_covalent_does_not_wait_for_what_runs_electrons() -> None:
    """A script that only writes workflows imports none of it, nor boto3."""
    script = (
        "import sys, covalent\n"
        "from covalent.executor import AWSLambdaExecutor\n"
        "AWSLambdaExecutor('f', 'b')\n"
        "modules = ('boto3', *('covalent_awslambda_plugin.' + x for x in ('running', 'wire')))\n"
        "print([name for name in modules if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_unknown_price_is_refused() -> None:
    """A price under a name that the table lacks is refused, not ignored."""
    with pytest.raises(ConfigurationError, match="no entry 'gb_second'"):
        made(prices={"gb_second": 1.0})


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:3001", "localhost:3001", "http://", "ftp://x", "http://[::1", "http://x:port"],
)
def test_endpoint_that_is_no_address_is_refused(address: str) -> None:
    """A forgotten scheme is told where the executor is built, not as a matter of credentials."""
    with pytest.raises(ConfigurationError, match="must be an address such as 'http://127"):
        made(endpoint_url=address)


def test_bare_callable_returns_the_value_itself(aws: AWS) -> None:
    """Called without Covalent, `run` takes plain objects and returns one."""
    aws.script = lambda event: good([1, 2])
    assert asyncio.run(made().run(len, ["x"], {"y": 1}, METADATA)) == [1, 2]


def test_large_arguments_become_blobs_shared_and_deleted(
    aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Electrons that share a large argument, at once or one soon after the other, store it once;
    those that hold it at once hash it once; it is deleted after them."""
    monkeypatch.setattr(blobs, "_LINGER", 0.5)
    hashed: list[int] = []
    sha256 = Decoded.sha256
    monkeypatch.setattr(Decoded, "sha256", lambda self: (hashed.append(1), sha256(self))[1])
    seen: list[Any] = []
    large = "x" * 7_000_000

    def script(event: dict[str, Any]) -> Answer:
        request = request_of(event)
        seen.append(request.args[0])
        assert f"/bucket/{request.args[0].key}" in aws.objects
        assert len(event["payload"]) < wire.PAYLOAD_LIMIT
        time.sleep(0.2)
        return good(1)

    aws.script = script

    async def several() -> None:
        runs = [
            made().run(
                covalents(len), [TransportableObject(large)], {}, {**METADATA, "node_id": i}
            )
            for i in range(4)
        ]
        await asyncio.gather(*runs)
        await made().run(covalents(len), [TransportableObject(large)], {}, METADATA)
        assert aws.objects
        while aws.objects:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(several(), 20))
    assert len(seen) == 5 and len(set(seen)) == 1
    assert len(hashed) == 2
    assert len([r for r in aws.requests if r.startswith("PUT")]) == 1
    assert not blobs._held


def test_lingering_blobs_are_deleted_at_exit(aws: AWS) -> None:
    """A process that ends before an object's time is up deletes it on its way out."""
    aws.script = lambda event: good(1)
    execute(made(), len, "x" * 7_000_000)
    assert aws.objects
    blobs._delete_what_lingers()
    assert not aws.objects


def test_failed_upload_is_tried_again_by_the_next(aws: AWS) -> None:
    """An electron whose upload was refused fails; the next one uploads anew."""
    aws.script = lambda event: good(1)

    async def both() -> None:
        aws.denied = {"PUT"}
        with pytest.raises(ConfigurationError, match="s3:PutObject"):
            await made().run(len, ["x" * 7_000_000], {}, METADATA)
        aws.denied = set()
        assert await made().run(len, ["x" * 7_000_000], {}, METADATA) == 1

    asyncio.run(both())


def test_blob_that_vanished_is_stored_again(aws: AWS) -> None:
    """If the function finds a blob missing, nothing ran: it is stored again and sent again."""
    answers = [bad(wire.BLOB_MISSING), good("second")]

    def script(event: dict[str, Any]) -> Answer:
        if len(answers) == 2:
            aws.objects.clear()  # as if the lifecycle had expired it
        else:
            assert len(aws.objects) == 1
        return answers.pop(0)

    aws.script = script
    assert execute(made(), len, "x" * 7_000_000)[0].get_deserialized() == "second"


def test_outcome_of_the_first_sending_answers_no_second(aws: AWS) -> None:
    """A blob that was missing is an answer; left in S3 too, it is not taken for a later one."""
    keys: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        request = request_of(event)
        keys.append(request.key)
        if len(keys) == 2:
            return Answer(payload={"errorMessage": "crashed"}, error="Unhandled")
        first = bad(wire.BLOB_MISSING)
        path = f"/bucket/{wire.task_key(request.task_id, wire.OUTCOME)}"
        aws.objects[path] = wire.seal(json.dumps(first.payload), request.key)
        return first

    aws.script = script
    stderr = execute(made(), len, "x" * 7_000_000)[2]
    assert "ended the process" in stderr or "crashed" in stderr
    assert len(set(keys)) == 2


def test_digest_that_failed_is_taken_anew(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kept one electron from hashing its argument does not keep the others."""
    aws.script = lambda event: good(1)
    failures, sha256 = [MemoryError()], Decoded.sha256

    def once(self: Decoded) -> str:
        if failures:
            raise failures.pop()
        return sha256(self)

    monkeypatch.setattr(Decoded, "sha256", once)

    async def both() -> Any:
        with pytest.raises(MemoryError) as kept:  # with its frames, and what they hold
            await made().run(len, ["x" * 7_000_000], {}, METADATA)
        assert await made().run(len, ["x" * 7_000_000], {}, METADATA) == 1
        return kept

    asyncio.run(both())


def test_large_result_is_fetched_verified_and_deleted(aws: AWS) -> None:
    """A result in S3 is checked by its digest; a tampered one is refused and never unpickled."""
    data = cloudpickle.dumps("large")

    def script(tamper: bool) -> Callable[[dict[str, Any]], Answer]:
        def answer(event: dict[str, Any]) -> Answer:
            key = wire.task_key(request_of(event).task_id, wire.RESULT)
            aws.objects[f"/bucket/{key}"] = b"evil" + data[4:] if tamper else data
            response = wire.Response(
                python="3.11.0", cloudpickle="3", result=wire.blob(data, key=key), text="large"
            )
            return Answer(payload=response.to_json())

        return answer

    aws.script = script(tamper=False)
    assert execute(made(), len)[0].get_deserialized() == "large"
    assert not aws.objects
    aws.script = script(tamper=True)
    _, _, stderr, status = execute(made(), len)
    assert str(status) == "FAILED" and "sha256" in stderr and "/result" in stderr


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            bad(wire.EXCEPTION, "boom", type="my.Error", traceback="Traceback…\nmy.Error: boom\n"),
            TaskFailedError,
            "Traceback…\nmy.Error: boom\n",
        ),
        (
            bad(
                wire.EXCEPTION,
                "No module named 'scipy.linalg'; 'scipy' is not a package",
                type="ModuleNotFoundError",
            ),
            TaskFailedError,
            "lacks the module 'scipy': add the package that provides it to function/requirements",
        ),
        (
            bad(
                wire.EXCEPTION,
                "Command '['pip', 'install', '--no-input', 'nunpy']' returned non-zero",
                type="subprocess.CalledProcessError",
            ),
            TaskFailedError,
            "packages; what it said is above. Check their names and versions.",
        ),
        (bad(wire.EXCEPTION, type="MemoryError"), TaskFailedError, "has 512 MB: raise"),
        (bad(wire.EXIT, "It called sys.exit(1)."), TaskFailedError, "ends by returning"),
        (bad(wire.UNPICKLABLE, type="TypeError"), TaskFailedError, "cannot be pickled: TypeError"),
        (bad(wire.PYTHON_DIFFERS, "versions"), TaskRejectedError, "versions"),
        (bad(wire.BLOB_TAMPERED, "sha256"), TaskRejectedError, "sha256"),
        (bad(wire.DEADLINE), ResourceLimitError, "stopped after 1.5 s in function fn"),
        (bad(wire.RESULT_LOST, "too large"), TaskFailedError, "too large"),
        (
            Answer(
                payload={
                    "errorType": "Sandbox.Timedout",
                    "errorMessage": "RequestId: r Error: Task timed out after 3.00 seconds",
                },
                error="Unhandled",
            ),
            ResourceLimitError,
            "its own Timeout of 3.00 s",
        ),
        (Answer(payload=b""), ResourceLimitError, "its own Timeout"),
        (
            Answer(
                payload={
                    "errorType": "Runtime.ExitError",
                    "errorMessage": "Error: Runtime exited with error: signal: killed",
                },
                error="Unhandled",
                log="REPORT …\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t\n",
            ),
            ResourceLimitError,
            "it had used 128 of 128 MB): almost always because it ran out of memory.",
        ),
        (
            Answer(
                payload={
                    "errorType": "Runtime.ExitError",
                    "errorMessage": "Error: Runtime exited with error: signal: killed",
                },
                error="Unhandled",
                log=f"[covalent] {wire.KILLED_MARK} deadline\n",
            ),
            ResourceLimitError,
            "did not let itself be interrupted, so its process was killed",
        ),
        (
            Answer(
                payload={
                    "errorType": "Runtime.ExitError",
                    "errorMessage": "RequestId: r Error: Runtime exited with error: exit status 3",
                },
                error="Unhandled",
                log="dying words\n",
            ),
            TaskFailedError,
            "dying words",
        ),
        (
            Answer(payload={"errorType": "Runtime.ImportModuleError", "errorMessage": "no app"},
                   error="Unhandled"),
            CannotAnswerError,
            "Runtime.ImportModuleError: no app",
        ),
        (
            Answer(
                payload={
                    "errorType": "Function.ResponseSizeTooLarge",
                    "errorMessage": "Response payload size exceeded maximum",
                },
                error="Unhandled",
            ),
            ResourceLimitError,
            "is larger than Lambda's 6 MB",
        ),
        (Answer(payload="text"), CannotAnswerError, "does not understand"),
        (Answer(payload=b"<html>"), CannotAnswerError, "b'<html>'"),
        (Answer(payload={"covalent_lambda": 9}), CannotAnswerError, "speaks protocol 9"),
        (Answer(status=403, code="AccessDeniedException"), ConfigurationError, "lambda:Invoke"),
        (Answer(status=404, code="ResourceNotFoundException"), ConfigurationError, "sam deploy"),
    ],
)  # fmt: skip
def test_each_failure_has_its_class_and_sentence(
    aws: AWS, answer: Answer, kind: type[Exception], said: str
) -> None:
    """The node fails with the sentence in its stderr; the class tells what can be done."""
    aws.script = lambda event: answer
    result, stdout, stderr, status = execute(made(), len, "x")
    assert (result, str(status)) == (None, "FAILED")
    assert said in stderr
    with pytest.raises(kind) as error:
        asyncio.run(made().run(covalents(len), [], {}, METADATA))
    assert type(error.value) is kind
    if isinstance(answer.payload, dict) and "stdout" in answer.payload:
        assert stdout == "so far\n"


def test_the_limit_that_was_reached_is_named(aws: AWS) -> None:
    """A stopped electron learns whether `time_limit`, `timeout` or the function's own was it."""
    aws.script = lambda event: bad(wire.DEADLINE)  # after 1.5 s
    assert "the executor's time_limit=1." in execute(made(time_limit=1, timeout=9), len)[2]
    assert "the executor's timeout=1.5." in execute(made(timeout=1.5), len)[2]
    assert "the function's own Timeout" in execute(made(), len)[2]


def test_remote_exception_is_not_said_twice(aws: AWS) -> None:
    """The last line of the traceback is the message: it stands in stderr once."""
    text = "Traceback (most recent call last):\nValueError: once\n"
    aws.script = lambda event: bad(wire.EXCEPTION, "once", type="ValueError", traceback=text)
    assert execute(made(), len)[2] == text


# -- throttling, lost connections, retries -------------------------------------------------------


def test_throttling_is_waited_out(aws: AWS) -> None:
    """429s are followed by new tries until there is room; the electron runs once."""
    answers = [Answer(status=429, code="TooManyRequestsException")] * 3 + [good("at last")]
    aws.script = lambda event: answers.pop(0)
    assert execute(made(), len)[0].get_deserialized() == "at last"


def test_throttling_past_the_timeout(aws: AWS) -> None:
    """Beyond `timeout` the electron fails, and the message says that it did not run."""
    aws.script = lambda event: Answer(status=429, code="TooManyRequestsException")
    started = time.monotonic()
    _, _, stderr, status = execute(made(timeout=1), len)
    assert str(status) == "FAILED"
    assert "stayed throttled for 1 s" in stderr and "did not run" in stderr
    assert time.monotonic() - started > 0.9


def test_lost_connection_reattaches_to_the_outcome(
    aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the answer is lost, the outcome in S3 is taken, and the electron is not sent again."""
    monkeypatch.setattr(direct, "_LOOK_AFTER", 0.05)
    monkeypatch.setattr(direct, "_LOOK_EVERY", 0.05)

    def script(event: dict[str, Any]) -> Answer:
        request = request_of(event)
        outcome = json.dumps(good("survived").payload)
        sealed = wire.seal(outcome, request.key if honest else "a guess")
        key = f"/bucket/{wire.task_key(request.task_id, wire.OUTCOME)}"
        threading.Timer(0.3, aws.objects.__setitem__, (key, sealed)).start()
        return Answer(hang_up=True)

    aws.script, honest = script, True
    assert execute(made(), len)[0].get_deserialized() == "survived"
    assert len([r for r in aws.requests if r.startswith("POST")]) == 1
    assert not aws.objects
    honest = False  # somebody who can write to the bucket, but did not see the request
    result, _, stderr, _ = execute(made(), len)
    assert result is None and "not written by the function that ran the task" in stderr


def test_unknown_outcome_is_called_unknown(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an outcome the electron is not repeated; the error says that it may have run."""
    monkeypatch.setattr(direct, "_GRACE", 0.1)
    aws.script = lambda event: Answer(hang_up=True)
    with pytest.raises(OutcomeUnknownError, match="may have run"):
        asyncio.run(made(timeout=1).run(covalents(len), [], {}, METADATA))
    assert len([r for r in aws.requests if r.startswith("POST")]) == 1


def test_retries_are_opted_into(aws: AWS) -> None:
    """`retries=2` runs a failing electron up to three times; each time has a name of its own."""
    names: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        names.append(request_of(event).task_id)
        return good("third") if len(names) == 3 else bad(wire.EXCEPTION, "flaky", type="E")

    aws.script = script
    result, _, stderr, _ = execute(made(retries=2), len)
    assert result.get_deserialized() == "third"
    assert len(set(names)) == 3
    assert stderr.count("E: flaky") == 2


def test_zero_is_no_default() -> None:
    """A timeout of 0 is refused, not taken for the default."""
    for name in ("timeout", "poll_freq"):
        with pytest.raises(ConfigurationError, match=f"{name}=0 must be"):
            made(**{name: 0})


def test_large_argument_without_a_named_bucket(aws: AWS) -> None:
    """Data does not go into the bucket of the documented default, which may be anybody's."""
    executor = AWSLambdaExecutor(function_name="fn")
    with pytest.raises(ConfigurationError, match=r"needs a bucket.*s3_bucket_name="):
        asyncio.run(executor.run(len, ["x" * 7_000_000], {}, METADATA))
    assert not aws.requests


def test_wrong_configuration_is_not_retried(aws: AWS) -> None:
    """A function that does not exist will not exist at the next try either."""
    with pytest.raises(ConfigurationError):
        asyncio.run(made(retries=5).run(covalents(len), [], {}, METADATA))
    assert len(aws.requests) == 1


def test_limits_reach_the_function(aws: AWS) -> None:
    """The function is told the shorter of `timeout` and `time_limit`."""
    limits: list[float] = []

    def script(event: dict[str, Any]) -> Answer:
        limits.append(request_of(event).limit or 0)
        return good(1)

    aws.script = script
    execute(made(timeout=50), len)
    execute(made(timeout=50, time_limit=5), len)
    assert 49 < limits[0] <= 50 and limits[1] == 5


# -- cancelling ----------------------------------------------------------------------------------


def test_cancelled_before_it_was_sent(aws: AWS) -> None:
    """A dispatch cancelled before the electron starts sends nothing."""
    result = asyncio.run(under_covalent(made(), len, cancelled=True))
    assert str(result[3]) == "CANCELLED"
    assert aws.requests == []


async def invoked(aws: AWS) -> None:
    """Wait until Lambda was asked."""
    while not any(request.startswith("POST") for request in aws.requests):
        await asyncio.sleep(0.01)


def cancel_soon(aws: AWS) -> tuple[Any, float]:
    async def scenario() -> tuple[Any, float]:
        running = asyncio.ensure_future(under_covalent(made(), len))
        await invoked(aws)
        await asyncio.sleep(0.2)
        asked = time.monotonic()
        assert await made()._cancel(METADATA, {"task_id": "t"}) is True
        return await running, time.monotonic() - asked

    return asyncio.run(scenario())


def test_cancelled_while_it_waits_for_its_turn(aws: AWS) -> None:
    """A throttled electron is cancelled at once; nothing is left in S3."""
    aws.script = lambda event: Answer(status=429, code="TooManyRequestsException")
    result, took = cancel_soon(aws)
    assert str(result[3]) == "CANCELLED" and took < 5
    assert not aws.objects


def test_cancelled_where_no_mark_can_be_put(aws: AWS) -> None:
    """If S3 refuses the mark, the node ends CANCELLED at once; its stderr says what runs on."""
    aws.denied = {"PUT"}
    release = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        release.wait(10)
        return good("ran on")

    aws.script = script
    try:
        result, took = cancel_soon(aws)
    finally:
        release.set()
    assert str(result[3]) == "CANCELLED" and took < 5
    assert "the function runs on: Access denied: s3:PutObject" in result[2]


def test_cancelled_in_the_moment_of_a_refusal(aws: AWS) -> None:
    """Cancelled while a request is under way that is then refused: it is not sent again."""
    cancelled = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        cancelled.wait(10)
        return Answer(status=429, code="TooManyRequestsException")

    async def scenario() -> Any:
        running = asyncio.ensure_future(under_covalent(made(), len))
        await invoked(aws)
        await made()._cancel(METADATA, {"task_id": "t"})
        while not aws.objects:  # the mark
            await asyncio.sleep(0.01)
        cancelled.set()
        return await asyncio.wait_for(running, 4)

    aws.script = script
    assert str(asyncio.run(scenario())[3]) == "CANCELLED"
    assert len([r for r in aws.requests if r.startswith("POST")]) == 1
    assert not aws.objects


def test_cancelled_while_it_runs(aws: AWS) -> None:
    """A running electron gets its mark; what it had printed is kept, and the mark removed."""

    def script(event: dict[str, Any]) -> Answer:
        mark = f"/bucket/{wire.task_key(request_of(event).task_id, wire.CANCEL)}"
        for _ in range(200):
            if mark in aws.objects:
                return bad(wire.CANCELLED)
            time.sleep(0.02)
        return good("never cancelled")

    aws.script = script
    (result, stdout, _, status), took = cancel_soon(aws)
    assert (result, str(status), stdout) == (None, "CANCELLED", "so far\n")
    assert took < 5
    assert not aws.objects


def test_cancelling_what_is_unknown_leaves_a_mark(aws: AWS) -> None:
    """After a restart of the server, cancelling still reaches the function through S3."""
    asyncio.run(made().cancel(METADATA, {"task_id": "old"}))
    assert list(aws.objects) == ["/bucket/tasks/old/cancel"]


def test_electron_that_was_never_started_is_cancelled() -> None:
    """Covalent asks `receive` what became of an electron cancelled before its turn."""
    updates = asyncio.run(made().receive({"dispatch_id": "d", "node_ids": [3, 4]}, None))
    assert [(x.node_id, str(x.status)) for x in updates] == [(3, "CANCELLED"), (4, "CANCELLED")]


def test_cancelling_with_nothing_to_cancel(aws: AWS) -> None:
    """The public plugin's own call, without arguments, is answered with no."""
    assert asyncio.run(made().cancel()) is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_that_ends_leaves_marks(aws: AWS, number: int) -> None:
    """A process that just ends, without its loop cancelling anything, still puts the mark."""

    def script(event: dict[str, Any]) -> Answer:
        time.sleep(1)
        return good(1)

    aws.script = script
    code = (
        "import asyncio, sys\n"
        "from covalent.executor import AWSLambdaExecutor\n"
        "executor = AWSLambdaExecutor('fn', 'bucket', region='eu-west-1')\n"
        "async def main():\n"
        "    names = {'dispatch_id': 'd', 'node_id': 0}\n"
        "    running = asyncio.ensure_future(executor.run(len, ['x'], {}, names))\n"
        "    await asyncio.sleep(float(sys.argv[1]))\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, "30"])
    try:
        while not aws.requests:
            time.sleep(0.02)
        child.send_signal(number)
        child.wait(20)
    finally:
        child.kill()
        child.wait()
    assert [key for key in aws.objects if key.endswith("/cancel")]


def test_stopping_server_cancels_what_runs(aws: AWS) -> None:
    """When the server's loop ends, the running electron's mark is put before it is left."""

    def script(event: dict[str, Any]) -> Answer:
        time.sleep(1)
        return good(1)

    aws.script = script

    async def server() -> None:
        running = asyncio.ensure_future(made().run(covalents(len), [], {}, METADATA))
        await invoked(aws)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(server())
    assert [key for key in aws.objects if key.endswith("/cancel")]


# -- the stock image -----------------------------------------------------------------------------


def stock(aws: AWS, run: Callable[[Any], Answer]) -> Callable[[dict[str, Any]], Answer]:
    """Answers as Covalent's stock handler: fails on an envelope, serves its own events."""

    def script(event: dict[str, Any]) -> Answer:
        body = json.loads(event["payload"])
        if wire.MARK in body:
            # Python 3.11's words; 3.8's are: local variable 's3' referenced before assignment
            message = "cannot access local variable 'local_exception_filename' where it is not"
            fault = {"errorType": "UnboundLocalError", "errorMessage": message}
            return Answer(payload=fault, error="Unhandled")
        return run(body)

    return script


def test_stock_image_is_recognized_and_served(aws: AWS) -> None:
    """A function of the stock image gets Covalent's S3 protocol, asked for once; its objects are
    removed."""

    def run(event: Any) -> Answer:
        function, args, kwargs = cloudpickle.loads(
            aws.objects[f"/bucket/{event['COVALENT_TASK_FUNC_FILENAME']}"]
        )
        result = cloudpickle.dumps(function(*args, **kwargs))
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = result
        return Answer(payload=None)

    aws.script = stock(aws, run)
    assert execute(made(), len, "four")[0].get_deserialized() == 4
    assert asyncio.run(made().run(len, ["four"], {}, METADATA)) == 4
    assert not aws.objects
    assert len([r for r in aws.requests if r.startswith("POST")]) == 3


def test_function_deployed_anew_is_recognized_again(aws: AWS) -> None:
    """Once a function of the stock image runs this project's, the direct path is taken again."""
    running._STOCK.add((made()._account(), "fn"))

    def script(event: dict[str, Any]) -> Answer:
        if wire.MARK not in json.loads(event["payload"]):
            return bad(wire.PROTOCOL_DIFFERS)
        return good("direct")

    aws.script = script
    assert execute(made(), len)[0].get_deserialized() == "direct"
    assert not running._STOCK


def test_throttled_stock_function_is_waited_for(aws: AWS) -> None:
    """A 429 of a stock function is waited out as well, and a refused clean-up loses no result."""
    answers = [Answer(status=429, code="TooManyRequestsException")]

    def run(event: Any) -> Answer:
        if answers:
            return answers.pop()
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = cloudpickle.dumps(
            TransportableObject("late")
        )
        aws.denied = {"DELETE"}
        return Answer(payload=None)

    aws.script = stock(aws, run)
    assert execute(made(), len)[0].get_deserialized() == "late"


def test_stock_result_cannot_change_covalents_class(aws: AWS) -> None:
    """A pickle that sets attributes of the container's class changes nothing in the server."""
    forged = b"\x80\x04ccovalent\nTransportableObject\n)\x81N}\x8c\x10get_deserializedK\x01s\x86b."

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = forged
        return Answer(payload=None)

    aws.script = stock(aws, run)
    execute(made(), len)
    assert callable(TransportableObject.get_deserialized)


def test_cancelled_stock_electron_is_left(aws: AWS) -> None:
    """The stock handler cannot be stopped; the node ends CANCELLED all the same."""
    release = threading.Event()

    def run(event: Any) -> Answer:
        release.wait(10)
        return Answer(payload=None)

    aws.script = stock(aws, run)

    async def scenario() -> Any:
        running._STOCK.add((made()._account(), "fn"))
        pending = asyncio.ensure_future(under_covalent(made(), len))
        await invoked(aws)
        await made()._cancel(METADATA, {"task_id": "t"})
        return await asyncio.wait_for(pending, 4)

    try:
        assert str(asyncio.run(scenario())[3]) == "CANCELLED"
    finally:
        release.set()


def test_stock_exception_and_crash(aws: AWS) -> None:
    """The stock handler's exception text fails the node; so does a crash, at once."""

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['EXCEPTION_FILENAME']}"] = json.dumps("it broke").encode()
        return Answer(payload=None)

    aws.script = stock(aws, run)
    assert "it broke" in execute(made(), len)[2]
    timeout = {"errorMessage": "2026 r Task timed out after 3.00 seconds"}
    aws.script = stock(aws, lambda event: Answer(payload=timeout, error="Unhandled"))
    assert "its own Timeout of 3.00 s" in execute(made(), len)[2]


def test_stock_result_of_somebody_else_is_not_loaded(aws: AWS, tmp_path: Path) -> None:
    """A pickle that asks for anything but Covalent's container is refused unrun."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = cloudpickle.dumps(Evil())
        return Answer(payload=None)

    aws.script = stock(aws, run)
    assert "was not loaded" in execute(made(), len)[2]
    assert not marker.exists()


def test_documented_steps(aws: AWS, tmp_path: Path) -> None:
    """submit_task, get_status, query_result and query_task_exception work one by one."""
    events: list[Any] = []

    def script(event: dict[str, Any]) -> Answer:
        events.append((event["headers"]["X-Amz-Invocation-Type"], json.loads(event["payload"])))
        return Answer(payload=b"", status=202)

    aws.script = script

    async def steps() -> None:
        executor = made()
        answer = await executor.submit_task("other", "f.pkl", "r.pkl", "e.json")
        assert answer["StatusCode"] == 202
        assert await executor.get_status("r.pkl") is False
        aws.objects["/bucket/r.pkl"] = cloudpickle.dumps(TransportableObject(5))
        aws.objects["/bucket/e.json"] = b'"why"'
        assert await executor.get_status("r.pkl") is True
        result = await executor.query_result(str(tmp_path), "r.pkl")
        assert result.get_deserialized() == 5
        assert await executor.query_task_exception(str(tmp_path), "e.json") == "why"
        with pytest.raises(FileNotFoundError, match=r"no gone\.pkl in bucket bucket"):
            await executor.query_result(str(tmp_path), "gone.pkl")

    asyncio.run(steps())
    assert events == [
        (
            "Event",
            {
                "S3_BUCKET_NAME": "bucket",
                "COVALENT_TASK_FUNC_FILENAME": "f.pkl",
                "RESULT_FILENAME": "r.pkl",
                "EXCEPTION_FILENAME": "e.json",
            },
        )
    ]
    assert "POST /2015-03-31/functions/other/invocations" in aws.requests


# -- names, settings, JSON -----------------------------------------------------------------------

DOCUMENTED = {
    "run": "function args kwargs task_metadata",
    "setup": "task_metadata",
    "teardown": "task_metadata",
    "cancel": "task_metadata job_handle",
    "submit_task": "function_name func_filename result_filename exception_filename",
    "submit_task_sync": "function_name func_filename result_filename exception_filename",
    "get_status": "object_key",
    "get_status_sync": "object_key",
    "query_result": "workdir result_filename",
    "query_result_sync": "workdir result_filename",
    "query_task_exception": "workdir exception_filename",
    "query_task_exception_sync": "workdir exception_filename",
    "get_session": "",
    "boto_session_options": "",
    "run_async_subprocess": "cmd",
    "to_dict": "",
    "from_dict": "object_dict",
    "get_dispatch_context": "dispatch_info",
    "get_cancel_requested": "",
    "set_job_handle": "handle",
    "set_job_status": "status",
    "validate_status": "status",
    "get_version_info": "",
    "write_streams_to_file": "stream_strings filepaths dispatch_id results_dir",
    "send": "task_specs resources task_group_metadata",
    "poll": "task_group_metadata data",
    "receive": "task_group_metadata data",
}


@pytest.mark.parametrize(("name", "arguments"), DOCUMENTED.items())
def test_documented_methods(name: str, arguments: str) -> None:
    """Each documented method exists and takes the documented arguments by name."""
    method = getattr(AWSLambdaExecutor, name)
    names = [p for p in inspect.signature(method).parameters if p != "self"]
    assert names == arguments.split()
    sync = name.endswith("_sync") or not hasattr(AWSLambdaExecutor, f"{name}_sync")
    assert sync or inspect.iscoroutinefunction(method)


def test_documented_constructor(aws: AWS) -> None:
    """The public plugin's positional order and every documented keyword are accepted."""
    executor = AWSLambdaExecutor("fn", "bucket", "/c", "prof", "eu-west-1", 7, 11)
    assert (executor.function_name, executor.s3_bucket_name) == ("fn", "bucket")
    assert (executor.credentials_file, executor.profile) == ("/c", "prof")
    assert (executor.region, executor.poll_freq, executor.timeout) == ("eu-west-1", 7, 11)
    executor = AWSLambdaExecutor(
        execution_role="role",
        cache_dir="/tmp/x",
        log_stdout="o",
        log_stderr="e",
        time_limit=4,
        retries=2,
    )
    assert executor.cache_dir == "/tmp/x" and executor.retries == 2
    assert executor.boto_session_options() == {"region_name": "us-east-1"}


def test_survives_json() -> None:
    """to_dict is plain JSON; an executor rebuilt from it as the server does is the same."""
    executor = made(timeout=33, retries=1)
    carried = json.loads(json.dumps(executor.to_dict()))
    assert carried["short_name"] == "awslambda"
    rebuilt = AWSLambdaExecutor(**awslambda._EXECUTOR_PLUGIN_DEFAULTS).from_dict(carried)
    assert rebuilt.__dict__ == executor.__dict__


def test_repr_names_function_and_bucket() -> None:
    """Printed, an executor says where it sends electrons."""
    assert repr(made()) == (
        "AWSLambdaExecutor(function_name='fn', s3_bucket_name='bucket', region='eu-west-1', "
        "profile='')"
    )


@pytest.mark.parametrize("name", ["timeout", "poll_freq", "time_limit", "retries"])
@pytest.mark.parametrize("value", [-2, "soon", True])
def test_bad_numbers_are_refused(name: str, value: Any) -> None:
    """A timeout that is no positive number is refused when the executor is built."""
    with pytest.raises(ConfigurationError, match=f"{name}="):
        made(**{name: value})


def test_broken_samconfig_does_not_stop_the_server(clean_surroundings: Path) -> None:
    """The server builds an executor from covalent.conf wherever it was started; a broken project
    there matters only to those who have no names of their own."""
    (clean_surroundings / "samconfig.toml").write_text("ElectronFunction = [")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        AWSLambdaExecutor()
    in_server = AWSLambdaExecutor(**awslambda._EXECUTOR_PLUGIN_DEFAULTS)
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        asyncio.run(in_server.run(covalents(len), [], {}, METADATA))
    in_server.from_dict(made().to_dict())
    assert in_server.unresolved == "" and in_server.function_name == "fn"


def test_errors_share_one_base() -> None:
    """All of the executor's errors keep an electron's streams in Covalent."""
    from covalent._shared_files.exceptions import TaskRuntimeError

    assert issubclass(AWSLambdaExecutorError, TaskRuntimeError)
    assert not issubclass(AWSLambdaExecutorError, TaskCancelledError)
