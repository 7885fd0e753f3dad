"""What AWS's refusals mean: every error of Invoke in botocore's own model, and unknown ones."""

from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from lambda_calls import messages
from lambda_calls.aws import refusals
from lambda_calls.aws.refusals import ConnectionLost, CredentialsRefused, Meaning, NotNow
from lambda_calls.errors import ConfigurationError, LambdaCallError, ResourceLimitError

INVOKE = botocore.session.get_session().get_service_model("lambda").operation_model("Invoke")
SHAPES = {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in INVOKE.error_shapes}

# How each meaning is raised, and the words without which it would not help.
RAISED: dict[Meaning, tuple[type[Exception], str]] = {
    Meaning.TOO_MANY: (NotNow, ""),
    Meaning.TOO_FAST: (NotNow, ""),
    Meaning.NOT_READY: (NotNow, ""),
    Meaning.EXPIRED: (CredentialsRefused, ""),
    Meaning.INVALID: (CredentialsRefused, ""),
    Meaning.CLOCK: (ConfigurationError, "Set the clock"),
    Meaning.DENIED: (ConfigurationError, "ExecutorPolicyArn"),
    Meaning.NO_FUNCTION: (ConfigurationError, "Deploy it there"),
    Meaning.TOO_LARGE: (ResourceLimitError, "too large"),
    Meaning.KEY: (ConfigurationError, "the key that encrypts"),
    Meaning.NETWORK: (ConfigurationError, "VPC settings"),
    Meaning.FILES: (ConfigurationError, "file system"),
    Meaning.CODE: (ConfigurationError, "deploy it again"),
    Meaning.FINAL: (LambdaCallError, "nothing ran"),
    Meaning.MAY_HAVE_RUN: (ConnectionLost, ""),
}


def error(code: str, status: int = 400, message: str = "words", **more: Any) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": more.pop("headers", {})},
        **more,
    }
    return ClientError(answer, "Invoke")


def raised(refusal: ClientError) -> Exception:
    return messages.of_refused_invocation(
        refusal, call="call", function="fn", region="eu-west-1", option=""
    )


@pytest.mark.parametrize("code", SHAPES)
def test_every_error_of_botocores_model_has_a_meaning(code: str) -> None:
    """No answer that Invoke can give is left to a guess by its status."""
    assert code in refusals.INVOKE
    kind, words = RAISED[refusals.meaning(error(code, SHAPES[code]))]
    found = raised(error(code, SHAPES[code]))
    assert isinstance(found, kind) and words in str(found)


def test_only_what_may_have_run_is_called_so() -> None:
    """Two of Lambda's errors come after the call began, or may have; all others before."""
    unsure = [x for x in SHAPES if refusals.INVOKE[x] is Meaning.MAY_HAVE_RUN]
    assert sorted(unsure) == ["EFSIOException", "ServiceException"]


# What passes by itself, by what botocore's model and Lambda's API reference say of each:
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
PASSES = [
    "CodeArtifactUserPendingException",  # a function unused for weeks sleeps, and wakes up now
    "EC2ThrottledException",  # Lambda itself was throttled when it prepared the function's VPC
    "EC2UnexpectedException",  # the same, for any other reason of EC2's
    "ENILimitReachedException",  # no network interface is free now
    "ENINotReadyException",  # the network interface is being made
    "ResourceConflictException",  # the function is being updated
    "ResourceNotReadyException",  # the function is inactive, and is activated now
    "SnapStartNotReadyException",  # its snapshot is being made
    "SnapStartTimeoutException",  # its snapshot could not be restored in time
    "SubnetIPAddressLimitReachedException",  # no address of the subnet is free now
    "TooManyRequestsException",
]


def test_what_passes_is_waited_for_and_nothing_else() -> None:
    waited_for = [x for x in SHAPES if isinstance(raised(error(x, SHAPES[x])), NotNow)]
    assert sorted(waited_for) == PASSES


