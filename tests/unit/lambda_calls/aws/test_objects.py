"""The objects of a bucket: what is stored, verified and refused."""

import random
import traceback
from pathlib import Path
from typing import Any

import pytest
import secret_keys
from aws_server import AWS
from lambda_calls import wire
from lambda_calls.aws.clients import Account
from lambda_calls.aws.objects import Objects
from lambda_calls.errors import (
    ConfigurationError,
    CredentialsError,
    LambdaCallError,
    UnreachableError,
)
from lambda_calls.session import Process
from secret_keys import SECRET_KEY, SESSION_TOKEN

ACCOUNT = Account(region="eu-west-1")


def bucket_of(process: Process, account: Account = ACCOUNT) -> Objects:
    origins = {"s3_bucket_name": "/p/samconfig.toml"}
    return Objects(process.clients, account, "bucket", origins)


def test_objects(aws: AWS, process: Process) -> None:
    """Put, exists, get, fetch and delete are what they say."""
    bucket = bucket_of(process)
    blob = wire.blob(b"data")
    assert not bucket.exists(blob.key)
    assert bucket.get(blob.key) is None
    bucket.put(blob.key, b"data")
    assert bucket.exists(blob.key)
    assert bucket.get(blob.key) == b"data"
    assert wire.decode(bucket.fetch(blob)) == b"data"
    aws.objects[f"/bucket/{blob.key}"] = b"dat4"
    with pytest.raises(wire.DigestMismatch):
        bucket.fetch(blob)
    bucket.delete(blob.key)
    assert not aws.objects


@pytest.mark.parametrize("size", [1, 9_000_000, 20_000_001])
def test_fetch_verifies(aws: AWS, process: Process, size: int) -> None:
    """A blob is had whole, in parts if it is large; any other bytes or size are refused."""
    data = random.Random(size).randbytes(size)
    blob, bucket = wire.blob(data), bucket_of(process)
    path = f"/bucket/{blob.key}"
    aws.objects[path] = data
    assert wire.decode(bucket.fetch(blob)) == data
    for other, said in (
        (data + b"x", f"has .* bytes, expected {size}"),
        (data[:-1], f"has {size - 1} bytes, expected {size}"),
        (bytes([data[0] ^ 1]) + data[1:], "has the sha256"),
    ):
        aws.objects[path] = other
        with pytest.raises(wire.DigestMismatch, match=said):
            bucket.fetch(blob)


