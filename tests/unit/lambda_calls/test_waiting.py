"""Calls that wait: for their turn, through throttling and outages, for a lost answer."""

import asyncio
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aws_server import AWS, Answer
from calls import Noted, call, called, run_of, target
from electrons import bad, good, request_of
from lambda_calls import asking, attempt, limiter, session, wire
from lambda_calls.aws import invoke as invoking
from lambda_calls.aws.clients import Account
from lambda_calls.cancellation import Cancellation
from lambda_calls.errors import (
    CallCancelled,
    CannotAnswerError,
    LambdaCallError,
    OutcomeUnknownError,
    ResourceLimitError,
    UnreachableError,
)
from lambda_calls.session import Process
from patience import BUSY, wait_until

THROTTLED = Answer(status=429, code="TooManyRequestsException")


def sealed(event: dict[str, Any], answer: Answer, key: str = "") -> tuple[str, bytes]:
    """`answer` as the outcome that the function leaves: its path and its bytes."""
    request = request_of(event)
    outcome = json.dumps({**answer.payload, "task_id": request.task_id})
    path = f"/bucket/{wire.task_key(request.task_id, wire.OUTCOME)}"
    return path, wire.seal(outcome, key or request.key)


# -- its turn ------------------------------------------------------------------------------------


def test_throttling_is_waited_for(aws: AWS, process: Process) -> None:
    """429s are followed by new tries until there is room; the call runs once."""
    answers = [THROTTLED] * 3 + [good("at last")]
    aws.script = lambda event: answers.pop(0)
    assert call(process, len, "x") == "at last"


def test_throttling_past_the_timeout(aws: AWS, process: Process) -> None:
    """Beyond `timeout` the call fails, and the message says that it did not run."""
    aws.script = lambda event: THROTTLED
    started = time.monotonic()
    with pytest.raises(ResourceLimitError, match=r"no further calls for 1 s.*did not run"):
        call(process, len, "x", timeout=1)
    assert time.monotonic() - started > 0.9


def test_limit_is_told_when_the_turn_has_come(aws: AWS, process: Process) -> None:
    """What a call has waited is off its limit: function and executor count the same time."""
    limits: list[float] = []
    times: list[float] = []

    def script(event: dict[str, Any]) -> Answer:
        limits.append(request_of(event).limit or 0)
        times.append(time.monotonic())
        return THROTTLED if len(limits) < 4 else good(1)

    aws.script = script
    call(process, len, "x", timeout=60)
    assert 60 - BUSY < limits[0] <= 60
    assert limits == sorted(limits, reverse=True)
    for limit, when in zip(limits, times, strict=True):  # what has passed since the first is off
        assert abs((limits[0] - limit) - (when - times[0])) < BUSY / 2
    assert limits[-1] < limits[0] - 0.1


