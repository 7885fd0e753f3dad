"""The function's S3 client, and its cache of blobs in /tmp."""

import os
import threading
from typing import Any, List

import wire

# What tempfile.gettempdir() finds: the only place where one may write on Lambda.
WORK = os.environ.get("TMPDIR") or "/tmp"
_PARTS = 5  # under way at a time: more only wait for the interpreter's lock
_CACHE = os.path.join(WORK, "covalent-blobs")


def client(connect_timeout: float = 5, read_timeout: float = 30, attempts: int = 3) -> Any:
    """A new S3 client; boto3 is imported only when a task needs S3.

    Args:
        connect_timeout, read_timeout: seconds. botocore's 60 are too long where time is billed.
        attempts: how often a request is tried.
    """
    import boto3
    from botocore.config import Config

    # An endpoint of one's own (an emulator, a VPC endpoint) is seldom reachable as
    # bucket.endpoint, so address by path there.
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={"addressing_style": "path"} if own else {},
    )
    return boto3.client("s3", config=config)


class Storage:
    """Blobs of one bucket; the client is made at the first use and kept."""

    def __init__(self, bucket: str, kept: Any = None) -> None:
        self.bucket = bucket
        self._client = kept
        self._remembering: List[threading.Thread] = []

    @property
    def client(self) -> Any:
        if self._client is None:
            self._client = client()
        return self._client

    def fetch(self, blob: wire.Blob) -> bytes:
        """The verified bytes of `blob`, from the cache or from S3.

        Raises:
            wire.DigestMismatch: if the bytes are not those that were stored.
            botocore.exceptions.ClientError: if S3 refuses; code NoSuchKey if it is gone.
        """
        path = os.path.join(_CACHE, blob.sha256)
        try:
            with open(path, "rb") as file:
                # The task before may have written to /tmp, so the cache is not trusted either.
                return blob.verified(file.read())
        except (OSError, wire.DigestMismatch):
            pass
        answer = self.client.get_object(Bucket=self.bucket, Key=blob.key)
        blob.check_size(answer["ContentLength"])  # before it fills the memory
        data: bytes = answer["Body"].read()
        # Meanwhile it is verified, and the task may begin.
        remembering = threading.Thread(target=_remember, args=(path, data))
        remembering.start()
        self._remembering.append(remembering)
        return blob.verified(data)

    def settle(self) -> None:
        """Wait until the cache is written: Lambda freezes the environment after its answer."""
        while self._remembering:
            self._remembering.pop().join()

    def store(self, key: str, data: bytes) -> wire.Blob:
        """Put `data` under `key`, in parallel parts if they are many, and describe it."""
        import io  # here, as few results are large and a cold start is billed

        from boto3.s3.transfer import TransferConfig

        with wire.Sha256() as digest:
            digest.update(data)
            self.client.upload_fileobj(
                io.BytesIO(data), self.bucket, key, Config=TransferConfig(max_concurrency=_PARTS)
            )
        return wire.Blob(key=key, size=len(data), sha256=digest.hexdigest())

    def leave(self, key: str, data: bytes) -> None:
        """Put `data` under `key`, or give up soon: the answer must not wait for a copy of it."""
        hasty = self._client or client(connect_timeout=1, read_timeout=5, attempts=1)
        hasty.put_object(Bucket=self.bucket, Key=key, Body=data)


def _remember(path: str, data: bytes) -> None:
    """Cache `data` unless it would take more than a quarter of what /tmp has left."""
    import shutil  # here, as few tasks need them and a cold start is billed
    import tempfile

    try:
        os.makedirs(_CACHE, mode=0o700, exist_ok=True)
        if 4 * len(data) > shutil.disk_usage(_CACHE).free:
            return
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:  # leaves nothing half written
            part = os.path.join(folder, "part")
            with open(part, "wb") as file:
                file.write(data)
            os.replace(part, path)
    except OSError:
        pass  # a full /tmp costs a second download, no more
