"""Functions of Covalent's stock image."""

import asyncio
import errno
import json
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from aws_server import AWS, Answer
from covalent._workflow.transportable_object import TransportableObject
from covalent_awslambda_plugin.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    ResourceLimitError,
    UnreachableError,
)
from covalent_awslambda_plugin.server import server
from electrons import METADATA, bad, execute, good, invoked, made, under_covalent
from lambda_calls.aws import invoke as invoking
from lambda_calls.aws.objects import Objects
from patience import BUSY, wait_until

import wire


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

    async def both() -> None:
        assert (await under_covalent(made(), len, "four"))[0].get_deserialized() == 4
        assert await made().run(len, ["four"], {}, METADATA) == 4

    asyncio.run(both())
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)
    assert aws.posts == 3


def test_function_deployed_anew_is_recognized_again(aws: AWS) -> None:
    """Once a function of the stock image runs this project's, the direct path is taken again."""
    events: list[bool] = []

    def script(event: dict[str, Any]) -> Answer:
        events.append(wire.MARK in json.loads(event["payload"]))
        if not events[-1]:
            return bad(wire.PROTOCOL_DIFFERS)
        return good("direct")

    async def scenario() -> None:
        aws.script = stock(aws, lambda event: Answer(payload={"errorMessage": "x"}, error="U"))
        await under_covalent(made(), len)
        aws.script = script
        for _ in range(2):
            result = await under_covalent(made(), len)
            assert result[0].get_deserialized() == "direct"

    asyncio.run(scenario())
    assert events == [False, True, True]


def test_throttled_stock_function_is_waited_for(aws: AWS) -> None:
    """A throttled call of a stock function queues, too, and a refused clean-up loses no result."""
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


@pytest.mark.parametrize("again", [1, 100])
def test_function_that_is_replaced_while_electrons_run(aws: AWS, again: int) -> None:
    """The electron follows its function from one image to the other; a function that never
    decides ends it with an error that says so."""
    met: list[bool] = []

    def script(event: dict[str, Any]) -> Answer:
        is_envelope = wire.MARK in json.loads(event["payload"])
        met.append(is_envelope)
        if len(met) > 2 * again:
            return good(4)
        if is_envelope:  # by the stock image
            return stock(aws, lambda body: Answer())(event)
        return bad(wire.PROTOCOL_DIFFERS, "The event is not an envelope.")

    aws.script = script
    _, _, stderr, status = execute(made(), len, "four")
    if again == 1:
        assert (str(status), met) == ("COMPLETED", [True, False, True])
    else:
        assert (str(status), len(met)) == ("FAILED", 4)
        assert "now as Covalent's stock image, now as this project's" in stderr


def test_stock_function_that_is_throttled_for_ever(aws: AWS) -> None:
    """Its electron certainly did not run: it may be run again."""
    aws.script = stock(aws, lambda event: Answer(status=429, code="TooManyRequestsException"))
    started = time.monotonic()
    _, _, stderr, status = execute(made(timeout=1), len, "four")
    assert str(status) == "FAILED" and "did not run" in stderr
    assert time.monotonic() - started < 2 + BUSY
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_stock_function_that_refuses_slowly(aws: AWS) -> None:
    """A refusal that is on its way when the time is over says that nothing ran."""

    def slowly(event: dict[str, Any]) -> Answer:
        time.sleep(0.7)
        return Answer(status=429, code="TooManyRequestsException")

    aws.script = stock(aws, slowly)
    _, _, stderr, status = execute(made(timeout=1), len, "four")
    assert str(status) == "FAILED" and "did not run" in stderr


