"""Invocations of a session: what each answer of Lambda's becomes, and what is shared."""

import asyncio
import contextlib
import gc
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any

import pytest
import secret_keys
from aws_server import AWS, Answer
from botocore.exceptions import EndpointConnectionError
from calls import call, target
from lambda_calls import messages, session
from lambda_calls.aws import quota
from lambda_calls.aws.clients import Account
from lambda_calls.aws.invoke import InvokeApi
from lambda_calls.aws.refusals import ConnectionLost, NotNow, Unreachable
from lambda_calls.errors import (
    ConfigurationError,
    CredentialsError,
    LambdaCallError,
    ResourceLimitError,
    UnreachableError,
)
from lambda_calls.messages import Advice
from lambda_calls.session import InvocationResponse, Process, Session, Target
from secret_keys import SECRET_KEY, SESSION_TOKEN

ORIGINS = {"function_name": "/p/samconfig.toml", "s3_bucket_name": "/p/samconfig.toml"}


def made(process: Process, **account: str) -> Target:
    return target(account=Account(region="eu-west-1", **account), origins=ORIGINS)


def invoked(process: Process, payload: bytes = b"{}", **account: str) -> InvocationResponse:
    async def once() -> InvocationResponse:
        return await process.session(made(process, **account)).invoke(payload)

    return asyncio.run(once())


def test_invocation_brings_payload_and_log(aws: AWS, process: Process) -> None:
    """One synchronous request brings the answer, its error and the log's tail."""
    seen: list[Any] = []

    def script(event: dict[str, Any]) -> Answer:
        seen.append(event)
        return Answer(payload={"ok": 1}, log="REPORT …", error="Unhandled")

    aws.script = script
    answer = invoked(process, b'{"x":1}')
    assert (answer.payload, answer.function_error) == (b'{"ok": 1}', "Unhandled")
    assert answer.log_tail == "REPORT …"
    assert seen[0]["payload"] == b'{"x":1}'
    assert seen[0]["headers"]["X-Amz-Log-Type"] == "Tail"
    assert len(aws.requests) == 1


def test_endpoint_without_log_tails_is_asked_once(aws: AWS, process: Process) -> None:
    """`sam local start-lambda` refuses LogType=Tail: the session does without, and remembers."""
    tails: list[bool] = []

    def script(event: dict[str, Any]) -> Answer:
        tails.append("X-Amz-Log-Type" in event["headers"])
        if tails[-1]:
            return Answer(status=501, code="NotImplementedLocally", message="no log-type here")
        return Answer(payload=1)

    aws.script = script

    async def twice() -> list[bytes]:
        session = process.session(made(process))
        return [(await session.invoke(b"{}")).payload for _ in range(2)]

    assert asyncio.run(twice()) == [b"1", b"1"]
    assert tails == [True, False, False]


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (429, "TooManyRequestsException", NotNow, "TooManyRequests"),
        (500, "ServiceException", ConnectionLost, "answered 500"),
        (
            404,
            "ResourceNotFoundException",
            ConfigurationError,
            r"no Lambda function fn \(from /p/samconfig.toml\) in eu-west-1.*sam deploy",
        ),
        (
            403,
            "AccessDeniedException",
            ConfigurationError,
            r"Access denied: lambda:InvokeFunction on function fn.*ExecutorPolicyArn",
        ),
        (403, "ExpiredTokenException", CredentialsError, "Renew them"),
        (403, "UnrecognizedClientException", CredentialsError, "Check them"),
        (413, "RequestTooLargeException", ResourceLimitError, "too large"),
        (400, "InvalidRequestContentException", LambdaCallError, "InvalidRequestContent"),
        (502, "KMSDisabledException", ConfigurationError, r"cannot run function fn.*did not run"),
    ],
)
def test_refused_invocation(
    aws: AWS, process: Process, status: int, code: str, kind: type[Exception], said: str
) -> None:
    """Each refusal names the object, the cause and the next step; it is asked once only."""
    aws.script = lambda event: Answer(status=status, code=code)
    with pytest.raises(kind, match=said):
        invoked(process)
    assert len(aws.requests) == 1


def test_reason_of_a_throttling_is_read(aws: AWS, process: Process) -> None:
    """The reason that Invoke's model adds to the error comes through."""
    aws.script = lambda event: Answer(
        status=429, code="TooManyRequestsException", reason="CallerRateLimitExceeded"
    )
    with pytest.raises(NotNow) as refusal:
        invoked(process)
    assert refusal.value.too_fast


