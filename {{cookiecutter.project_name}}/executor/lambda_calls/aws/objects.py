"""The objects of one S3 bucket. Methods block; what AWS refuses is translated at this border.

Knows no pickle: what an object is used for is its caller's matter.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar

from .. import messages, wire
from ..base64_files import Encoded, Overfull
from ..errors import LambdaCallError
from . import refusals
from .clients import Account, Clients
from .refusals import Meaning

T = TypeVar("T")

# Bytes below which an object is stored in one request.
_ONE_REQUEST = 8 * 1024 * 1024
_PARTS = 5  # of one object under way at a time
_PIECE = 1024 * 1024  # bytes read from a connection at a time

_MISSING = ("404", "NoSuchKey")
_ELSEWHERE = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_BUSY = ("SlowDown", "503", "RequestTimeout", "InternalError", "ServiceUnavailable")


class Objects:
    """What is stored in one bucket, read and written with one account's credentials.

    Args:
        clients: make the S3 client.
        account: whose credentials, and where.
        bucket: its name.
        origins: where `bucket` and `region` were said, for messages.
        option: what `sam deploy` needs to make the bucket, for messages.
    """

    def __init__(
        self,
        clients: Clients,
        account: Account,
        bucket: str,
        origins: Mapping[str, str],
        *,
        option: str = "",
    ) -> None:
        self._clients, self._account, self.bucket = clients, account, bucket
        self._origins, self._option = origins, option

    def exists(self, key: str) -> bool:
        """Whether the bucket holds `key`; only a 404 means no.

        Raises:
            ConfigurationError: if S3 refuses to say.
            UnreachableError: if S3 does not answer.
        """
        from botocore.exceptions import ClientError

        def look(s3: Any) -> Any:
            try:
                return s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if refusals.status(error) not in (400, 403):
                    raise
                # Expired keys, a clock that is off, a policy: the answer to HEAD has no body. That
                # to GET says which it is.
                found = s3.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")
                found["Body"].close()
                return found

        return self._unless_missing("s3:GetObject", look) is not None

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`; also works while the interpreter is shutting down."""

        def store(s3: Any) -> None:
            s3.put_object(Bucket=self.bucket, Key=key, Body=data)

        self._guarded("s3:PutObject", store)

    def upload(self, key: str, file: BinaryIO | io.RawIOBase, size: int) -> None:
        """Store the `size` bytes of `file` under `key`, in parallel parts if they are many."""
        if size < _ONE_REQUEST:
            file.seek(0)  # an earlier try may have read it
            return self.put(key, file.read() or b"")

        def store(s3: Any) -> None:
            file.seek(0)
            s3.upload_fileobj(file, self.bucket, key, Config=_in_parts())

        self._guarded("s3:PutObject", store)

    def get(self, key: str, limit: int | None = None) -> bytes | None:
        """The bytes under `key`; None if there are none.

        Raises:
            ConfigurationError: if S3 refuses them.
            UnreachableError: if S3 does not answer.
            ValueError: if they are more than `limit`; then they are not read.
        """

        def read(s3: Any) -> bytes:
            answer = s3.get_object(Bucket=self.bucket, Key=key)
            if limit is not None and answer["ContentLength"] > limit:
                answer["Body"].close()
                raise ValueError(f"S3 object {key} has {answer['ContentLength']} bytes")
            body: bytes = answer["Body"].read()
            return body

        return self._unless_missing("s3:GetObject", read)

    def fetch(self, blob: wire.Blob) -> str:
        """The verified bytes of a blob as base64 text, in parallel parts if they are many.

        Raises:
            wire.DigestMismatch: if they are not those that were stored.
            ConfigurationError: if S3 refuses them.
            UnreachableError: if S3 does not answer.
        """

        def load(s3: Any) -> Encoded:
            file = Encoded(blob.size)
            try:
                if blob.size < _ONE_REQUEST:
                    answer = s3.get_object(Bucket=self.bucket, Key=blob.key)
                    blob.check_size(answer["ContentLength"])  # before it fills the memory
                    file.write(answer["Body"].read())
                else:
                    s3.download_fileobj(self.bucket, blob.key, file, Config=_in_parts())
            except Overfull:
                pass  # its size tells
            return file

        file = self._guarded("s3:GetObject", load)
        blob.check_size(file.size)
        sha256, text = file.finished()
        blob.check_digest(sha256)
        return text

    def delete(self, *keys: str) -> None:
        """Delete objects; those that do not exist are no error."""

        def remove(s3: Any) -> None:
            for key in keys:
                s3.delete_object(Bucket=self.bucket, Key=key)

        self._guarded("s3:DeleteObject", remove)

    def _unless_missing(self, action: str, request: Callable[[Any], T]) -> T | None:
        """The value of `request`; None if it meets a key that does not exist."""
        from botocore.exceptions import ClientError

        def tolerant(s3: Any) -> T | None:
            try:
                return request(s3)
            except ClientError as error:
                if refusals.code(error) in _MISSING:
                    return None
                raise

        return self._guarded(action, tolerant)

    def _guarded(self, action: str, request: Callable[[Any], T]) -> T:
        """The value of `request`, given the S3 client; what it raises is translated.

        Refused credentials are read again, once: their file may have been renewed meanwhile.
        """
        used = self._signed_with()
        try:
            return self._asked(action, request)
        except refusals.CredentialsRefused as refusal:
            if not self._renewed(used):
                raise messages.credentials(refusal, self._account.profile) from refusal
        try:
            return self._asked(action, request)
        except refusals.CredentialsRefused as refusal:
            raise messages.credentials(refusal, self._account.profile) from refusal

    def _asked(self, action: str, request: Callable[[Any], T]) -> T:
        from boto3.exceptions import Boto3Error
        from botocore import exceptions as botocores
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError
        from urllib3.exceptions import HTTPError

        try:
            return request(self._clients.client(self._account, "s3"))
        except ClientError as error:
            raise self._refused(error, action) from error
        except Boto3Error as error:  # an upload's, around what its parts met
            cause = error.__context__
            if isinstance(cause, ClientError):
                raise self._refused(cause, action) from error
            raise self._unreachable(action, error) from error
        except botocores.SSLError as error:
            raise messages.not_made(error) from error
        except (
            botocores.ConnectionError,
            botocores.HTTPClientError,
            botocores.IncompleteReadError,
            botocores.ResponseStreamingError,
            ResponseParserError,  # of an answer that was cut off
            RetriesExceededError,
            S3DownloadFailedError,
            HTTPError,  # as it comes while botocore reads an error's body
        ) as error:
            raise self._unreachable(action, error) from error
        except BotoCoreError as error:
            raise messages.not_signed(error, self._account.profile) from error
        except OSError as error:
            raise messages.not_made(error) from error

    def _signed_with(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return self._clients.credentials(self._account)
        except BotoCoreError as error:
            raise messages.not_signed(error, self._account.profile) from error

    def _renewed(self, refused: Any) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._clients.renew(self._account, refused)
        except (BotoCoreError, ClientError) as error:
            raise messages.not_signed(error, self._account.profile) from error

    def _unreachable(self, action: str, error: Exception) -> LambdaCallError:
        return messages.STORAGE_UNREACHABLE(action=action, bucket=self.bucket, said=error)

    def _refused(self, error: Any, action: str) -> Exception:
        code, status = refusals.code(error), refusals.status(error)
        said = refusals.said(error)
        meaning = refusals.common(error)
        if error.operation_name.startswith("AssumeRole"):
            return messages.not_signed(error, self._account.profile)
        if meaning in (Meaning.EXPIRED, Meaning.INVALID):
            return refusals.CredentialsRefused(said, expired=meaning is Meaning.EXPIRED)
        if meaning is Meaning.CLOCK:
            return messages.clock(error)
        if code == "NoSuchBucket":
            bucket = self._named("s3_bucket_name", self.bucket)
            return messages.NO_BUCKET(bucket=bucket, option=self._option)
        if code in _MISSING:
            return messages.NO_OBJECT(bucket=self.bucket, said=said)
        if status == 301 or code in _ELSEWHERE:
            return messages.BUCKET_ELSEWHERE(
                bucket=self._named("s3_bucket_name", self.bucket),
                region=self._named("region", self._account.region or "its region"),
                said=said,
            )
        if code in _BUSY or status >= 500:
            return self._unreachable(action, error)
        if status == 403:
            return messages.DENIED(action=action, resource=f"bucket {self.bucket}", said=said)
        return messages.REFUSED(action=action, resource=f"bucket {self.bucket}", said=said)

    def _named(self, setting: str, value: str) -> str:
        origin = self._origins.get(setting)
        return f"{value} (from {origin})" if origin else value


def _in_parts() -> Any:
    """How large objects travel: with fewer threads and larger pieces than boto3's defaults, which
    make the interpreter's lock the bottleneck."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=_ONE_REQUEST, max_concurrency=_PARTS, io_chunksize=_PIECE
    )
