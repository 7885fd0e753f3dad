"""Requests to Lambda and S3: clients, errors translated at this border. Knows no pickle.

Each session's clients are made once for the whole process: a new one costs 50-80 ms of CPU, and
its connections could not be reused.
"""

import base64
import io
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from . import wire
from .errors import AWSLambdaExecutorError, ConfigurationError, ResourceLimitError
from .gate import WIDEST

# Lambda's longest timeout is 900 s; the answer may need some more to travel.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
READ_TIMEOUT = 960
# Bytes below which an object is stored in one request.
_ONE_REQUEST = 8 * 1024 * 1024


class Throttled(Exception):
    """Lambda refused for lack of capacity: the electron certainly did not run."""


class Unreachable(Exception):
    """No connection came about: the electron certainly did not run."""


class ConnectionLost(Exception):
    """The connection broke after the request was sent: the electron may have run."""


@dataclass(frozen=True)
class Account:
    """Whose credentials, and where; the key of the process-wide clients.

    Args:
        region, profile: as in AWS's own configuration; empty: botocore's default chain.
        credentials_file: path of a shared credentials file; empty: the default one.
        endpoint_url: where Lambda's API is, if not at AWS (`sam local start-lambda`).
    """

    region: str = ""
    profile: str = ""
    credentials_file: str = ""
    endpoint_url: str = ""


@dataclass(frozen=True)
class Reply:
    """Lambda's answer to one invocation.

    Args:
        payload: the function's answer, JSON as bytes.
        function_error: `Handled` or `Unhandled` if the function failed; else empty.
        log_tail: the last 4 KB of the invocation's log; empty where there is none.
    """

    payload: bytes
    function_error: str = ""
    log_tail: str = ""


_lock = threading.Lock()


def session(account: Account) -> Any:
    """A new boto3 session for `account`.

    Raises:
        ConfigurationError: if the profile does not exist.
    """
    import boto3
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    core = botocore.session.Session(profile=account.profile or None)
    if account.credentials_file:
        path = os.path.expanduser(account.credentials_file)
        core.set_config_variable("credentials_file", path)
    try:
        return boto3.Session(botocore_session=core, region_name=account.region or None)
    except ProfileNotFound as error:
        raise ConfigurationError(
            f"The AWS profile {account.profile!r} is not in the credentials or config file"
            f"{' ' + account.credentials_file if account.credentials_file else ''}: {error}. "
            "Correct profile= or the file. (Covalent's server reads them as its own user.)"
        ) from error


def client(account: Account, service: str) -> Any:
    """The process's client for `service` (`lambda` or `s3`).

    Raises:
        ConfigurationError: if there is no such profile.
    """
    if service != "lambda":
        account = replace(account, endpoint_url="")
    with _lock:  # making clients is not thread-safe in boto3; using them is
        return _client(account, service)


@lru_cache(maxsize=64)
def _client(account: Account, service: str) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    made = session(account)
    config = Config(max_pool_connections=WIDEST, connect_timeout=10, tcp_keepalive=True)
    if service == "lambda":
        # A retried synchronous invocation runs the electron twice: retries are ours to decide.
        config = config.merge(Config(read_timeout=READ_TIMEOUT, retries={"total_max_attempts": 1}))
        if _is_loopback(account.endpoint_url) and made.get_credentials() is None:
            config = config.merge(Config(signature_version=UNSIGNED))
    elif os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # An endpoint of one's own is seldom reachable as bucket.endpoint.
        config = config.merge(Config(s3={"addressing_style": "path"}))
    return made.client(service, endpoint_url=account.endpoint_url or None, config=config)


def forget_clients() -> None:
    """Have the next request read the credentials again."""
    with _lock:
        _client.cache_clear()


