"""Arguments and results too large for an invocation."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from aws_server import AWS, Answer
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin.errors import (
    ConfigurationError,
)
from covalent_awslambda_plugin.server import server
from electrons import METADATA, bad, covalents, execute, good, made, request_of
from lambda_calls import blobs
from lambda_calls.aws.clients import Account
from lambda_calls.base64_files import Decoded
from lambda_calls.errors import LambdaCallError
from lambda_calls.session import Process, Target
from lambda_calls.threads import Threads
from patience import wait_until

import wire


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


def test_lingering_blobs_are_deleted_at_exit(aws: AWS) -> None:
    """A process that ends before an object's time is up deletes it on its way out."""
    aws.script = lambda event: good(1)
    execute(made(), len, "x" * 7_000_000)
    assert aws.objects
    server().process.at_exit.run()
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
        with pytest.raises(
            LambdaCallError, match="MemoryError"
        ) as kept:  # with its frames, and what they hold
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
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)
    aws.script = script(tamper=True)
    _, _, stderr, status = execute(made(), len)
    assert str(status) == "FAILED" and "sha256" in stderr and "/result" in stderr


def test_large_argument_without_a_named_bucket(aws: AWS) -> None:
    """Data does not go into the bucket of the documented default, which may be anybody's."""
    executor = AWSLambdaExecutor(function_name="fn")
    with pytest.raises(ConfigurationError, match=r"needs a bucket.*s3_bucket_name="):
        asyncio.run(executor.run(len, ["x" * 7_000_000], {}, METADATA))
    assert not aws.requests


@pytest.mark.parametrize(
    "answer",
    [
        Answer(payload={"errorType": "Runtime.ExitError"}, error="Unhandled"),
        bad(wire.RESULT_LOST),
    ],
    ids=["killed", "result lost"],
)
def test_what_a_failed_call_left_is_deleted(aws: AWS, answer: Answer) -> None:
    """A function that is killed, or cannot store all of its result, may have stored some of it
    without a word: nobody will ever read it."""

    def script(event: dict[str, Any]) -> Answer:
        name = request_of(event).task_id
        for part in (wire.RESULT, wire.RESULT_TEXT):
            aws.objects[f"/bucket/{wire.task_key(name, part)}"] = b"large"
        return answer

    aws.script = script
    assert str(execute(made(), len)[3]) == "FAILED"
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_deletion_that_the_end_of_the_loop_cuts_off(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was about to be deleted as the loop ended is deleted at the end of the process."""
    monkeypatch.setattr(blobs, "_LINGER", 0.0)
    threads, busy = Threads(1, "lambda-transfer"), threading.Event()
    objects = process.objects(Target(Account(region="eu-west-1"), function="fn", bucket="bucket"))

    async def use() -> None:
        held = blobs.Blobs(objects, threads, process.at_exit)
        async with held.stored([wire.encode(b"large")], seconds=20):
            assert aws.objects
        threads.begin(lambda: [busy.wait(20)].clear())  # no thread is free to delete it
        await asyncio.sleep(0.1)

    asyncio.run(use())
    busy.set()
    process.at_exit.run()
    threads.close()
    assert not aws.objects
