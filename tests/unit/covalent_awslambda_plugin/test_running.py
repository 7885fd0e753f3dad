"""Electrons on their way there and back, over real sockets."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aws_server import AWS, Answer
from covalent._workflow.transportable_object import TransportableObject
from covalent_awslambda_plugin.errors import (
    ConfigurationError,
)
from electrons import METADATA, bad, covalents, execute, good, made, request_of
from lambda_calls.session import Session

import wire


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


def test_usage_line(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """With usage=True, stderr ends with time, memory, the dispatch's sum and its cost."""
    monkeypatch.setattr(Session, "is_aws", True)  # the endpoint here is on this machine
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


def test_usage_line_of_an_emulator(aws: AWS) -> None:
    """What an emulator bills is the time of its container's start, and nobody's money: the
    function's own time is told."""
    report = "REPORT RequestId: r\tDuration: 1 ms\tBilled Duration: 31600 ms\t"
    log = f"{report}Memory Size: 512 MB\tInit Duration: 31000.00 ms\n"
    aws.script = lambda event: replace(good(1), log=log)
    stderr = execute(made(usage=True), len)[2]
    assert "[lambda] " in stderr
    assert "31." not in stderr and "init" not in stderr


def test_bare_callable_returns_the_value_itself(aws: AWS) -> None:
    """Called without Covalent, `run` takes plain objects and returns one."""
    aws.script = lambda event: good([1, 2])
    assert asyncio.run(made().run(len, ["x"], {"y": 1}, METADATA)) == [1, 2]


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
    execute(made(timeout=50), len)  # imports what calls need, which takes some of its `timeout`
    limits.clear()
    execute(made(timeout=50), len)
    execute(made(timeout=50, time_limit=5), len)
    assert 49 < limits[0] <= 50 and limits[1] == 5


def test_an_exceptions_text_forges_no_line_of_the_servers_log(
    aws: AWS, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is shared by all dispatches."""
    forged = "odd\n2026-11-27 [ERROR] dispatch of somebody else failed \x1b[31m"
    answers = [bad(wire.EXCEPTION, forged), good(1)]
    aws.script = lambda event: answers.pop(0)
    with caplog.at_level("WARNING"):
        execute(made(retries=1), len)
    said = [x.getMessage() for x in caplog.records if "running again" in x.getMessage()]
    assert len(said) == 1 and "somebody else" in said[0]
    assert "\n" not in said[0] and "\x1b" not in said[0]
