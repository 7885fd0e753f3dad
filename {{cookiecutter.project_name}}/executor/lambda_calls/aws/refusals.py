"""What AWS's refusals mean for a call: whether it ran, and whether asking again helps.

    Invoke's error ── code, reason, status ──► Meaning ──► an exception that says what to do next

The codes are those of Invoke in botocore's model (a test goes through all of them there) and those
of AWS's common errors:
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html
"""

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Characters of AWS's own words that are repeated: some answers repeat the whole request.
_REPEATED = 300


class Refused(Exception):
    """A request that certainly ran nothing, and may be made again."""


class Unreachable(Refused):
    """No connection came about."""


class NoDescriptors(Refused):
    """This process may open no further connection."""


class NotNow(Refused):
    """Lambda cannot run the call for now.

    Args:
        message: Lambda's words.
        too_fast: whether requests come too fast, rather than too many at a time.
        retry_after: seconds that Lambda asks to wait; 0: it does not say.
        reason: in a word, as Lambda has it (`CallerRateLimitExceeded`).
    """

    def __init__(
        self, message: str, *, too_fast: bool = False, retry_after: float = 0.0, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.too_fast, self.retry_after, self.reason = too_fast, retry_after, reason


class TooLate(NotNow):
    """Nobody was asked: there was no time left when its turn came."""


class CredentialsRefused(Exception):
    """AWS does not accept the keys that a request was signed with; nothing ran.

    Args:
        message: AWS's words.
        expired: whether they were good once.
    """

    def __init__(self, message: str, *, expired: bool) -> None:
        super().__init__(message)
        self.expired = expired


class ConnectionLost(Exception):
    """The connection broke after the request was sent: the call may have run.

    Args:
        said: how it broke.
        silence: seconds for which nothing had come from the other side by then, at least.
    """

    def __init__(self, said: object, silence: float = 0.0) -> None:
        super().__init__(said)
        self.silence = silence


class Meaning(enum.Enum):
    """What a refusal means."""

    TOO_MANY = "too many calls at a time: wait"
    TOO_FAST = "too many requests a second: slow down"
    NOT_READY = "the function is not ready: wait"
    EXPIRED = "the credentials were good once"
    INVALID = "the credentials are wrong"
    CLOCK = "this machine's clock is wrong"
    DENIED = "not allowed"
    NO_FUNCTION = "there is no such function"
    TOO_LARGE = "the request is too large"
    KEY = "the key that encrypts the function's environment cannot be used"
    NETWORK = "the function's VPC settings are wrong"
    FILES = "the function's file system cannot be mounted"
    CODE = "the function's code cannot be used: deploy it again"
    FINAL = "nothing ran, and nothing would"
    MAY_HAVE_RUN = "the call may have run"


INVOKE: Mapping[str, Meaning] = MappingProxyType(
    {
        "CodeArtifactUserDeletedException": Meaning.CODE,
        "CodeArtifactUserFailedException": Meaning.CODE,
        "CodeArtifactUserPendingException": Meaning.NOT_READY,
        "DurableExecutionAlreadyStartedException": Meaning.FINAL,
        "EC2AccessDeniedException": Meaning.NETWORK,
        "EC2ThrottledException": Meaning.NOT_READY,
        "EC2UnexpectedException": Meaning.NOT_READY,
        "EFSIOException": Meaning.MAY_HAVE_RUN,
        "EFSMountConnectivityException": Meaning.FILES,
        "EFSMountFailureException": Meaning.FILES,
        "EFSMountTimeoutException": Meaning.FILES,
        "ENILimitReachedException": Meaning.NOT_READY,
        "ENINotReadyException": Meaning.NOT_READY,
        "InvalidParameterValueException": Meaning.FINAL,
        "InvalidRequestContentException": Meaning.FINAL,
        "InvalidRuntimeException": Meaning.CODE,
        "InvalidSecurityGroupIDException": Meaning.NETWORK,
        "InvalidSubnetIDException": Meaning.NETWORK,
        "InvalidZipFileException": Meaning.CODE,
        "KMSAccessDeniedException": Meaning.KEY,
        "KMSDisabledException": Meaning.KEY,
        "KMSInvalidStateException": Meaning.KEY,
        "KMSNotFoundException": Meaning.KEY,
        "ModeNotSupportedException": Meaning.FINAL,
        "NoPublishedVersionException": Meaning.FINAL,
        "RecursiveInvocationException": Meaning.FINAL,
        "RequestTooLargeException": Meaning.TOO_LARGE,
        "ResourceConflictException": Meaning.NOT_READY,
        "ResourceNotFoundException": Meaning.NO_FUNCTION,
        "ResourceNotReadyException": Meaning.NOT_READY,
        "S3FilesMountConnectivityException": Meaning.FILES,
        "S3FilesMountFailureException": Meaning.FILES,
        "S3FilesMountTimeoutException": Meaning.FILES,
        "SerializedRequestEntityTooLargeException": Meaning.TOO_LARGE,
        "ServiceException": Meaning.MAY_HAVE_RUN,
        "ServiceQuotaExceededException": Meaning.FINAL,
        "SnapStartException": Meaning.CODE,
        "SnapStartNotReadyException": Meaning.NOT_READY,
        "SnapStartRegenerationFailureException": Meaning.CODE,
        "SnapStartTimeoutException": Meaning.NOT_READY,
        "SubnetIPAddressLimitReachedException": Meaning.NOT_READY,
        "TooManyRequestsException": Meaning.TOO_MANY,
        "UnsupportedMediaTypeException": Meaning.FINAL,
        # What emulators say:
        "ResourceNotFound": Meaning.NO_FUNCTION,
        "RequestEntityTooLargeException": Meaning.TOO_LARGE,
    }
)

# The reasons of TooManyRequestsException that are about requests a second. An account may make ten
# times as many of them as it may have executions at a time:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#api-requests
_TOO_FAST = frozenset(
    [
        "CallerRateLimitExceeded",
        "FunctionInvocationRateLimitExceeded",
        "ReservedFunctionInvocationRateLimitExceeded",
    ]
)

COMMON: Mapping[str, Meaning] = MappingProxyType(
    {
        "AccessDenied": Meaning.DENIED,
        "AccessDeniedException": Meaning.DENIED,
        "ExpiredToken": Meaning.EXPIRED,
        "ExpiredTokenException": Meaning.EXPIRED,
        "TokenRefreshRequired": Meaning.EXPIRED,
        "RequestExpired": Meaning.CLOCK,
        "RequestTimeTooSkewed": Meaning.CLOCK,
        "IncompleteSignature": Meaning.INVALID,
        "InvalidAccessKeyId": Meaning.INVALID,
        "InvalidClientTokenId": Meaning.INVALID,
        "InvalidSignatureException": Meaning.INVALID,
        "InvalidToken": Meaning.INVALID,
        "MissingAuthenticationToken": Meaning.INVALID,
        "MissingAuthenticationTokenException": Meaning.INVALID,
        "SignatureDoesNotMatch": Meaning.INVALID,
        "UnrecognizedClientException": Meaning.INVALID,
        "RequestThrottled": Meaning.TOO_FAST,
        "Throttling": Meaning.TOO_FAST,
        "ThrottlingException": Meaning.TOO_FAST,
    }
)

# What of a request nobody may read elsewhere.
_SECRET = re.compile(r"((?:security-token|signature)['\"]?[:=] *)[^\s,&]+", re.IGNORECASE)
# How Lambda words a clock that is off, under the code of a wrong signature.
_CLOCK = re.compile(r"signature (expired|not yet current)", re.IGNORECASE)
# A function whose creation or update failed answers as one that is still being updated.
_FAILED = re.compile(r"state:? *failed", re.IGNORECASE)


def meaning(error: Any) -> Meaning:
    """What a refused invocation means.

    Args:
        error: botocore's ClientError.
    """
    name = code(error)
    found = INVOKE.get(name) or common(error)
    if name == "TooManyRequestsException" and error.response.get("Reason") in _TOO_FAST:
        return Meaning.TOO_FAST
    if name == "ResourceConflictException" and _FAILED.search(_words(error)):
        return Meaning.CODE
    return found or _of_status(status(error))


def common(error: Any) -> Meaning | None:
    """What an error means that every service of AWS may answer; None if it is not one of them."""
    found = COMMON.get(code(error))
    if found in (Meaning.INVALID, Meaning.EXPIRED) and _CLOCK.search(_words(error)):
        return Meaning.CLOCK
    return found


def _of_status(number: int) -> Meaning:
    if number == 429:
        return Meaning.TOO_MANY
    if number == 403:
        return Meaning.DENIED
    if number == 404:
        return Meaning.NO_FUNCTION
    if number == 413:
        return Meaning.TOO_LARGE
    return Meaning.MAY_HAVE_RUN if number >= 500 or number == 408 else Meaning.FINAL


def is_away(error: Exception) -> bool:
    """Whether an error of botocore's is about the way to AWS, which may be there again soon."""
    from botocore import exceptions as botocores

    about_the_way = (botocores.ConnectionError, botocores.HTTPClientError)
    return isinstance(error, about_the_way) and not isinstance(error, botocores.SSLError)


def code(error: Any) -> str:
    """The error's code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def reason(error: Any) -> str:
    """The reason that Lambda adds to its code, or the code where there is none."""
    return str(error.response.get("Reason") or "") or code(error)


def status(error: Any) -> int:
    """HTTP's status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def message(error: Any) -> str:
    """AWS's own words, cut to what may be shown: some repeat the request with its token and its
    signature."""
    first = _SECRET.sub(r"\1[cut]", _words(error).strip().partition("\n")[0])
    return first if len(first) <= _REPEATED else f"{first[:_REPEATED]} […]"


def said(error: Any) -> str:
    """Code and words, as messages repeat them."""
    return f"{code(error)}: {message(error)}"


def retry_after(error: Any) -> float:
    """Seconds that AWS asks to wait; 0 if it does not say."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


def _words(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or str(error)
