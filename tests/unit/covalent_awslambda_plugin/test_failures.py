"""Each way to fail has its class and its sentence."""

import asyncio

import pytest
from aws_server import AWS, Answer
from covalent_awslambda_plugin.errors import (
    CannotAnswerError,
    ConfigurationError,
    ResourceLimitError,
    TaskFailedError,
    TaskRejectedError,
)
from electrons import METADATA, bad, covalents, execute, made
from lambda_calls.session import Session

import wire


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
                "No module named 'nowhere.linalg'; 'nowhere' is not a package",
                type="ModuleNotFoundError",
            ),
            TaskFailedError,
            "If it is a package, add the package that provides it to function/requirements.txt",
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
    aws: AWS, monkeypatch: pytest.MonkeyPatch, answer: Answer, kind: type[Exception], said: str
) -> None:
    """The node fails with the sentence in its stderr; the class tells what can be done."""
    monkeypatch.setattr(Session, "is_aws", True)  # the endpoint here is on this machine
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