def test_what_is_the_users_to_mend_says_so() -> None:
    """Keys, networks, file systems, code: each is said with what to look at, and tried once."""
    to_mend = [x for x in SHAPES if type(raised(error(x, SHAPES[x]))) is ConfigurationError]
    kinds = (
        "KMS",
        "EFSMount",
        "S3FilesMount",
        "Invalid",
        "EC2Access",
        "CodeArtifact",
        "SnapStart",
    )
    assert {x for x in SHAPES if x.startswith(kinds)} - {*PASSES, *to_mend} == {
        "InvalidParameterValueException",  # of the request, not of the function
        "InvalidRequestContentException",
    }


@pytest.mark.parametrize(
    ("reason", "too_fast"),
    [
        ("ConcurrentInvocationLimitExceeded", False),
        ("ReservedFunctionConcurrentInvocationLimitExceeded", False),
        ("ConcurrentSnapshotCreateLimitExceeded", False),
        ("FunctionInvocationRateLimitExceeded", True),
        ("ReservedFunctionInvocationRateLimitExceeded", True),
        ("CallerRateLimitExceeded", True),
    ],
)
def test_reasons_of_too_many_requests(reason: str, too_fast: bool) -> None:
    """Too many at a time and too many a second want different reactions."""
    found = raised(error("TooManyRequestsException", 429, Reason=reason))
    assert isinstance(found, NotNow) and found.too_fast is too_fast


def test_the_reasons_are_botocores() -> None:
    """The six reasons above are all that there are."""
    shape = next(x for x in INVOKE.error_shapes if x.name == "TooManyRequestsException")
    assert len(shape.members["Reason"].enum) == 6
    assert set(shape.members["Reason"].enum) > refusals._TOO_FAST


def test_the_time_to_wait_is_read() -> None:
    """Lambda may say for how long; nonsense is no time."""
    for said, seconds in (("7", 7.0), ("soon", 0.0)):
        headers = {"retry-after": said}
        found = raised(error("TooManyRequestsException", 429, headers=headers))
        assert isinstance(found, NotNow) and found.retry_after == seconds


def test_a_function_that_failed_is_not_waited_for() -> None:
    """A function in state Failed answers as one that is being updated; its words differ."""
    pending = "The function is currently in the following state: Pending"
    failed = "The function is currently in the following state: Failed"
    assert isinstance(raised(error("ResourceConflictException", 409, pending)), NotNow)
    assert "deploy it again" in str(raised(error("ResourceConflictException", 409, failed)))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, LambdaCallError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (408, ConnectionLost),
        (413, ResourceLimitError),
        (429, NotNow),
        (500, ConnectionLost),
        (503, ConnectionLost),
    ],
)
def test_unknown_codes_are_taken_by_their_status(status: int, kind: type[Exception]) -> None:
    """A code that no model has is what HTTP says of it; a server's own failure may have run."""
    assert isinstance(raised(error("NewException", status)), kind)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestTimeTooSkewed", "too large"),
        ("InvalidSignatureException", "Signature expired: 20261126T1 is now earlier than 2"),
        ("SignatureDoesNotMatch", "Signature not yet current: x"),
    ],
)
def test_a_clock_that_is_off(code: str, message: str) -> None:
    """A laptop that slept is told its clock, not its credentials; by how much, where known."""
    headers = {"date": "Mon, 02 Nov 2020 10:00:00 GMT"}
    said = str(raised(error(code, 403, message, headers=headers)))
    assert "its clock is off by" in said and "ahead of AWS's" in said


def test_a_token_is_not_repeated() -> None:
    """AWS repeats the whole request where a signature is wrong; only its first line is shown."""
    words = (
        "The signature does not match. x-amz-security-token:FwoGZXIvYXdzEBY\n\n"
        "The Canonical String should have been\nx-amz-security-token:FwoGZXIvYXdzEBY"
    )
    said = str(raised(error("SignatureDoesNotMatch", 403, words)))
    assert "does not match" in said and "FwoGZ" not in said
    assert len(refusals.message(error("X", 400, "word " * 1000))) < 400
