"""Whatever comes over the wire is read, or refused with the one error that says why."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lambda_calls import messages, usage, wire
from lambda_calls.aws.invoke import HttpResponse
from lambda_calls.aws.refusals import ConnectionLost, CredentialsRefused, Refused
from lambda_calls.errors import LambdaCallError
from lambda_calls.run import Spread

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
many = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, -1, math.nan, math.inf, "\x1b[2J", "a" * 1000, "Tg=="])
)
JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

REQUEST = json.loads(
    wire.Request(
        task_id="d-0-a",
        key="k",
        python="3.11.7",
        cloudpickle="3.1",
        function="Tg==",
        args=["Tg==", wire.blob(b"x")],
        kwargs={"a": "Tg=="},
        before=[("Tg==", "Tg==", "Tg==", "")],
        limit=3.0,
    ).to_json()
)
BATCH = json.loads(
    wire.Batch(
        task_id="d-0-a",
        key="k",
        python="3.11.7",
        cloudpickle="3.1",
        function="Tg==",
        calls="Tg==",
        count=1,
        shared="Tg==",
    ).to_json()
)
RESPONSE = wire.Response(
    python="3.11.7",
    cloudpickle="3.1",
    result="Tg==",
    text="None",
    attrs={"doc": None, "name": "n"},
    failure=wire.Failure(wire.EXCEPTION, "m", "builtins.ValueError", "t"),
    usage=wire.Usage(duration=1.0, memory_mb=512),
    task_id="d-0-a",
).to_json()


@st.composite
def changed(draw: st.DrawFn, envelope: dict[str, Any]) -> Any:
    """An envelope with a few values replaced, removed or added, at any depth."""
    made = json.loads(json.dumps(envelope))
    for _ in range(draw(st.integers(1, 3))):
        place, key = made, draw(st.sampled_from(sorted(made) or [""]))
        while isinstance(place.get(key), dict) and place[key] and draw(st.booleans()):
            place = place[key]
            key = draw(st.sampled_from(sorted(place)))
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            place.pop(key, None)
        elif how == "add":
            place[draw(st.text(max_size=8))] = draw(JSON)
        else:
            place[key] = draw(JSON)
    return made


def _read(kind: Any, envelope: Any) -> Any:
    """What is read; None if it is refused, in a sentence that can be shown."""
    try:
        return kind.from_json(envelope)
    except wire.EnvelopeError as error:
        assert str(error) and len(str(error)) < 2000
        return None


@many
@given(changed(REQUEST) | JSON)
def test_any_request_is_read_or_refused(envelope: Any) -> None:
    """A request that is read has fields of the annotated types, and is sent again as it came."""
    request = _read(wire.Request, envelope)
    if request is not None:
        assert isinstance(request.task_id, str) and isinstance(request.args, list)
        again = wire.Request.from_json(json.loads(request.to_json()))
        assert again == request


@many
@given(changed(BATCH) | JSON)
def test_any_batch_is_read_or_refused(envelope: Any) -> None:
    """A batch that is read has at least one call and one process."""
    batch = _read(wire.Batch, envelope)
    if batch is not None:
        assert batch.count >= 1 and batch.processes >= 1


@many
@given(changed(RESPONSE) | JSON)
def test_any_answer_is_read_or_refused(envelope: Any) -> None:
    """What an executor says of an answer that is read, usage and failure, can be said."""
    response = _read(wire.Response, envelope)
    if response is None:
        return
    assert str(usage.of(response.usage, ""))
    if response.failure is not None:
        error = messages.of_failure(
            response.failure,
            response.usage,
            call="call",
            function="f",
            limits={"timeout": 5.0},
            advice=messages.Advice(),
        )
        assert isinstance(error, LambdaCallError) and error.report()


@many
@given(st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"\xff"]))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    """Bytes that are no JSON, deeply nested ones too, end in an EnvelopeError."""
    try:
        wire.loads(data)
    except wire.EnvelopeError:
        pass


@many
@given(st.binary(max_size=300))
def test_any_frames_are_read_or_refused(data: bytes) -> None:
    """Frames are whole or refused; the whole ones at the beginning are found."""
    size = wire.whole_frames(lambda count, at: data[at : at + count], len(data))
    assert b"".join(x.to_bytes() for x in wire.read_frames(data[:size])) == data[:size]
    try:
        list(wire.frames_of(wire.encode(data)))
    except wire.EnvelopeError:
        assert size < len(data)


@many
@given(st.text(max_size=50))
def test_any_text_is_a_part_or_refused(text: str) -> None:
    """A part that is no base64 is refused."""
    try:
        list(wire.frames_of(text))
    except wire.EnvelopeError:
        pass


@many
@given(JSON, st.binary(max_size=40))
def test_any_raised_is_read_or_refused(said: Any, other: bytes) -> None:
    """What a call is told to have raised is read, or refused."""
    for data in (json.dumps(said).encode(), other):
        try:
            wire.Raised.from_bytes(data)
        except wire.EnvelopeError:
            pass


@many
@given(st.lists(st.tuples(st.sampled_from([6, 7, 8, 9]), st.binary(max_size=20)), max_size=5))
def test_any_spread_is_read_or_refused(frames: list[tuple[int, bytes]]) -> None:
    """A fan-out's spread that lacks a part, or has odd options, is refused."""
    data = b"".join(wire.Frame(kind, 0, x).to_bytes() for kind, x in frames)
    try:
        Spread.of(wire.encode(data), wire.Response(python="3", cloudpickle="3"))
    except wire.EnvelopeError:
        pass


@many
@given(
    st.integers(300, 599),
    st.binary(max_size=80) | JSON.map(lambda x: json.dumps(x).encode()),
    st.sampled_from(["", "TooManyRequestsException", "ServiceException:http://x", "Über"]),
    st.text(max_size=10),
)
def test_any_refusal_has_a_meaning(status: int, body: bytes, kind: str, after: str) -> None:
    """Whatever stands between here and Lambda answers, it becomes one of our exceptions."""
    answer = HttpResponse(status, {"x-amzn-errortype": kind, "retry-after": after}, body)
    made = messages.of_refused_invocation(
        answer.error(), call="call", function="f", region="r", option=""
    )
    assert isinstance(made, (LambdaCallError, Refused, ConnectionLost, CredentialsRefused))


@many
@given(st.binary(max_size=80) | JSON.map(lambda x: json.dumps(x).encode()), st.text(max_size=80))
def test_any_crash_is_explained(payload: bytes, log: str) -> None:
    """An invocation that failed is explained, whatever it left as its answer and its log."""
    error = messages.of_crash(payload, log, call="call", function="f", option="", real=True)
    assert isinstance(error, LambdaCallError) and str(error)


@many
@given(st.text(max_size=200))
def test_any_log_tail_is_read(tail: str) -> None:
    """Times and memory are read from whatever the log's tail holds."""
    used = usage.of(wire.Usage(duration=0.5, memory_mb=128), f"REPORT RequestId: x\t{tail}")
    assert used.billed >= 0