def caller_identity(account: Account) -> dict[str, Any]:
    """Who the credentials belong to, as AWS STS says.

    Raises:
        ConfigurationError: if they are missing or not accepted.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        identity: dict[str, Any] = client(account, "sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise ConfigurationError(f"AWS does not accept the credentials: {error}") from error
    return identity


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


class Transport:
    """Invocations of one function and the objects of one bucket; every method blocks.

    Args:
        account: whose credentials, and where.
        function, bucket: their names.
        sources: where those names came from, for messages.
    """

    def __init__(
        self, account: Account, *, function: str, bucket: str, sources: dict[str, str]
    ) -> None:
        self.account, self.function, self.bucket = account, function, bucket
        self._sources = sources

    # -- Lambda ----------------------------------------------------------------------------------

    def invoke(self, payload: bytes) -> Reply:
        """Invoke the function synchronously, once.

        Raises:
            Throttled, Unreachable: it certainly did not run.
            ConnectionLost: it may have run.
            ConfigurationError, ResourceLimitError: it may not be invoked, or not like this.
        """
        from botocore import exceptions

        arguments: dict[str, Any] = {"FunctionName": self.function, "Payload": payload}
        if self.account not in _without_log_tail:
            arguments["LogType"] = "Tail"
        try:
            answer = client(self.account, "lambda").invoke(**arguments)
            return Reply(
                payload=answer["Payload"].read(),
                function_error=answer.get("FunctionError", ""),
                log_tail=base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace"),
            )
        except exceptions.ClientError as error:
            if "LogType" in arguments and _refuses_log_tail(error):
                _without_log_tail.add(self.account)
                return self.invoke(payload)
            raise self._invocation_error(error) from error
        except _never_sent(exceptions) as error:
            raise Unreachable(str(error)) from error
        except exceptions.HTTPClientError as error:
            if _refuses_certificate(error):
                raise self._not_made(error) from error
            raise ConnectionLost(str(error)) from error
        except (exceptions.BotoCoreError, ValueError) as error:
            raise self._not_made(error) from error

    def invoke_event(self, payload: bytes) -> dict[str, Any]:
        """Invoke the function asynchronously, once; boto3's answer.

        Raises:
            ConfigurationError, Throttled, ConnectionLost: as `invoke`.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = client(self.account, "lambda").invoke(
                FunctionName=self.function, Payload=payload, InvocationType="Event"
            )
        except ClientError as error:
            raise self._invocation_error(error) from error
        except (BotoCoreError, ValueError) as error:
            raise self._not_made(error) from error
        return answer

    def _invocation_error(self, error: Any) -> Exception:
        code, status = _code(error), _status(error)
        if status == 429 or code in _NOT_NOW:
            return Throttled(f"{code}: {_message(error)}")
        if code in ("ResourceNotFoundException", "ResourceNotFound") or status == 404:
            return ConfigurationError(
                f"There is no Lambda function {self._named('function_name', self.function)} in "
                f"{self._named('region', self._region('lambda'))}. Deploy it there (sam build && "
                "sam deploy), or correct the name or the region."
            )
        if code in ("RequestTooLargeException", "RequestEntityTooLargeException"):
            return ResourceLimitError(
                f"Lambda refuses the request as too large for {self.function}: {_message(error)}"
            )
        if status and status >= 500:
            return ConnectionLost(f"Lambda answered {status} {code}: {_message(error)}")
        return self._refusal(error, "lambda:InvokeFunction", f"function {self.function}")

    # -- S3 --------------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        """Whether the bucket holds `key`; only a 404 means no.

        Raises:
            ConfigurationError: if S3 refuses to say.
        """

        def look(s3: Any) -> Any:
            return s3.head_object(Bucket=self.bucket, Key=key)

        return self._unless_missing("s3:GetObject", look) is not None

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, in parallel parts if it is large."""

        def store(s3: Any) -> None:
            if len(data) < _ONE_REQUEST:  # also works while the interpreter is shutting down
                s3.put_object(Bucket=self.bucket, Key=key, Body=data)
            else:
                s3.upload_fileobj(io.BytesIO(data), self.bucket, key)

        self._guard("s3:PutObject", store)

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`; None if there are none.

        Raises:
            ConfigurationError: if S3 refuses them.
        """

        def read(s3: Any) -> bytes:
            body: bytes = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            return body

        found: bytes | None = self._unless_missing("s3:GetObject", read)
        return found

    def fetch(self, blob: wire.Blob) -> bytes:
        """The verified bytes of a blob, in parallel parts if it is large.

        Raises:
            wire.DigestMismatch: if they are not those that were stored.
            ConfigurationError: if S3 refuses them.
        """
        buffer = io.BytesIO()

        def load(s3: Any) -> None:
            size = s3.head_object(Bucket=self.bucket, Key=blob.key)["ContentLength"]
            blob.check_size(size)  # before it fills the memory
            s3.download_fileobj(self.bucket, blob.key, buffer)

        self._guard("s3:GetObject", load)
        return blob.verified(buffer.getvalue())

    def delete(self, *keys: str) -> None:
        """Delete objects; those that do not exist are no error."""

        def remove(s3: Any) -> None:
            for key in keys:
                s3.delete_object(Bucket=self.bucket, Key=key)

        self._guard("s3:DeleteObject", remove)

    def _unless_missing(self, action: str, call: Callable[[Any], Any]) -> Any:
        """The value of `call`; None if it meets a key that does not exist."""
        from botocore.exceptions import ClientError

        def tolerant(s3: Any) -> Any:
            try:
                return call(s3)
            except ClientError as error:
                if _code(error) in ("404", "NoSuchKey"):
                    return None
                raise

        return self._guard(action, tolerant)

    def _guard(self, action: str, call: Callable[[Any], Any]) -> Any:
        """The value of `call`, given the S3 client; what it raises is translated."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call(client(self.account, "s3"))
        except ClientError as error:
            raise self._bucket_error(error, action) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._not_made(error) from error

    def _bucket_error(self, error: Any, action: str) -> AWSLambdaExecutorError:
        bucket = self._named("s3_bucket_name", self.bucket)
        region = self._named("region", self._region("s3"))
        if _code(error) == "NoSuchBucket":
            return ConfigurationError(
                f"There is no S3 bucket {bucket}. Deploy the stack that makes it (sam build && "
                "sam deploy), or correct the name."
            )
        if _status(error) == 301 or _code(error) in (
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ):
            return ConfigurationError(
                f"The S3 bucket {bucket} is not in {region}: {_message(error)}. Correct region=, "
                "or name the bucket of this region."
            )
        return self._refusal(error, action, f"bucket {self.bucket}")

    # -- what both have in common ----------------------------------------------------------------

    def _refusal(self, error: Any, action: str, resource: str) -> AWSLambdaExecutorError:
        code, status = _code(error), _status(error)
        if code in _EXPIRED or code in _INVALID:
            forget_clients()  # they keep the credentials that they began with
            return ConfigurationError(
                f"AWS does not accept the credentials ({code}: {_message(error)}). "
                f"{'Renew them' if code in _EXPIRED else 'Check them'}"
                f"{f' for profile {self.account.profile!r}' if self.account.profile else ''}, "
                "where Covalent's server runs, and run the workflow again."
            )
        if status == 403:
            return ConfigurationError(
                f"Access denied: {action} on {resource}: {_message(error)}. Attach the policy "
                "named in the stack's output ExecutorPolicyArn to the user or role that "
                "Covalent's server runs as."
            )
        return AWSLambdaExecutorError(f"{action} on {resource} failed: {code}: {_message(error)}")

    def _not_made(self, error: Exception) -> AWSLambdaExecutorError:
        return ConfigurationError(
            f"The request to AWS could not be made: {error}. The executor uses profile= and "
            "credentials_file=, or else the environment, files or role of the machine where "
            "Covalent's server runs."
        )

    def _region(self, service: str) -> str:
        return str(client(self.account, service).meta.region_name)

    def _named(self, setting: str, value: str) -> str:
        source = self._sources.get(setting)
        return f"{value} (from {source})" if source else value


# Accounts whose endpoint refuses LogType=Tail (`sam local start-lambda` does).
_without_log_tail: set[Account] = set()

# Refusals of an invocation that pass by themselves, and before which nothing ran:
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
_NOT_NOW = frozenset(
    [
        "TooManyRequestsException",
        "ThrottlingException",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "SubnetIPAddressLimitReachedException",
    ]
)
_EXPIRED = frozenset(["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
_INVALID = frozenset(
    [
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "InvalidToken",
    ]
)


def _never_sent(exceptions: Any) -> tuple[type[Exception], ...]:
    # Not SSLError: it may also come from a damaged answer to a request that was served.
    return (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ProxyConnectionError,
    )


def _refuses_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        # urllib3 and botocore keep what they met as an argument, not always as the cause.
        inner = [x for x in (*error.args, getattr(error, "kwargs", {}).get("error")) if x]
        error = next((x for x in inner if isinstance(x, BaseException)), error.__cause__)
    return False


def _refuses_log_tail(error: Any) -> bool:
    return _status(error) in (400, 501) and "log-type" in _message(error).lower()


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or str(error)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
