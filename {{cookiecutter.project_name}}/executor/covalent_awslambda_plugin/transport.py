"""Requests to Lambda and S3, with errors translated at this border. Knows no pickle."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from lambda_calls import wire
from lambda_calls.settings import Origin, deploy_command

from .base64_files import Encoded, Overfull
from .clients import Account, client, forget_clients
from .errors import AWSLambdaExecutorError, ConfigurationError, ResourceLimitError
from .invoke import Answer, ConnectionLost, NotMade, forget_senders, invoke

# Bytes below which an object is stored in one request.
_ONE_REQUEST = 8 * 1024 * 1024
_PARTS = 5  # of one object under way at a time
_PIECE = 1024 * 1024  # bytes read from a connection at a time


class Throttled(Exception):
    """Lambda refused for lack of capacity: the electron certainly did not run."""


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


class Transport:
    """Invocations of one function and the objects of one bucket; all about objects blocks.

    Args:
        account: whose credentials, and where.
        function, bucket: their names.
        origins: where those names came from, as `Origin.as_dict` gives it, for messages.
    """

    def __init__(
        self,
        account: Account,
        *,
        function: str,
        bucket: str,
        origins: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.account, self.function, self.bucket = account, function, bucket
        self._origins = {name: Origin.from_dict(said) for name, said in origins.items()}

    # -- Lambda ----------------------------------------------------------------------------------

    async def invoke(self, payload: bytes) -> Reply:
        """Invoke the function synchronously, once.

        Raises:
            Throttled, Unreachable: it certainly did not run.
            ConnectionLost: it may have run.
            ConfigurationError, ResourceLimitError: it may not be invoked, or not like this.
        """
        tail = self.account not in _without_log_tail
        answer = await self._answer(payload, {"X-Amz-Log-Type": "Tail"} if tail else {})
        if answer.status >= 300:
            error = answer.error()
            if tail and _refuses_log_tail(error):
                _without_log_tail.add(self.account)
                return await self.invoke(payload)
            raise self._invocation_error(error) from error
        log = base64.b64decode(answer.headers.get("x-amz-log-result", ""))
        return Reply(
            payload=answer.body,
            function_error=answer.headers.get("x-amz-function-error", ""),
            log_tail=log.decode("utf-8", "replace"),
        )

    async def _answer(self, payload: bytes, headers: dict[str, str]) -> Answer:
        from botocore.exceptions import BotoCoreError

        try:
            return await invoke(self.account, self.function, payload, headers)
        except (NotMade, BotoCoreError, ValueError) as error:
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
                f"{self._named('region', self._region('lambda'))}. Deploy it there "
                f"({self._deploy('function_name')}), or correct the name or the region."
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
        """Store `data` under `key`; also works while the interpreter is shutting down."""

        def store(s3: Any) -> None:
            s3.put_object(Bucket=self.bucket, Key=key, Body=data)

        self._guard("s3:PutObject", store)

    def upload(self, key: str, file: BinaryIO | io.RawIOBase, size: int) -> None:
        """Store the `size` bytes of `file` under `key`, in parallel parts if they are many."""
        if size < _ONE_REQUEST:
            return self.put(key, file.read() or b"")

        def store(s3: Any) -> None:
            s3.upload_fileobj(file, self.bucket, key, Config=_in_parts())

        self._guard("s3:PutObject", store)

    def get(self, key: str, limit: int | None = None) -> bytes | None:
        """The bytes under `key`; None if there are none.

        Raises:
            ConfigurationError: if S3 refuses them.
            ValueError: if they are more than `limit`; then they are not read.
        """

        def read(s3: Any) -> bytes:
            answer = s3.get_object(Bucket=self.bucket, Key=key)
            if limit is not None and answer["ContentLength"] > limit:
                raise ValueError(f"S3 object {key} has {answer['ContentLength']} bytes")
            body: bytes = answer["Body"].read()
            return body

        found: bytes | None = self._unless_missing("s3:GetObject", read)
        return found

    def fetch(self, blob: wire.Blob) -> str:
        """The verified bytes of a blob as base64 text, in parallel parts if they are many.

        Raises:
            wire.DigestMismatch: if they are not those that were stored.
            ConfigurationError: if S3 refuses them.
        """
        file = Encoded(blob.size)

        def load(s3: Any) -> None:
            if blob.size < _ONE_REQUEST:
                answer = s3.get_object(Bucket=self.bucket, Key=blob.key)
                blob.check_size(answer["ContentLength"])  # before it fills the memory
                file.write(answer["Body"].read())
            else:
                s3.download_fileobj(self.bucket, blob.key, file, Config=_in_parts())

        try:
            self._guard("s3:GetObject", load)
        except Overfull:
            pass  # its size tells
        blob.check_size(file.size)
        sha256, text = file.finished()
        blob.check_digest(sha256)
        return text

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
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        try:
            return call(client(self.account, "s3"))
        except (RetriesExceededError, S3DownloadFailedError) as error:
            raise AWSLambdaExecutorError(
                f"{action} on bucket {self.bucket} broke off at each attempt: {error}. "
                "Look at the way from Covalent's server to S3, and run the electron again."
            ) from error
        except ClientError as error:
            raise self._bucket_error(error, action) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._not_made(error) from error

    def _bucket_error(self, error: Any, action: str) -> AWSLambdaExecutorError:
        bucket = self._named("s3_bucket_name", self.bucket)
        region = self._named("region", self._region("s3"))
        if _code(error) == "NoSuchBucket":
            return ConfigurationError(
                f"There is no S3 bucket {bucket}. Deploy the stack that makes it "
                f"({self._deploy('s3_bucket_name')}), or correct the name."
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
            forget_senders()
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
        origin = self._origins.get(setting)
        return f"{value} (from {origin})" if origin else value

    def _deploy(self, setting: str) -> str:
        origin = self._origins.get(setting)
        return deploy_command(origin.environment if origin else "")


def _in_parts() -> Any:
    """How large objects travel: with fewer threads and larger pieces than boto3's defaults, which
    make the interpreter's lock the bottleneck."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=_ONE_REQUEST, max_concurrency=_PARTS, io_chunksize=_PIECE
    )


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


def _refuses_log_tail(error: Any) -> bool:
    return _status(error) in (400, 501) and "log-type" in _message(error).lower()


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or str(error)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
