"""The envelope: what goes in comes out, and what is malformed is refused with a reason."""

import json
from typing import Any

import pytest

import wire


def full_request() -> wire.Request:
    blob = wire.blob(b"large")
    return wire.Request(
        task_id="d-1-a",
        key="secret",
        python="3.11.7",
        cloudpickle="3.1.2",
        function="Zg==",
        args=["YQ==", blob],
        kwargs={"k": blob, "plain": "cA=="},
        before=[("Zg==", "YQ==", "aw==", "files")],
        after=[("Zg==", blob, "aw==", "")],
        bucket="bucket",
        limit=12.5,
    )


def test_request_survives_json() -> None:
    """A request read back is equal to the one that was sent, blobs and hooks included."""
    request = full_request()
    assert wire.Request.from_json(json.loads(request.to_json())) == request


def test_response_survives_json() -> None:
    """A response read back is equal to the one that was sent."""
    response = wire.Response(
        python="3.11.7",
        cloudpickle="3.1.2",
        result=wire.blob(b"data", key="tasks/t/result"),
        text="text",
        attrs={"doc": None, "name": "n"},
        stdout="out\n",
        stderr="err ☃\n",
        usage=wire.Usage(request_id="r", duration=1.5, memory_mb=512, max_memory_mb=80, cold=True),
    )
    assert wire.Response.from_json(json.loads(json.dumps(response.to_json()))) == response


def test_failure_survives_json() -> None:
    """A failure keeps its kind, type, message and traceback."""
    failure = wire.Failure(kind=wire.EXCEPTION, type="KeyError", message="'x'", traceback="Tr…")
    response = wire.Response(python="3.11.7", cloudpickle="3.1.2", failure=failure)
    assert wire.Response.from_json(response.to_json()).failure == failure


def test_answer_avoids_the_pair_that_marks_errors() -> None:
    """SAM's local Lambda takes any answer with errorMessage and errorType for a crash."""
    answer = wire.Response(python="3", cloudpickle="3").to_json()
    assert not {"errorMessage", "errorType"} & set(answer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"covalent_lambda": 1}, "protocol 1"),
        ({"covalent_lambda": None}, "protocol None"),
        ({"surprise": 1}, "unknown field(s) in the envelope: 'surprise'"),
        ({"args": [{"key": "k"}]}, "missing field(s) in an entry of args of the envelope"),
    ],
)
def test_malformed_request_is_refused(change: dict[str, Any], said: str) -> None:
    """Each malformed request names what is wrong with it."""
    event = {**json.loads(full_request().to_json()), **change}
    with pytest.raises(wire.EnvelopeError) as refusal:
        wire.Request.from_json(event)
    assert said in str(refusal.value)


@pytest.mark.parametrize("event", [None, [], "text", {}, {"S3_BUCKET_NAME": "b"}])
def test_foreign_event_is_refused(event: Any) -> None:
    """An event of somebody else's is told apart from an envelope of another version."""
    assert not wire.is_envelope(event)
    with pytest.raises(wire.EnvelopeError, match="not an envelope"):
        wire.Request.from_json(event)


def test_missing_fields_are_named() -> None:
    """A request without its function says so."""
    with pytest.raises(wire.EnvelopeError, match=r"missing field.*function, key, python"):
        wire.Request.from_json({"covalent_lambda": 2, "task_id": "t", "cloudpickle": "3"})


def test_blob_is_named_by_its_content() -> None:
    """Equal bytes share one key; a changed byte is noticed."""
    blob = wire.blob(b"data")
    assert blob.key == f"blobs/{blob.sha256}" == wire.blob(b"data").key
    assert blob.verified(b"data") == b"data"
    with pytest.raises(wire.DigestMismatch, match=r"blobs/.*Nothing of it was unpickled"):
        blob.verified(b"dat4")


def test_seal_is_broken_by_any_change() -> None:
    """An outcome is taken only if it was sealed with the attempt's own key."""
    sealed = wire.seal('{"ünï": 1}', "key")
    assert wire.unseal(sealed, "key") == '{"ünï": 1}'
    for data, key in ((sealed, "other"), (sealed + b" ", "key"), (b"", "key"), (b"{}", "key")):
        with pytest.raises(wire.DigestMismatch):
            wire.unseal(data, key)


def test_batch_survives_json() -> None:
    """A batch is the same after its way through JSON, blobs included."""
    batch = wire.Batch(
        task_id="t",
        key="k",
        python="3.11.0",
        cloudpickle="3",
        function="Zg==",
        calls=wire.blob(b"calls"),
        count=3,
        shared="c2hhcmVk",
        processes=2,
        before=[("Zg==", "YQ==", "aw==", "x")],
    )
    event = json.loads(batch.to_json())
    assert wire.is_batch(event) and not wire.is_batch(json.loads(full_request().to_json()))
    assert wire.Batch.from_json(event) == batch
    for name, value in (("count", 0), ("processes", "2"), ("count", None)):
        with pytest.raises(wire.EnvelopeError, match=name):
            wire.Batch.from_json({**event, name: value})


def test_frames_are_read_as_they_were_written() -> None:
    """A series of frames comes apart again; one that is cut off is refused."""
    frames = [
        wire.Frame(wire.BEGUN, 0, b""),
        wire.Frame(wire.VALUE, 0, b"value"),
        wire.Frame(wire.RAISED, 4_000_000_000, b"x" * 1000),
    ]
    data = b"".join(frame.to_bytes() for frame in frames)
    assert list(wire.read_frames(data)) == frames
    for end in (len(data) - 1, len(data) - 1001, 5):
        with pytest.raises(wire.EnvelopeError, match="cut off"):
            list(wire.read_frames(data[:end]))


def test_what_was_raised_is_data() -> None:
    """Type, text and traceback of an exception travel without being unpickled."""
    raised = wire.Raised(type="ValueError", message="3 rows", traceback="…", exception=None)
    assert wire.Raised.from_bytes(raised.to_bytes()) == raised
    for data in (b"[]", b"{}", b"no json", b'{"surprise": 1}'):
        with pytest.raises(wire.EnvelopeError, match=r"what a call raised|no JSON"):
            wire.Raised.from_bytes(data)


def test_the_key_of_an_attempt_is_not_shown() -> None:
    """Whoever knows it could forge what the function leaves in S3."""
    common = {
        "task_id": "t",
        "key": "secret",
        "python": "3.11",
        "cloudpickle": "3",
        "function": "",
    }
    assert "secret" not in repr(wire.Request(**common))  # type: ignore[arg-type]
    assert "secret" not in repr(wire.Batch(**common, calls="", count=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("digest", ["", "../../victim", "0" * 63, "G" * 64])
def test_a_digest_is_a_digest(digest: str) -> None:
    """It names files, too."""
    with pytest.raises(wire.EnvelopeError):
        wire.Blob(key="blobs/x", size=1, sha256=digest)
