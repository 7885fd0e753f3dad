"""Transport: each refusal of AWS's becomes the error that says what to do."""

import asyncio
import base64
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_server
import pytest
from aws_server import AWS, Answer
from covalent_awslambda_plugin import clients, transport, wire
from covalent_awslambda_plugin.clients import Account
from covalent_awslambda_plugin.errors import (
    AWSLambdaExecutorError,
    ConfigurationError,
    ResourceLimitError,
)
from covalent_awslambda_plugin.invoke import ConnectionLost, Unreachable
from covalent_awslambda_plugin.transport import Reply, Throttled, Transport

ORIGIN = {"kind": "samconfig", "file": "/p/samconfig.toml", "environment": "prod"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AWS]:
    with aws_server.running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        clients.forget_clients()
        transport._without_log_tail.clear()
        yield server
        clients.forget_clients()


def made(**account: str) -> Transport:
    return Transport(
        Account(region="eu-west-1", **account),
        function="fn",
        bucket="bucket",
        origins={"function_name": ORIGIN, "s3_bucket_name": ORIGIN},
    )


def invoked(transport: Transport) -> Reply:
    return asyncio.run(transport.invoke(b"{}"))


def test_invocation_brings_payload_and_log(aws: AWS) -> None:
    """One synchronous request brings the answer, its error and the log's tail."""
    seen: list[Any] = []

    def script(event: dict[str, Any]) -> Answer:
        seen.append(event)
        return Answer(payload={"ok": 1}, log="REPORT …", error="Unhandled")

    aws.script = script
    reply = asyncio.run(made().invoke(b'{"x":1}'))
    assert (reply.payload, reply.function_error) == (b'{"ok": 1}', "Unhandled")
    assert reply.log_tail == "REPORT …"
    assert seen[0]["payload"] == b'{"x":1}'
    assert seen[0]["headers"]["X-Amz-Log-Type"] == "Tail"
    assert len(aws.requests) == 1


def test_endpoint_without_log_tails_is_asked_once(aws: AWS) -> None:
    """`sam local start-lambda` refuses LogType=Tail: the executor does without, and remembers."""
    tails: list[bool] = []

    def script(event: dict[str, Any]) -> Answer:
        tails.append("X-Amz-Log-Type" in event["headers"])
        if tails[-1]:
            return Answer(status=501, code="NotImplementedLocally log-type")
        return Answer(payload=1)

    aws.script = script
    monkey = made()
    # SAM names the header in its message; the server here puts the code into the message.
    assert invoked(monkey).payload == b"1"
    assert invoked(monkey).payload == b"1"
    assert tails == [True, False, False]


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (429, "TooManyRequestsException", Throttled, "TooManyRequests"),
        (409, "ResourceConflictException", Throttled, "ResourceConflict"),
        (502, "ENILimitReachedException", Throttled, "ENILimit"),
        (500, "ServiceException", ConnectionLost, "answered 500"),
        (
            404,
            "ResourceNotFoundException",
            ConfigurationError,
            r"no Lambda function fn \(from /p/samconfig.toml\) in eu-west-1.*"
            "sam deploy --config-env prod",
        ),
        (
            403,
            "AccessDeniedException",
            ConfigurationError,
            "Access denied: lambda:InvokeFunction on function fn.*ExecutorPolicyArn",
        ),
        (403, "ExpiredTokenException", ConfigurationError, "Renew them"),
        (403, "UnrecognizedClientException", ConfigurationError, "Check them"),
        (413, "RequestTooLargeException", ResourceLimitError, "too large"),
        (400, "InvalidRequestContentException", AWSLambdaExecutorError, "InvalidRequestContent"),
    ],
)
def test_refused_invocation(
    aws: AWS, status: int, code: str, kind: type[Exception], said: str
) -> None:
    """Each refusal has its class and names the object, the cause and the next step; it is asked
    once only."""
    aws.script = lambda event: Answer(status=status, code=code)
    with pytest.raises(kind, match=said.replace("(", r"\(").replace(")", r"\)")):
        invoked(made())
    assert len(aws.requests) == 1


def test_lost_connection_is_not_repeated(aws: AWS) -> None:
    """A connection that breaks after the request may have run the electron: no second try."""
    aws.script = lambda event: Answer(hang_up=True)
    with pytest.raises(ConnectionLost):
        invoked(made())
    assert len(aws.requests) == 1


def test_refused_connection(monkeypatch: pytest.MonkeyPatch, aws: AWS) -> None:
    """Nobody listening is told apart from a lost connection."""
    with pytest.raises(Unreachable, match="Could not connect"):
        invoked(made(endpoint_url="http://127.0.0.1:9"))


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, aws: AWS) -> None:
    """Without credentials the message says where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match=r"credentials_file=.*Covalent's server runs"):
        invoked(made())


def test_local_endpoint_needs_no_credentials(monkeypatch: pytest.MonkeyPatch, aws: AWS) -> None:
    """A laptop without an AWS account may invoke `sam local start-lambda`."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.script = lambda event: Answer(payload=1)
    assert invoked(made(endpoint_url=aws.url)).payload == b"1"


