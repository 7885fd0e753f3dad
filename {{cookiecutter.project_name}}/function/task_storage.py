"""The function's S3 client, its cache of blobs, and the packages that tasks asked for, in /tmp."""

import contextlib
import io
import os
import stat
import threading
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import task_channel as channels
import task_server
import wire

_PARTS = 5  # under way at a time: more only wait for the interpreter's lock
_PIECE = 1 << 20  # bytes
_SHARE = 4  # blobs may have a quarter of /tmp, and as much is kept free
# Lambda's largest /tmp: https://docs.aws.amazon.com/lambda/latest/dg/configuration-ephemeral-storage.html
# A laptop's is a whole disk, of which a quarter is seldom free.
_LARGEST_TMP = 10_240 << 20  # bytes
_COMPLETE = ".complete"  # lies in a folder of packages whose installation ended well


class Storage:
    """What an environment keeps between tasks: a session with a client, blobs, packages.

    Args:
        folder: the environment's own.
    """

    def __init__(self, folder: str) -> None:
        self._blobs = os.path.join(folder, "blobs")
        self._packages = os.path.join(folder, "packages")
        self._tasks = os.path.join(folder, "tasks")
        self._session: Any = None
        self._client: Any = None
        self._making = threading.Lock()
        self._seen: Dict[str, Tuple[Any, ...]] = {}  # what folders of packages held
        self._given: Set[str] = set()  # paths of blobs that the task has by now

    @property
    def client(self) -> Any:
        """The client, made at its first use.

        botocore's 60 s of patience are too long where time is billed.
        """
        with self._making:
            if self._client is None:
                self._client = self._new_client(connect_timeout=5, read_timeout=15, attempts=3)
            return self._client

    def hasty_client(self) -> Any:
        """A new client that gives up soon: what it asks for is asked for again."""
        with self._making:
            return self._new_client(connect_timeout=1, read_timeout=1, attempts=1)

    def _new_client(self, connect_timeout: float, read_timeout: float, attempts: int) -> Any:
        """A client of the environment's one session, which no electron can reach: each session
        reads S3's description anew, for 70 ms and 15 MB."""
        import boto3  # only when a task needs S3
        from botocore.config import Config

        self._session = self._session or boto3.session.Session()
        # An endpoint of one's own (an emulator, a VPC endpoint) is seldom reachable as
        # bucket.endpoint, so address by path there.
        own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            s3={"addressing_style": "path"} if own else {},
        )
        return self._session.client("s3", config=config)

    def begin(self) -> None:
        """Another task begins: no blob in the cache is in use any more."""
        self._given = set()

    def fetch(self, bucket: str, blob: wire.Blob, memory: Callable[[], int]) -> Any:
        """Have the verified bytes of `blob` in a file, which stays until the next `begin`.

        Args:
            memory: opens the file in memory, for what the cache has no room for.

        Returns:
            The path of a cached file, or [offset, size] in the file in memory.

        Raises:
            wire.DigestMismatch: if the bytes are not those that were stored.
            botocore.exceptions.ClientError: if S3 refuses; code NoSuchKey if it is gone.
        """
        path = os.path.join(self._blobs, blob.sha256)
        if self._cached(path, blob):
            self._given.add(path)
            return path
        task_server.remove(path)  # a task may have put anything there
        answer = self.client.get_object(Bucket=bucket, Key=blob.key)
        blob.check_size(answer["ContentLength"])  # before it fills a disk
        if not blob.size or not self._room_for(blob.size):
            with io.FileIO(memory(), "r+") as file:
                offset = file.seek(0, os.SEEK_END)
                _copy(answer["Body"], file.fileno(), blob)
            return [offset, blob.size]
        part = f"{path}.{os.urandom(4).hex()}"
        with _new_file(part) as fd:
            _copy(answer["Body"], fd, blob)
        os.replace(part, path)
        self._given.add(path)
        return path

    def store(self, bucket: str, key: str, file: io.FileIO, offset: int, size: int) -> wire.Blob:
        """Put a piece of `file` under `key`, in parallel parts if they are many; describe it.

        Args:
            file: is closed in the end; so it must be this call's alone, as nobody may wait for it.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(max_concurrency=_PARTS)
        config.max_in_memory_upload_chunks = _PARTS  # each is a copy
        with file, wire.Sha256() as digest:
            fd = file.fileno()
            hashing = threading.Thread(target=_hash, args=(digest, fd, offset, size))
            hashing.start()
            try:
                self.client.upload_fileobj(_Piece(fd, offset, size), bucket, key, Config=config)
            finally:
                hashing.join()
        return wire.Blob(key=key, size=size, sha256=digest.hexdigest())

    def leave(self, bucket: str, key: str, data: bytes) -> None:
        """Put `data` under `key`."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    # -- packages -----------------------------------------------------------------------------

    def packages(self, requirements: str) -> Tuple[str, bool]:
        """The folder for what `requirements` install, and whether it is all there.

        Args:
            requirements: the digest of what asks for them.
        """
        folder = os.path.join(self._packages, requirements)
        complete = os.path.exists(os.path.join(folder, _COMPLETE))
        if complete and self._seen.get(folder) == _held(folder):
            os.utime(folder)
            return folder, True
        # Half installed, or changed by a task since: the next one must find what it asked for.
        task_server.remove(folder)
        self._seen.pop(folder, None)
        os.makedirs(folder, mode=0o700)
        return folder, False

    def installed(self, folder: str) -> None:
        """The installation into `folder` has ended well."""
        with contextlib.suppress(OSError):
            open(os.path.join(folder, _COMPLETE), "w").close()
            self._seen[folder] = _held(folder)

    # -- room ---------------------------------------------------------------------------------

    def evict_all(self) -> None:
        """Evict all that is kept, and look whether there is room for a task's folder then.

        Raises:
            OSError: if there is none.
        """
        for entries in (self._packages, self._blobs):
            for path in _oldest_first(entries):
                task_server.remove(path)
        self._seen.clear()
        tried = os.path.join(self._tasks, f"tried-{os.urandom(4).hex()}")
        os.makedirs(tried, mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # a server has tidied up meanwhile
            os.rmdir(tried)

    def make_room(self, kept: str = "") -> None:
        """Evict packages, then blobs, until a quarter of /tmp is free; `kept` stays."""
        with contextlib.suppress(OSError):  # a task has removed the folders: there is room
            if _room(self._blobs)[0] >= 0:
                return
        for entries in (self._packages, self._blobs):
            for path in _oldest_first(entries):
                if _room(entries)[0] >= 0:
                    return
                if path != kept:
                    task_server.remove(path)
                    self._seen.pop(path, None)

    def _cached(self, path: str, blob: wire.Blob) -> bool:
        try:
            # A pipe in its place would keep us waiting.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            # A task may have written to /tmp, so the cache is not trusted either.
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            blob.check_size(os.fstat(fd).st_size)
            digest = wire.Sha256()
            with digest:
                _hash(digest, fd, 0, blob.size)
            blob.check_digest(digest.hexdigest())
            os.utime(path)
            return True
        except (OSError, wire.DigestMismatch):
            return False
        finally:
            os.close(fd)

    def _room_for(self, size: int) -> bool:
        """Whether the cache may take `size` bytes more; older blobs go for it, but for those that
        the task has been given."""
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        most = _room(self._blobs)[1]
        if size > most:
            return False
        held = {path: os.path.getsize(path) for path in _oldest_first(self._blobs)}
        total = sum(held.values())
        idle = [path for path in held if path not in self._given]
        if total - sum(held[path] for path in idle) + size > most:
            return False
        for path in idle:
            if total + size <= most and _room(self._blobs)[0] >= size:
                return True
            task_server.remove(path)
            total -= held[path]
        return _room(self._blobs)[0] >= size


class _Piece(io.RawIOBase):
    """A piece of a file, as an upload reads it; the file's own position is left alone."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._size = fd, offset, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._fd, [room], self._offset + self._at) if room else 0
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at


def _hash(digest: wire.Sha256, fd: int, offset: int, size: int) -> None:
    end = offset + size
    while offset < end:
        piece = channels.read_at(fd, min(_PIECE, end - offset), offset)
        if not piece:
            return
        digest.update(piece)
        offset += len(piece)


def _copy(body: Any, fd: int, blob: wire.Blob) -> None:
    """Write what S3 sends, and verify it meanwhile."""
    with wire.Sha256() as digest:
        while True:
            piece = body.read(_PIECE)
            if not piece:
                break
            digest.update(piece)
            channels.write_all(fd, piece)
    blob.check_digest(digest.hexdigest())


@contextlib.contextmanager
def _new_file(path: str) -> Iterator[int]:
    """The descriptor of a new file, which is removed if the body fails."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield fd
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _room(folder: str) -> Tuple[int, int]:
    """Bytes that may be taken until only a quarter is free, and a quarter's bytes."""
    found = os.statvfs(folder)
    share = min(found.f_blocks * found.f_frsize, _LARGEST_TMP) // _SHARE
    return found.f_bavail * found.f_frsize - share, share


def _oldest_first(folder: str) -> List[str]:
    try:
        entries = [(entry.stat(follow_symlinks=False), entry.path) for entry in os.scandir(folder)]
    except OSError:
        return []
    return [path for _, path in sorted(entries, key=lambda x: x[0].st_mtime_ns)]


def _held(folder: str) -> Tuple[Any, ...]:
    """What a folder of packages holds: a change of any file shows in it."""
    found = []
    pending = [folder]
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            about = entry.stat(follow_symlinks=False)
            changed = 0 if entry.is_dir(follow_symlinks=False) else about.st_ctime_ns
            found.append((entry.path, about.st_mode, about.st_size, changed, about.st_ino))
    return tuple(sorted(found))