def test_transfer_that_breaks_off(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the transfer library gives up is an error of ours, that names the bucket."""
    from s3transfer.exceptions import RetriesExceededError

    def give_up(*_: Any, **__: Any) -> None:
        raise RetriesExceededError(ConnectionResetError("reset"))

    s3 = process.clients.client(ACCOUNT, "s3")
    monkeypatch.setattr(s3, "download_fileobj", give_up)
    with pytest.raises(UnreachableError, match=r"on bucket bucket got no answer.*run again"):
        bucket_of(process).fetch(wire.Blob(key="blobs/x", size=9_000_000, sha256="0" * 64))


def test_what_is_too_large_is_not_read(aws: AWS, process: Process) -> None:
    """Whoever fills the bucket does not fill the server's memory."""
    aws.objects["/bucket/key"] = b"four"
    assert bucket_of(process).get("key", 4) == b"four"
    with pytest.raises(ValueError, match="S3 object key has 4 bytes"):
        bucket_of(process).get("key", 3)


@pytest.mark.parametrize("call", ["exists", "get", "put", "delete"])
def test_denied_object_is_no_missing_object(aws: AWS, process: Process, call: str) -> None:
    """A 403 names the action that the policy lacks; it never means "not there yet"."""
    aws.denied |= {"HEAD", "GET", "PUT", "DELETE"}
    action = {"exists": "GetObject", "get": "GetObject", "put": "PutObject"}
    said = f"Access denied: s3:{action.get(call, 'DeleteObject')} on bucket bucket"
    with pytest.raises(ConfigurationError, match=said):
        getattr(bucket_of(process), call)("key", *([b"x"] if call == "put" else []))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "NoSuchBucket", r"no S3 bucket bucket \(from /p/samconfig.toml\).*sam deploy"),
        (400, "AuthorizationHeaderMalformed", "bucket bucket .* is not in eu-west-1.*region="),
        (400, "ExpiredToken", "ExpiredToken.*Renew them"),
        (403, "InvalidAccessKeyId", "InvalidAccessKeyId.*Check them"),
        (400, "StrangeCode", "s3:PutObject on bucket bucket failed, and nothing ran: StrangeCode"),
    ],
)
def test_refused_object(aws: AWS, process: Process, status: int, code: str, said: str) -> None:
    """A bucket that is missing or elsewhere, and credentials, have sentences of their own."""
    aws.denied, aws.refusal = {"PUT"}, (status, code)
    with pytest.raises(LambdaCallError, match=said):
        bucket_of(process).put("key", b"x")


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidToken", "AccessDenied"])
def test_secret_is_in_no_message(
    aws: AWS, process: Process, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """S3 repeats token and signature beside its words: no error, with all that it came from, and
    no log holds them."""
    sent: list[str] = [SECRET_KEY, SESSION_TOKEN]

    def repeats(headers: Any) -> str:
        signature = headers["Authorization"].rpartition("Signature=")[2]
        token = headers["X-Amz-Security-Token"]
        sent.append(signature)
        return (
            f"<Message>no</Message><SignatureProvided>{signature}</SignatureProvided>"
            f"<CanonicalRequest>x-amz-security-token:{token}</CanonicalRequest>"
            f"<Token-0>{token}</Token-0>"
        )

    aws.denied, aws.refusal, aws.refusal_says = {"PUT"}, (403, code), repeats
    with (
        caplog.at_level("DEBUG", logger="lambda_calls"),
        pytest.raises(ConfigurationError) as refusal,
    ):
        bucket_of(process).put("key", b"x")
    told = "".join(traceback.format_exception(refusal.value)) + caplog.text
    assert code in told and len(sent) > 2
    assert not secret_keys.held_in(told, sent)


def test_storage_that_does_not_answer(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 that cannot be reached is a matter of the network, not of credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableError, match=r"on bucket bucket got no answer") as error:
        bucket_of(process).put("key", b"x")
    assert "credentials" not in str(error.value)


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_storage_that_fails_for_now(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """What S3 answers on a bad day may pass."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    aws.denied, aws.refusal = {"PUT"}, (status, code)
    with pytest.raises(UnreachableError, match=code):
        bucket_of(process).put("key", b"x")


def test_clock_that_is_off(aws: AWS, process: Process) -> None:
    """A machine that slept is told its clock, not a policy."""
    aws.denied, aws.refusal = {"PUT"}, (403, "RequestTimeTooSkewed")
    with pytest.raises(ConfigurationError, match=r"its clock is off by \d+ s"):
        bucket_of(process).put("key", b"x")


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((403, "RequestTimeTooSkewed"), r"its clock is off by \d+ s"),
        ((400, "ExpiredToken"), "Renew them"),
        ((403, "InvalidAccessKeyId"), "Check them"),
        ((403, "AccessDenied"), "Access denied: s3:GetObject"),
    ],
)
def test_refusal_to_say_whether_an_object_exists(
    aws: AWS, process: Process, refusal: tuple[int, str], said: str
) -> None:
    """The answer to HEAD has no words, so they are asked for: else each refusal would be one of
    the policy's."""
    aws.denied, aws.refusal = {"HEAD", "GET"}, refusal
    with pytest.raises(ConfigurationError, match=said):
        bucket_of(process).exists("key")


def test_renewed_credentials_are_used_at_once(
    aws: AWS, process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were renewed in their file are read again when the old ones are refused; the
    request that found out is made again."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    keys = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\n"
    path.write_text(keys.format("OLD"))
    bucket = bucket_of(process, Account(region="eu-west-1", credentials_file=str(path)))
    bucket.put("first", b"x")
    aws.refused_keys = {"OLD"}
    with pytest.raises(CredentialsError, match="Renew them"):
        bucket.put("second", b"x")
    path.write_text(keys.format("NEW"))
    bucket.put("third", b"x")
    assert sorted(aws.objects) == ["/bucket/first", "/bucket/third"]


def test_upload_is_whole_at_the_second_try(aws: AWS, process: Process, tmp_path: Path) -> None:
    """A file that an earlier try has read is sent from its beginning."""
    path = tmp_path / "data"
    path.write_bytes(b"four")
    with path.open("rb") as file:
        file.read()
        bucket_of(process).upload("key", file, 4)
    assert aws.objects["/bucket/key"] == b"four"