def test_defect_after_the_answer_is_typed(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours while an answer is taken note of ends the call as any other defect does."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    aws.script = lambda event: good(1)
    monkeypatch.setattr(attempt.Attempt, "_note_objects", broken)
    with pytest.raises(LambdaCallError, match="ZeroDivisionError"):
        call(process, len, "x")


def test_waiting_calls_hold_no_encoded_copy(aws: AWS, process: Process) -> None:
    """A request is built when its turn has come, not before."""
    built: list[str] = []
    release = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        release.wait(10)
        return good(1)

    aws.script = script

    async def scenario() -> int:
        session = process.session(target())
        session.limiter._window = 1
        runs = [run_of(process, len, "x" * 100) for _ in range(5)]
        for run in runs:
            request = run._call.request

            def counted(*, make: Any = request, **fields: Any) -> Any:
                built.append(fields["task_id"])
                return make(**fields)

            object.__setattr__(run._call, "request", counted)
        jobs = [asyncio.ensure_future(run.result()) for run in runs]
        while not aws.requests:
            await asyncio.sleep(0.01)
        while_waiting = len(built)
        release.set()
        await asyncio.gather(*jobs)
        return while_waiting

    assert asyncio.run(scenario()) == 1
    assert len(built) == 5


def test_no_descriptor_is_waited_for(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may open no more sockets waits until one is closed."""
    refusals, make = [errno.EMFILE, errno.ENFILE], invoking._socket

    def socket_or_not(address: Any) -> socket.socket:
        if refusals:
            number = refusals.pop()
            raise OSError(number, os.strerror(number))
        return make(address)

    monkeypatch.setattr(invoking, "_socket", socket_or_not)
    aws.script = lambda event: good("in the end")
    assert call(process, len, "x") == "in the end"
    assert not refusals


def test_busy_storage_is_waited_for(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function's S3 being busy ran nothing: the call is sent again."""
    monkeypatch.setattr(attempt, "_LONGEST_PAUSE", 0.05)
    answers = [bad(wire.STORAGE_BUSY, "SlowDown")] * 2 + [good("later")]
    aws.script = lambda event: answers.pop(0)
    assert call(process, len, "x") == "later"


def test_storage_that_stays_busy(aws: AWS, process: Process) -> None:
    """Beyond `timeout` the function's S3 is named, and that nothing ran."""
    aws.script = lambda event: bad(wire.STORAGE_BUSY, "SlowDown: reduce your rate")
    with pytest.raises(UnreachableError, match=r"could not read.*did not run.*SlowDown"):
        call(process, len, "x", timeout=2)


# -- the network ---------------------------------------------------------------------------------


@pytest.fixture
def port() -> int:
    """A port where nobody listens for now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def test_refused_endpoint_on_this_machine(
    aws: AWS, process: Process, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing starts up there: some seconds are enough, and it is said while they pass."""
    account = Account(region="r", endpoint_url=f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"cannot be reached.*did not run"):
        call(process, len, "x", to=target(account=account))
    assert 4 < time.monotonic() - started < 15
    said = [x for x in caplog.records if "cannot reach Lambda for " in x.getMessage()]
    assert said and all(x.levelname == "WARNING" for x in said)
    assert said[0].created < time.time() - 1  # long before the end


def test_outage_is_counted_from_its_first_failure(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that waited long for its turn has as much patience with the network as a young one:
    half a second without it costs no queue."""
    monkeypatch.setattr(session, "_CONNECT_WITHIN_LOOPBACK", 1.5)
    monkeypatch.setattr(limiter, "_BETWEEN_TRIES", 0.2)
    away, busy, make = False, True, invoking._socket

    def socket_or_not(address: Any) -> socket.socket:
        if away:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return make(address)

    monkeypatch.setattr(invoking, "_socket", socket_or_not)
    # Each answer closes its connection, so that the next request needs another one.
    aws.script = lambda event: Answer(**{**vars(THROTTLED if busy else good(1)), "closes": True})

    async def scenario() -> list[Any]:
        nonlocal away, busy
        jobs = [asyncio.ensure_future(called(process, len, "x")) for _ in range(30)]
        await asyncio.sleep(2)  # longer than the patience
        away = True
        await asyncio.sleep(0.5)
        away = busy = False
        return await asyncio.wait_for(asyncio.gather(*jobs), 20)

    assert asyncio.run(scenario()) == [1] * 30


def test_all_fail_when_the_network_stays_away(
    aws: AWS, process: Process, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole queue is told at once, not each call after a patience of its own."""
    monkeypatch.setattr(session, "_CONNECT_WITHIN_LOOPBACK", 1.0)
    account = Account(region="r", endpoint_url=f"http://127.0.0.1:{port}")
    to = target(account=account)

    async def scenario() -> list[Any]:
        runs = [called(process, len, "x", to=to) for _ in range(50)]
        return await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), 10)

    assert {type(error) for error in asyncio.run(scenario())} == {UnreachableError}


# -- lost answers --------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits for a lost call, forty times shorter."""
    for name in ("STARTS_WITHIN", "ANSWERS_WITHIN", "ASKS_EVERY"):
        monkeypatch.setattr(asking, name, getattr(asking, name) / 40)
    monkeypatch.setattr(attempt, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(attempt, "_LONGEST_PAUSE", 0.1)


def test_lost_call_has_a_truthful_end_within_90_seconds() -> None:
    """So long it may take at most to learn that a call does not run, or does not run any more: a
    question, the time to answer it, and the pauses between looks before and after."""
    pauses = 2 * attempt._LONGEST_PAUSE
    assert asking.STARTS_WITHIN + pauses <= 90
    assert asking.ASKS_EVERY + asking.ANSWERS_WITHIN + pauses <= 90


def test_patience_begins_with_the_first_question_that_is_stored() -> None:
    """Questions that S3 did not take leave an environment as much time to start as it needs."""
    asked = asking.Asking()
    asked.next_order()  # not stored
    asked.next_order()
    asked.asked()
    assert asked.patience == asking.STARTS_WITHIN
    asked.acknowledged = True
    asked.next_order()
    asked.asked()
    assert asked.patience == asking.ANSWERS_WITHIN


def losing(
    aws: AWS, meanwhile: Callable[[dict[str, Any]], None]
) -> Callable[[dict[str, Any]], Answer]:
    """Answers that never come, while something happens in a thread."""

    def script(event: dict[str, Any]) -> Answer:
        threading.Thread(target=meanwhile, args=(event,), daemon=True).start()
        return Answer(hang_up=True)

    return script


def acknowledge(aws: AWS, event: dict[str, Any], seconds: float) -> None:
    """Answer orders as a function does that runs the call."""
    request, end = request_of(event), time.monotonic() + seconds
    order = f"/bucket/{wire.task_key(request.task_id, wire.ORDER)}"
    running = f"/bucket/{wire.task_key(request.task_id, wire.RUNNING)}"
    while time.monotonic() < end:
        if order in aws.objects:
            aws.objects[running] = wire.seal(aws.objects[order].decode(), request.key)
        time.sleep(0.02)


def test_lost_answer_is_taken_from_its_outcome(aws: AWS, process: Process, hasty: None) -> None:
    """A call that runs says so when it is asked, and its outcome is the answer; not sent twice."""

    def runs_on(event: dict[str, Any]) -> None:
        acknowledge(aws, event, seconds=2.5)  # longer than an unacknowledged one is waited for
        aws.objects.update([sealed(event, good("survived"))])

    aws.script = losing(aws, runs_on)
    assert call(process, len, "x") == "survived"
    assert aws.posts == 1
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def test_lost_call_that_does_not_run(aws: AWS, process: Process, hasty: None) -> None:
    """Without an acknowledgement the end comes soon, says so, and leaves the order to stop."""
    aws.script = lambda event: Answer(hang_up=True)
    started = time.monotonic()
    with pytest.raises(OutcomeUnknownError, match=r"asked whether it runs.*may have run"):
        call(process, len, "x", timeout=900)
    assert time.monotonic() - started < 10
    assert aws.posts == 1
    assert list(aws.objects.values()) == [b"cancel"]


def test_lost_call_whose_environment_dies(aws: AWS, process: Process, hasty: None) -> None:
    """It is asked again and again: an acknowledgement of long ago is no sign of life."""
    aws.script = losing(aws, lambda event: acknowledge(aws, event, seconds=1.5))
    with pytest.raises(OutcomeUnknownError, match="has not said so"):
        call(process, len, "x", timeout=900)


def test_forged_outcome_and_acknowledgement(aws: AWS, process: Process, hasty: None) -> None:
    """Somebody who writes to the bucket, but did not see the request, is not believed."""

    def forge(event: dict[str, Any]) -> None:
        aws.objects.update([sealed(event, good("forged"), key="a guess")])
        path = f"/bucket/{wire.task_key(request_of(event).task_id, wire.RUNNING)}"
        aws.objects[path] = wire.seal("report 1", "a guess")

    aws.script = losing(aws, forge)
    with pytest.raises(OutcomeUnknownError):
        call(process, len, "x", timeout=900)


def test_lost_call_without_a_bucket(aws: AWS, process: Process) -> None:
    """Where nothing can be asked, the end comes at once."""
    aws.script = lambda event: Answer(hang_up=True)
    with pytest.raises(OutcomeUnknownError, match="did not come"):
        call(process, len, "x", to=target(bucket=None), timeout=900)
    assert not aws.objects


def test_lost_call_where_the_bucket_is_denied(aws: AWS, process: Process) -> None:
    """A bucket that may not be asked is named, and nothing is waited for."""
    aws.denied = {"PUT", "GET"}
    aws.script = lambda event: Answer(hang_up=True)
    with pytest.raises(OutcomeUnknownError, match=r"Access denied: s3:PutObject"):
        call(process, len, "x", timeout=900)


def test_lost_call_while_the_bucket_is_away(aws: AWS, process: Process, hasty: None) -> None:
    """S3 that fails for a while is asked again."""

    def heal(event: dict[str, Any]) -> None:
        time.sleep(1)
        aws.denied = set()
        acknowledge(aws, event, seconds=0.5)
        aws.objects.update([sealed(event, good("late"))])

    aws.denied, aws.refusal = {"PUT", "GET"}, (503, "SlowDown")
    aws.script = losing(aws, heal)
    assert call(process, len, "x", timeout=60) == "late"


def test_cancelled_while_its_answer_is_lost(aws: AWS, process: Process, hasty: None) -> None:
    """The order to stop is not written over by the question whether it runs."""
    events: list[dict[str, Any]] = []

    def runs_on(event: dict[str, Any]) -> None:
        events.append(event)
        acknowledge(aws, event, seconds=8)

    aws.script = losing(aws, runs_on)

    async def scenario() -> bytes:
        cancellation = Cancellation("call")
        running = asyncio.ensure_future(
            called(process, len, "x", timeout=900, cancellation=cancellation)
        )
        while not any(path.endswith("/running") for path in aws.objects):
            await asyncio.sleep(0.02)
        cancellation.request()
        with pytest.raises(CallCancelled):
            await running
        return aws.objects[f"/bucket/{wire.task_key(request_of(events[0]).task_id, wire.ORDER)}"]

    assert asyncio.run(scenario()) == b"cancel"


def test_cancelled_while_s3_is_silent(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order to stop is waited for some seconds, then the call ends, and says what is left;
    what S3 stores later is no order to anybody's call, and stays for the function."""
    monkeypatch.setattr(attempt, "_TELLING", 0.5)
    release, sent = threading.Event(), threading.Event()
    aws.before_put = lambda: release.wait(60)

    def script(event: dict[str, Any]) -> Answer:
        sent.set()
        release.wait(60)
        return good(1)

    aws.script, observer = script, Noted()

    async def scenario() -> None:
        cancellation = Cancellation("call")
        options = {"cancellation": cancellation, "observer": observer}
        running = asyncio.ensure_future(called(process, len, "x", timeout=60, **options))
        await asyncio.to_thread(sent.wait, 30)
        cancellation.request()
        with pytest.raises(CallCancelled):
            await asyncio.wait_for(running, 30)

    try:
        asyncio.run(scenario())
        assert "none within 0.5 s" in str(observer.errors[0])
    finally:
        release.set()
    wait_until(lambda: list(aws.objects.values()) == [b"cancel"], "the order is stored", 30)


def test_cancelled_and_answered_while_s3_is_silent(aws: AWS, process: Process) -> None:
    """The answer ends the call, whether or not the order to stop is stored, and that order does
    not stay in the bucket."""
    release, told, sent = threading.Event(), threading.Event(), threading.Event()

    def put() -> None:
        told.set()
        release.wait(60)

    def script(event: dict[str, Any]) -> Answer:
        sent.set()
        told.wait(60)
        return good(1)

    aws.before_put, aws.script = put, script

    async def scenario() -> None:
        cancellation = Cancellation("call")
        running = asyncio.ensure_future(called(process, len, "x", cancellation=cancellation))
        await asyncio.to_thread(sent.wait, 30)
        cancellation.request()
        with pytest.raises(CallCancelled):
            await running
        assert not release.is_set()

    before = time.monotonic()
    try:
        asyncio.run(scenario())
        assert time.monotonic() - before < attempt._TELLING + BUSY
    finally:
        release.set()
    process.at_exit.run()
    assert aws.requests[-1].startswith("DELETE") and not aws.objects


def test_silent_s3_does_not_lengthen_a_lost_call(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What S3 is asked about a call is waited for as long as the call may take."""
    monkeypatch.setattr(attempt, "_GRACE", 0.5)
    monkeypatch.setattr(attempt, "_GIVING_UP", 0.1)
    release = threading.Event()
    aws.script = lambda event: good(1)
    call(process, len, "x")  # what the first one loads is there
    aws.before_put = lambda: release.wait(60)
    aws.script = lambda event: Answer(hang_up=True)
    before = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknownError, match="did not come"):
            call(process, len, "x", timeout=3)
        assert time.monotonic() - before < 3.6 + BUSY
    finally:
        release.set()


def test_silent_connection_and_an_outcome(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a connection brings nothing for long, the outcome in S3 is taken."""
    monkeypatch.setattr(attempt, "_LOOK_AFTER", 0.2)
    monkeypatch.setattr(attempt, "_LOOK_EVERY", 0.1)
    release = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        aws.objects.update([sealed(event, good("left there"))])
        release.wait(10)
        return good("too late")

    aws.script = script
    try:
        assert call(process, len, "x") == "left there"
    finally:
        release.set()
    wait_until(lambda: not aws.objects, "the bucket is empty", 30)


def attempt_of(**limits: Any) -> attempt.Attempt:
    """One that is not sent."""
    none: Any = None
    its_session: Any = SimpleNamespace(
        target=target(), objects=None, process=SimpleNamespace(requests=None)
    )
    return attempt.Attempt(
        its_session, none, attempt.Limits(timeout=10, **limits), task_id="t", noun="call"
    )


def test_looks_for_outcomes_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand calls that were sent at once do not ask S3 at once."""
    monkeypatch.setattr(attempt, "_LOOK_EVERY", 0.5)
    looks = []

    async def look(self: attempt.Attempt) -> str:
        looks.append(time.monotonic())
        return "an outcome"

    monkeypatch.setattr(attempt.Attempt, "_outcome", look)

    async def all_of_them() -> None:
        await asyncio.gather(*(attempt_of()._outcome_left() for _ in range(30)))

    asyncio.run(all_of_them())
    assert len(looks) == 30 and looks[-1] - looks[0] > 0.2


@pytest.mark.parametrize("apart", [False, True])
def test_which_timeout_stopped_a_call_that_had_waited(apart: bool) -> None:
    """`timeout` includes the wait for a turn, unless it begins anew then: not its 10 s, of which 8
    were waited, but the function's own 2 s are named there."""
    waiting = attempt_of(waits_apart=apart)
    waiting.waited = 8.0
    stopped = bad(wire.DEADLINE)
    answer = {**stopped.payload, "usage": {**stopped.payload["usage"], "duration": 2.0}}
    error = waiting.error_of(wire.Response.from_json(answer))
    assert ("timeout=10" in str(error)) is not apart
    assert ("8.0 s of which it waited" in str(error)) is not apart
    assert ("function's own" in str(error)) is apart, error


def test_given_up_calls_are_told_to_stop(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives up leaves the order to stop before anything else: retries never overlap."""
    monkeypatch.setattr(attempt, "_GRACE", 0.1)
    orders: list[int] = []
    release = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        orders.append(len(aws.objects))
        if len(orders) > 1:
            return good("second")
        release.wait(10)
        return good("first")

    aws.script = script
    observer = Noted()
    try:
        value = call(process, len, "x", timeout=0.5, retries=1, observer=observer)
    finally:
        release.set()
    assert value == "second"
    assert orders == [0, 1] and list(aws.objects.values()) == [b"cancel"]
    assert isinstance(observer.errors[0], OutcomeUnknownError)


@pytest.mark.parametrize("answer", ["another call's", "not understood", "a defect"])
def test_calls_that_may_run_are_told_to_stop_before_they_are_sent_again(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Whatever the reason for which an answer is not taken: retries never overlap."""
    orders: list[int] = []

    def script(event: dict[str, Any]) -> Answer:
        orders.append(len(aws.objects))
        if len(orders) > 1:
            return good("second")
        if answer == "another call's":
            return Answer(payload={**good("first").payload, "task_id": "somebody else's"})
        return Answer(payload={"covalent_lambda": wire.PROTOCOL, "odd": True})

    if answer == "a defect":
        read = wire.Response.from_json

        def broken(said: Any) -> wire.Response:
            if "odd" in said:
                raise RuntimeError("a defect")
            return read(said)

        monkeypatch.setattr(wire.Response, "from_json", staticmethod(broken))
    aws.script = script
    assert call(process, len, "x", retries=1) == "second"
    assert orders == [0, 1] and list(aws.objects.values()) == [b"cancel"]


def test_a_call_that_met_a_busy_s3_is_over(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not run: nothing has to be stopped, and nothing stays."""
    monkeypatch.setattr(attempt, "_LONGEST_PAUSE", 0.1)
    aws.script = lambda event: bad(wire.STORAGE_BUSY)
    with pytest.raises(LambdaCallError, match="did not run"):
        call(process, len, "x", timeout=2)
    assert aws.posts > 1 and not aws.objects


# -- whose answer --------------------------------------------------------------------------------


def test_answer_to_another_request_is_not_taken(aws: AWS, process: Process) -> None:
    """An environment whose answers have shifted completes no call with another one's value."""

    def script(event: dict[str, Any]) -> Answer:
        other = good("somebody else's")
        return Answer(payload={**other.payload, "task_id": "another-call"})

    aws.script = script
    with pytest.raises(CannotAnswerError, match=r"with the answer to another-call.*not taken"):
        call(process, len, "x")


def test_refusal_of_the_protocol_names_no_request(aws: AWS, process: Process) -> None:
    """A function that cannot read the event does not know its name; its sentence is kept."""
    answer = bad(wire.PROTOCOL_DIFFERS, "speaks protocol 1")
    aws.script = lambda event: Answer(payload={**answer.payload, "task_id": None})
    with pytest.raises(Exception, match="speaks protocol 1"):
        call(process, len, "x")
