"""Cancelling: before, while and after an electron is sent."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from aws_server import AWS, Answer
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin.errors import ConfigurationError
from electrons import METADATA, bad, covalents, good, invoked, made, request_of, under_covalent
from patience import BUSY, wait_until

import wire


def test_cancelled_before_it_was_sent(aws: AWS) -> None:
    """A dispatch cancelled before the electron starts sends nothing."""
    result = asyncio.run(under_covalent(made(), len, cancelled=True))
    assert str(result[3]) == "CANCELLED"
    assert aws.requests == []


def cancel_soon(aws: AWS, executor: AWSLambdaExecutor | None = None) -> tuple[Any, float]:
    async def scenario() -> tuple[Any, float]:
        running = asyncio.ensure_future(under_covalent(executor or made(), len))
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
    assert str(result[3]) == "CANCELLED" and took < 1 + BUSY
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


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
    assert str(result[3]) == "CANCELLED" and took < 1 + BUSY
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
    assert aws.posts == 1
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_cancelled_while_it_runs(aws: AWS) -> None:
    """A running electron gets its mark; what it had printed is kept, and the mark removed."""

    def script(event: dict[str, Any]) -> Answer:
        mark = f"/bucket/{wire.task_key(request_of(event).task_id, wire.ORDER)}"
        for _ in range(200):
            if mark in aws.objects:
                return bad(wire.CANCELLED)
            time.sleep(0.02)
        return good("never cancelled")

    aws.script = script
    (result, stdout, _, status), took = cancel_soon(aws)
    assert (result, str(status), stdout) == (None, "CANCELLED", "so far\n")
    assert took < 1 + BUSY
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_cancelling_what_is_unknown_leaves_a_mark(aws: AWS) -> None:
    """After a restart of the server, cancelling still reaches the function through S3."""
    asyncio.run(made().cancel(METADATA, {"task_id": "old"}))
    assert list(aws.objects) == ["/bucket/tasks/old/order"]


def test_cancelling_what_is_unknown_without_a_bucket(aws: AWS) -> None:
    """The public default for the bucket is nobody's: S3 is not asked for it."""
    without = AWSLambdaExecutor("fn", region="eu-west-1")
    assert without.s3_bucket_name == "covalent-lambda-job-resources"
    with pytest.raises(ConfigurationError, match=r"cannot be told to stop .* s3_bucket_name="):
        asyncio.run(without.cancel(METADATA, {"task_id": "old"}))
    assert aws.requests == []


def test_cancelled_while_it_runs_without_a_bucket(aws: AWS) -> None:
    """The node ends at once; its stderr says what runs on, and why."""
    release = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        release.wait(10)
        return good("ran on")

    aws.script = script
    without = AWSLambdaExecutor("fn", region="eu-west-1")
    try:
        result, took = cancel_soon(aws, without)
    finally:
        release.set()
    assert str(result[3]) == "CANCELLED" and took < 1 + BUSY
    assert "cannot be told to stop" in result[2]
    assert aws.posts == len(aws.requests) == 1


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
    assert [key for key in aws.objects if key.endswith("/order")]


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
    assert [key for key in aws.objects if key.endswith("/order")]