def test_missing_function_of_an_environment(aws: AWS, process: Process) -> None:
    """The remedy deploys the environment that was asked for."""
    aws.script = lambda event: Answer(status=404, code="ResourceNotFoundException")

    async def once() -> None:
        to = target(advice=Advice(option=" --config-env prod"))
        await process.session(to).invoke(b"{}")

    with pytest.raises(ConfigurationError, match=r"sam build && sam deploy --config-env prod\)"):
        asyncio.run(once())


def test_lost_connection_is_not_repeated(aws: AWS, process: Process) -> None:
    """A connection that breaks after the request may have run the call: no second try."""
    aws.script = lambda event: Answer(hang_up=True)
    with pytest.raises(ConnectionLost):
        invoked(process)
    assert len(aws.requests) == 1


def test_refused_connection(aws: AWS, process: Process) -> None:
    """Nobody listening is told apart from a lost connection."""
    with pytest.raises(Unreachable, match="Could not connect"):
        invoked(process, endpoint_url="http://127.0.0.1:9")


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, aws: AWS, process: Process) -> None:
    """Without credentials the message says where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"credentials_file=.*aws sso login"):
        invoked(process)


def test_local_endpoint_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch, aws: AWS, process: Process
) -> None:
    """A laptop without an AWS account may invoke `sam local start-lambda`."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.script = lambda event: Answer(payload=1)
    assert invoked(process, endpoint_url=aws.url).payload == b"1"


def test_unknown_profile(aws: AWS, process: Process) -> None:
    """A profile that does not exist is named."""
    with pytest.raises(ConfigurationError, match="profile 'nobody' is not in"):
        invoked(process, profile="nobody")


def test_certificates_that_do_not_exist(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in AWS_CA_BUNDLE where nothing is names the path and the variable."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca\.pem do not exist.*AWS_CA_BUNDLE"):
        invoked(process)