def test_unknown_profile(aws: AWS) -> None:
    """A profile that does not exist is named."""
    with pytest.raises(ConfigurationError, match="profile 'nobody' is not in"):
        invoked(made(profile="nobody"))


def test_credentials_file_and_profile_are_used(aws: AWS, tmp_path: Path) -> None:
    """The given file and profile sign the request, without touching the environment."""
    import os

    before = dict(os.environ)
    path = tmp_path / "credentials"
    path.write_text("[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = s\n")
    signed: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        signed.append(event["headers"]["Authorization"])
        return Answer(payload=1)

    aws.script = script
    invoked(made(profile="lab", credentials_file=str(path)))
    assert "Credential=LABKEY/" in signed[0]
    assert dict(os.environ) == before


def test_renewed_credentials_are_read(aws: AWS, tmp_path: Path) -> None:
    """After a refusal, the credentials file is read again: no restart of the server is needed."""
    path = tmp_path / "credentials"
    signed: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        signed.append(event["headers"]["Authorization"])
        if "OLDKEY" in signed[-1]:
            return Answer(status=403, code="ExpiredTokenException")
        return Answer(payload=1)

    def write(key: str) -> None:
        path.write_text(f"[lab]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    aws.script = script
    write("OLDKEY")
    with pytest.raises(ConfigurationError, match="Renew"):
        invoked(made(profile="lab", credentials_file=str(path)))
    write("NEWKEY")
    assert invoked(made(profile="lab", credentials_file=str(path))).payload == b"1"


@pytest.mark.parametrize("url", ["http://", "not a url"])
def test_nonsense_endpoint(aws: AWS, url: str) -> None:
    """An endpoint that is no address is a matter of configuration."""
    with pytest.raises(ConfigurationError, match="could not be made"):
        invoked(made(endpoint_url=url))


def test_clients_are_shared(aws: AWS) -> None:
    """Executors of the same account use one client; another profile has its own."""
    assert clients.client(Account(region="r"), "s3") is transport.client(Account(region="r"), "s3")
    assert clients.client(Account(region="r"), "s3") is not transport.client(
        Account(region="q"), "s3"
    )


def test_objects(aws: AWS) -> None:
    """Put, exists, get, fetch and delete are what they say."""
    bucket = made()
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
def test_fetch_verifies(aws: AWS, size: int) -> None:
    """A blob is had whole, in parts if it is large; any other bytes or size are refused."""
    data = random.Random(size).randbytes(size)
    blob, bucket = wire.blob(data), made()
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


def test_transfer_that_breaks_off(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the transfer library gives up is an error of ours, that names the bucket."""
    from s3transfer.exceptions import RetriesExceededError

    def give_up(*_: Any, **__: Any) -> None:
        raise RetriesExceededError(ConnectionResetError("reset"))

    s3 = clients.client(made().account, "s3")
    monkeypatch.setattr(s3, "download_fileobj", give_up)
    with pytest.raises(AWSLambdaExecutorError, match=r"bucket bucket broke off.*run the electron"):
        made().fetch(wire.Blob(key="blobs/x", size=9_000_000, sha256="0"))


def test_what_is_too_large_is_not_read(aws: AWS) -> None:
    """Whoever fills the bucket does not fill the server's memory."""
    aws.objects["/bucket/key"] = b"four"
    assert made().get("key", 4) == b"four"
    with pytest.raises(ValueError, match="S3 object key has 4 bytes"):
        made().get("key", 3)


@pytest.mark.parametrize("call", ["exists", "get", "put", "delete"])
def test_denied_object_is_no_missing_object(aws: AWS, call: str) -> None:
    """A 403 names the action that the policy lacks; it never means "not there yet"."""
    aws.denied |= {"HEAD", "GET", "PUT", "DELETE"}
    action = {"exists": "GetObject", "get": "GetObject", "put": "PutObject"}
    said = f"Access denied: s3:{action.get(call, 'DeleteObject')} on bucket bucket"
    with pytest.raises(ConfigurationError, match=said):
        getattr(made(), call)("key", *([b"x"] if call == "put" else []))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "NoSuchBucket", r"no S3 bucket bucket \(from /p/samconfig.toml\).*sam deploy"),
        (400, "AuthorizationHeaderMalformed", "bucket bucket .* is not in eu-west-1.*region="),
        (400, "ExpiredToken", "ExpiredToken.*Renew them"),
        (403, "InvalidAccessKeyId", "InvalidAccessKeyId.*Check them"),
        (400, "StrangeCode", "s3:PutObject on bucket bucket failed: StrangeCode"),
    ],
)
def test_refused_object(aws: AWS, status: int, code: str, said: str) -> None:
    """A bucket that is missing or elsewhere, and credentials, have sentences of their own."""
    aws.denied, aws.refusal = {"PUT"}, (status, code)
    with pytest.raises(AWSLambdaExecutorError, match=said):
        made().put("key", b"x")


def test_secret_is_in_no_message(aws: AWS) -> None:
    """Errors quote AWS's words, never the key."""
    aws.script = lambda event: Answer(status=403, code="InvalidSignatureException")
    with pytest.raises(ConfigurationError) as refusal:
        invoked(made())
    assert "secret" not in str(refusal.value)
    assert base64.b64encode(b"secret").decode() not in str(refusal.value)