def test_stock_function_that_is_out_of_reach_for_a_moment(
    aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second without network fails no electron."""
    make, refusals = invoking._socket, [ConnectionRefusedError(errno.ECONNREFUSED, "refused")] * 2

    def socket_or_not(address: Any) -> socket.socket:
        if aws.posts and refusals:
            raise refusals.pop()
        return make(address)

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = cloudpickle.dumps(4)
        return Answer(payload=None)

    asked = stock(aws, run)
    monkeypatch.setattr(invoking, "_socket", socket_or_not)
    # Each answer closes its connection, so that the next request needs another one.
    aws.script = lambda event: replace(asked(event), closes=True)
    result, _, stderr, status = execute(made(), len, "four")
    assert (result, str(status)) == (4, "COMPLETED"), stderr
    assert not refusals


def test_stock_function_whose_arguments_take_too_long(
    aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` holds for their upload; what was not sent did not run."""
    aws.script = stock(aws, lambda event: Answer(payload=None))
    upload, ended = Objects.upload, threading.Event()

    def slow(self: Objects, *args: Any, **options: Any) -> Any:
        ended.wait(20)
        return upload(self, *args, **options)

    monkeypatch.setattr(Objects, "upload", slow)
    try:
        _, _, stderr, status = execute(made(timeout=4), len, "four")
    finally:
        ended.set()
    assert str(status) == "FAILED" and "was not sent" in stderr
    assert aws.posts == 1


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
        server().process.session(made()._target()).is_stock_image = True
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


@pytest.mark.parametrize("dispatch", ["../../up", "a/b", "x\n\x1b[2J", "%2e"])
def test_stock_keys_hold_no_odd_character(aws: AWS, dispatch: str) -> None:
    """The stock handler uses keys as names of files, too."""
    keys: list[str] = []

    def run(event: Any) -> Answer:
        keys.extend(event[x] for x in event if x != "S3_BUCKET_NAME")
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = cloudpickle.dumps(
            TransportableObject(4)
        )
        return Answer(payload=None)

    aws.script = stock(aws, run)
    metadata = {"dispatch_id": dispatch, "node_id": 7}
    assert asyncio.run(made().run(len, ["four"], {}, metadata)) == 4
    assert len(keys) == 3
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)
    assert all(re.fullmatch(r"\w+-[\w-]+-7\.(pkl|json)", x, re.ASCII) for x in keys), keys


@pytest.mark.parametrize("left", [b"", b"text", b"\xff", pickle.dumps({"x": 1})])
def test_stock_exception_that_is_none(aws: AWS, left: bytes, tmp_path: Path) -> None:
    """It ends in a sentence that names the object, also of the documented method."""

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['EXCEPTION_FILENAME']}"] = left
        return Answer(payload=None)

    aws.script = stock(aws, run)
    said = "exception-dispatch-7.json is not a result of Covalent's stock image"
    assert said in execute(made(), len)[2]
    aws.objects["/bucket/exception-dispatch-7.json"] = left
    with pytest.raises(ConfigurationError, match=said):
        made().query_task_exception_sync(str(tmp_path), "exception-dispatch-7.json")


@pytest.mark.parametrize("damaged", [b"", b"text", cloudpickle.dumps([1, 2])[:-3]])
def test_stock_result_that_is_damaged(aws: AWS, damaged: bytes) -> None:
    """It ends in a sentence that names the object."""

    def run(event: Any) -> Answer:
        aws.objects[f"/bucket/{event['RESULT_FILENAME']}"] = damaged
        return Answer(payload=None)

    aws.script = stock(aws, run)
    assert (
        "result-dispatch-7.pkl is not a result of Covalent's stock image"
        in execute(made(), len)[2]
    )


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (429, "TooManyRequestsException", ResourceLimitError, "takes no call for now"),
        (403, "ExpiredTokenException", ConfigurationError, "any more"),
        (500, "ServiceException", OutcomeUnknownError, "may have run"),
        (404, "ResourceNotFoundException", ConfigurationError, "other"),
    ],
)
def test_submitting_a_task_is_refused(
    aws: AWS, status: int, code: str, kind: type[Exception], said: str
) -> None:
    """A step that is made once, and by itself, fails as a run would."""
    aws.script = lambda _event: Answer(status=status, code=code)
    with pytest.raises(kind, match=said):
        made().submit_task_sync("other", "f.pkl", "r.pkl", "e.json")


def test_submitting_a_task_where_nobody_listens(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(UnreachableError, match="did not run"):
            made().submit_task_sync("other", "f.pkl", "r.pkl", "e.json")


def test_submitting_a_task_whose_connection_breaks(aws: AWS) -> None:
    aws.script = lambda _event: Answer(hang_up=True)
    with pytest.raises(OutcomeUnknownError, match="may have run"):
        made().submit_task_sync("other", "f.pkl", "r.pkl", "e.json")


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