@pytest.mark.parametrize("kind", ["empty", "folder"])
def test_certificates_that_cannot_be_used(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """A path in AWS_CA_BUNDLE that holds no certificates is named, with the variable."""
    path = tmp_path / "ca.pem"
    path.mkdir() if kind == "folder" else path.write_text("nothing here\n")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    with pytest.raises(ConfigurationError, match=r"ca\.pem cannot be used: .*AWS_CA_BUNDLE"):
        call(process, len, "x", to=made(process, endpoint_url="https://127.0.0.1:9"))


ROLE = (
    "[profile cross]\nrole_arn = arn:aws:iam::000000000000:role/other\n"
    "source_profile = base\n[profile base]\naws_access_key_id = K\n"
    "aws_secret_access_key = s\n"
)


@pytest.mark.leaves("botocore's own client for STS is never closed")
def test_keys_that_cannot_be_fetched_for_now(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An outage while a role's keys are fetched is waited for, as one of Lambda's endpoint is; for
    S3 alone it is an error of the network."""
    (tmp_path / "config").write_text(ROLE)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(session, "_CONNECT_WITHIN", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    to = made(process, profile="cross")
    with pytest.raises(UnreachableError, match=r"no keys to sign with.* did not run"):
        call(process, len, "x", to=to)
    with pytest.raises(UnreachableError, match="got no answer"):
        process.objects(to).get("key")
    away = EndpointConnectionError(endpoint_url="x", error="y")
    assert isinstance(messages.not_signed(away, "cross"), UnreachableError)  # S3's renewed keys
    assert aws.posts == 0


@pytest.mark.leaves("botocore's own client for STS is never closed")
def test_role_that_may_not_be_assumed(aws: AWS, process: Process, tmp_path: Path) -> None:
    """STS's refusal is about the role, and names the profile that asks for it."""
    path = tmp_path / "config"
    path.write_text(ROLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(path))
        with pytest.raises(CredentialsError, match=r"role of profile 'cross' could not be assum"):
            invoked(process, profile="cross")  # the stand-in knows no STS and answers 404


def test_credentials_file_and_profile_are_used(aws: AWS, process: Process, tmp_path: Path) -> None:
    """The given file and profile sign the request, without touching the environment."""
    import os

    before = dict(os.environ)
    path = tmp_path / "credentials"
    path.write_text("[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = s\n")
    keys: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        keys.append(event["headers"]["Authorization"])
        return Answer(payload=1)

    aws.script = script
    invoked(process, profile="lab", credentials_file=str(path))
    assert "Credential=LABKEY/" in keys[0]
    assert dict(os.environ) == before


def test_renewed_credentials_are_used_at_once(
    aws: AWS, process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were renewed in their file sign the very call whose old ones were refused, and
    those of all others that are under way; keys that are not renewed are asked for in words."""
    path = tmp_path / "credentials"
    keys = "[lab]\naws_access_key_id = {}\naws_secret_access_key = s\n"
    path.write_text(keys.format("OLD"))
    to = made(process, profile="lab", credentials_file=str(path))
    aws.script = lambda event: Answer(payload=1)

    async def scenario() -> list[bytes]:
        session = process.session(to)
        await session.invoke(b"{}")
        aws.refused_keys = {"OLD"}
        with pytest.raises(CredentialsError, match="Renew them for profile 'lab'"):
            await session.invoke(b"{}")
        path.write_text(keys.format("NEW"))
        answers = await asyncio.gather(*[session.invoke(b"{}") for _ in range(20)])
        return [answer.payload for answer in answers]

    pools: list[InvokeApi] = []

    def counted(*args: Any) -> InvokeApi:
        pools.append(InvokeApi(*args))
        return pools[-1]

    monkeypatch.setattr("lambda_calls.session.InvokeApi", counted)
    assert asyncio.run(scenario()) == [b"1"] * 20
    assert len(pools) == 1  # what was open goes on, and nothing is left unclosed


@pytest.mark.parametrize("url", ["http://", "not a url"])
def test_nonsense_endpoint(aws: AWS, process: Process, url: str) -> None:
    """An endpoint that is no address is a matter of configuration."""
    with pytest.raises(ConfigurationError, match="could not be made"):
        invoked(process, endpoint_url=url)


# What AWS says of a signature: some of it repeats the request.
REPEATS = {
    "InvalidSignatureException": (
        "The request signature we calculated does not match the signature you provided.\n\n"
        "The Canonical String for this request should have been\n'POST\n/fn\n\n"
        "x-amz-security-token:{token}\n'\n\nThe String-to-Sign should have been\n'AWS4'\n"
    ),
    "IncompleteSignature": "'x' is no valid key=value pair. Authorization={authorization}",
    "UnrecognizedClientException": "headers: {{'X-Amz-Security-Token': '{token}', 'x': 1}}",
    "MissingAuthenticationTokenException": "Signature={signature}, X-Amz-Security-Token={token}",
}


@pytest.mark.parametrize("code", REPEATS)
def test_secret_is_in_no_message(
    aws: AWS, process: Process, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Whatever of the request AWS repeats, no error, with all that it came from, no log and no
    repr holds the secret key, the session token or the signature."""
    sent: dict[str, str] = {}

    def script(event: dict[str, Any]) -> Answer:
        authorization = event["headers"]["Authorization"]
        sent.update(
            token=event["headers"]["X-Amz-Security-Token"],
            authorization=authorization,
            signature=authorization.rpartition("Signature=")[2],
        )
        return Answer(status=403, code=code, message=REPEATS[code].format(**sent))

    aws.script = script
    with (
        caplog.at_level("DEBUG", logger="lambda_calls"),
        pytest.raises(CredentialsError) as refusal,
    ):
        call(process, abs, -7)
    assert sent["token"] == SESSION_TOKEN and len(sent["signature"]) == 64
    signing = process.clients.signing(target().account)
    owners = [*vars(process).values(), signing, vars(signing), target()]
    told = "".join(traceback.format_exception(refusal.value))
    told += "\n".join([repr(refusal.value), caplog.text, *map(repr, owners)])
    assert code in told
    assert not secret_keys.held_in(told, [SECRET_KEY, SESSION_TOKEN, sent["signature"]])


def test_clients_are_shared(process: Process) -> None:
    """Calls of the same account use one client; another region has its own."""
    client = process.clients.client
    assert client(Account(region="r"), "s3") is client(Account(region="r"), "s3")
    assert client(Account(region="r"), "s3") is not client(Account(region="q"), "s3")


def test_sessions_belong_to_a_loop_and_a_target(process: Process) -> None:
    """One target has one session in a loop, wherever its names came from; another loop another."""

    async def sessions() -> list[Session]:
        same = target(origins={"function_name": "elsewhere"})
        return [
            process.session(target()),
            process.session(same),
            process.session(target(bucket=None)),
        ]

    first, same, other = asyncio.run(sessions())
    assert first is same and first is not other
    assert asyncio.run(sessions())[0] is not first


def test_sessions_of_loops_that_have_ended_are_let_go(aws: AWS, process: Process) -> None:
    """A program that runs loop after loop holds the last one's session."""

    async def used() -> "weakref.ref[Session]":
        session = process.session(made(process))
        await session.invoke(b"{}")
        return weakref.ref(session)

    aws.script = lambda event: Answer(payload={"ok": 1})
    seen = [asyncio.run(used()) for _ in range(4)]
    gc.collect()
    assert [session() is None for session in seen[:-1]] == [True, True, True]


def test_many_at_once_open_one_set_of_connections(aws: AWS, process: Process) -> None:
    """However many calls begin at a time, credentials and connections are made once."""

    async def many() -> set[int]:
        session = process.session(target())
        return {id(api) for api in await asyncio.gather(*[session._opened() for _ in range(50)])}

    assert len(asyncio.run(many())) == 1


# -- the quota -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "elsewhere", "reserved", "known"),
    [
        (1000, 0, -1, 1000),
        (1000, 600, -1, 400),  # what other functions have reserved is theirs
        (1000, 0, 900, 900),  # more than the 100 that are left for others
        (None, 0, 50, 50),
        (1000, 600, None, 1000),  # it may have reserved them itself
        (None, 0, -1, None),
        (None, 0, None, None),
    ],
)
def test_concurrency_is_what_lambda_tells(
    aws: AWS,
    process: Process,
    account: int | None,
    elsewhere: int,
    reserved: int | None,
    known: int | None,
) -> None:
    """What the function has reserved, else what the account has for those that have not; what
    may not be asked is left out of it in silence."""
    aws.concurrency, aws.reserved_elsewhere, aws.reserved = account, elsewhere, reserved
    assert quota.concurrency(process.clients, Account(region="eu-west-1"), "fn") == known


def test_quota_of_another_account_is_not_ours(aws: AWS, process: Process) -> None:
    """A function by its ARN may be another account's, whose quota these credentials do not see."""
    aws.concurrency, aws.reserved_elsewhere, aws.reserved = 10, 0, None
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:fn"
    assert quota.concurrency(process.clients, Account(region="eu-west-1"), arn) is None


def test_quota_whose_answer_breaks_off_is_not_known(aws: AWS, process: Process) -> None:
    """botocore's error for that has a `response`, too: None."""
    aws.concurrency, aws.cuts_off = 10, True
    assert quota.concurrency(process.clients, Account(region="eu-west-1"), "fn") is None


def test_quota_is_not_asked_for_without_threads(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that gives no thread for the question keeps no call back."""

    def refused(work: object) -> None:
        raise ResourceLimitError("no thread")

    async def scenario() -> int:
        limiter = process.session(target()).limiter
        monkeypatch.setattr(process.requests, "begin", refused)
        async with contextlib.AsyncExitStack() as turns:
            for _ in range(12):
                await turns.enter_async_context(limiter.turn(0, 60))
        return 12

    assert asyncio.run(scenario()) == 12


def test_many_calls_have_the_quota_asked_for(aws: AWS, process: Process) -> None:
    """Many calls at a time have it asked for in the background, and held to; few do not."""
    aws.concurrency, aws.reserved = 12, -1

    async def scenario() -> tuple[list[str], int | None]:
        limiter = process.session(made(process)).limiter
        async with contextlib.AsyncExitStack() as turns:
            for _ in range(8):
                await turns.enter_async_context(limiter.turn(0, 60))
            unasked = list(aws.questions)
            await turns.enter_async_context(limiter.turn(0, 60))
            while limiter.allowed is None:
                await asyncio.sleep(0.01)
        return unasked, limiter.allowed

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == ([], 12)
    assert len(aws.questions) == 2


def test_quota_that_may_not_be_asked_for_is_no_failure(
    aws: AWS, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the credentials may not ask, calls go on as before, and nothing is said."""
    aws.script = lambda event: Answer(payload=1)
    answered, concurrency = threading.Event(), quota.concurrency

    def asked(*args: Any) -> int | None:
        try:
            return concurrency(*args)
        finally:
            answered.set()

    monkeypatch.setattr(quota, "concurrency", asked)

    async def scenario() -> list[bytes]:
        session = process.session(made(process))

        async def once() -> bytes:
            async with session.limiter.turn(0, 60):
                return (await session.invoke(b"{}")).payload

        answers = await asyncio.gather(*(once() for _ in range(20)))
        while not answered.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # what the thread leaves for the loop
        assert session.limiter.allowed is None and len(aws.questions) == 2
        return answers

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == [b"1"] * 20
