"""Parts that are too large for the envelope: stored once, however many calls share them.

An object stays while a call holds it and some seconds longer, because calls that share an argument
may come one after the other; then it is deleted. If another process deletes or expires one
in between, the function says so before it runs anything, and the part is stored again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import NoneType
from typing import Any
from weakref import WeakKeyDictionary

from . import wire
from .aws.objects import Objects
from .base64_files import Decoded
from .errors import ResourceLimitError, UnreachableError
from .shutdown import AtExit
from .threads import Threads

# Seconds that an object outlives its last holder.
_LINGER = 60.0
# Seconds before an upload that got no answer is tried again, and for which it is.
_AFTER_FAILURE = 1.0
_TRIES_FOR = 60.0


@dataclass
class _Held:
    blob: wire.Blob
    stored: "asyncio.Future[None]"
    holders: int = 0
    removal: "asyncio.TimerHandle | None" = field(default=None)


class Blobs:
    """What calls of one session hold in the bucket; for one event loop.

    The mutable state is what is held, by digest, what is being deleted, and the digests of the
    texts that calls hold.

    Args:
        objects: the bucket.
        threads: where digests are taken and objects travel; bounds how many do at a time.
        at_exit: deletes what lingers when the process ends.
    """

    def __init__(self, objects: Objects, threads: Threads, at_exit: AtExit) -> None:
        self._objects, self._threads = objects, threads
        self._at_exit = at_exit
        self._held: dict[str, _Held] = {}
        self._digests: WeakKeyDictionary[Decoded, asyncio.Future[str]] = WeakKeyDictionary()
        self._leaving: set[str] = set()  # keys; a loop that ends may not come to delete them

    @contextlib.asynccontextmanager
    async def stored(
        self, parts: Iterable[str], *, seconds: float, again: bool = False
    ) -> AsyncIterator[Mapping[int, wire.Blob]]:
        """Keep `parts` (base64 text) in the bucket while the body runs.

        Yields their blobs by the parts' `id`: to hash a large text takes longer than to decode it.

        Args:
            seconds: how long that may take.
            again: store them even if the bucket seems to hold them.

        Raises:
            TimeoutError: if they are not stored within `seconds`.
            ConfigurationError: if the bucket cannot be written.
        """
        end = asyncio.get_running_loop().time() + seconds
        async with contextlib.AsyncExitStack() as stack:
            blobs, files = {}, []
            for part in parts:
                files.append(Decoded(part))  # kept, so that others find the digest of its text
                held = await self._hold(files[-1], again=again)
                stack.callback(self._let_go, held)
                await _done(held.stored, end)
                blobs[id(part)] = held.blob
            yield blobs

    def delete_all(self) -> None:
        """Delete what is stored; it blocks, and is for the end of the process."""
        held, self._held = list(self._held.values()), {}
        keys = [x.blob.key for x in held if not x.stored.done() or _may_be_there(x.stored)]
        keys += self._leaving
        if keys:
            self._objects.delete(*keys)

    async def _hold(self, data: Decoded, *, again: bool) -> _Held:
        sha256 = await self._digest(data)
        held = self._held.get(sha256)
        if held is None or _failed(held.stored) or (again and held.stored.done()):
            blob = wire.Blob(key=wire.BLOB_PREFIX + sha256, size=data.size, sha256=sha256)
            upload = asyncio.ensure_future(self._upload(blob, data, again=again))
            if held is None:
                held = self._held[sha256] = _Held(blob, upload)
                self._at_exit.add(self.delete_all)
            held.stored = upload
        if held.removal is not None:
            held.removal.cancel()
            held.removal = None
        held.holders += 1
        return held

    async def _digest(self, data: Decoded) -> str:
        """Its sha256. Calls that share an argument have copies of their own of it: one is hashed,
        the others are compared with it, which takes a twentieth of the time."""
        for other, digest in list(self._digests.items()):
            if not _failed(digest) and other.text == data.text:
                self._digests[data] = digest  # the one that was hashed may end first
                return await asyncio.shield(digest)
        digest = self._digests[data] = asyncio.ensure_future(self._threads.run(data.sha256))
        return await asyncio.shield(digest)

    async def _upload(self, blob: wire.Blob, data: Decoded, *, again: bool) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _TRIES_FOR
        while True:
            try:
                if again or not await self._threads.run(self._objects.exists, blob.key):
                    await self._threads.run(self._store, blob, data)
                return
            except UnreachableError:
                held = self._held.get(blob.sha256)
                if held is None or held.holders < 1 or loop.time() > end:
                    raise
            await asyncio.sleep(_AFTER_FAILURE)

    def _store(self, blob: wire.Blob, data: Decoded) -> None:
        """It blocks, and goes on when nobody waits for it any more; then nobody else deletes what
        it has stored, or may have: S3 may have it although its answer has not come."""
        try:
            self._objects.upload(blob.key, data, data.size)
        finally:
            if blob.sha256 not in self._held:
                with contextlib.suppress(Exception):  # the bucket's lifecycle removes what is left
                    self._objects.delete(blob.key)

    def _let_go(self, held: _Held) -> None:
        held.holders -= 1
        if held.holders <= 0:
            loop = asyncio.get_running_loop()
            held.removal = loop.call_later(_LINGER, self._remove, held)

    def _remove(self, held: _Held) -> None:
        if self._held.get(held.blob.sha256) is held:
            del self._held[held.blob.sha256]
        if held.stored.done() and _may_be_there(held.stored):
            self._leaving.add(held.blob.key)
            loop = asyncio.get_running_loop()
            # No task: the loop may be about to close, and would warn of one that it destroys.
            with contextlib.suppress(ResourceLimitError):  # then it is deleted at the end
                self._threads.begin(partial(self._delete, loop, held.blob.key))
        elif not held.stored.done():
            held.stored.cancel()
        self._forget()

    def _delete(self, loop: asyncio.AbstractEventLoop, key: str) -> None:
        """It blocks."""
        with contextlib.suppress(Exception):  # the bucket's lifecycle removes what is left
            self._objects.delete(key)

        def deleted() -> None:
            self._leaving.discard(key)
            self._forget()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deleted)

    def _forget(self) -> None:
        """Once there is nothing to delete, there is nothing to do at the end."""
        if not self._held and not self._leaving:
            self._at_exit.discard(self.delete_all)


async def _done(stored: "asyncio.Future[None]", end: float) -> None:
    """Wait for an upload, for which others may wait as well."""
    left = end - asyncio.get_running_loop().time()
    await asyncio.wait({stored}, timeout=max(0.0, left))
    if not stored.done():
        raise TimeoutError
    stored.result()


def _may_be_there(stored: "asyncio.Future[None]") -> bool:
    """Whether an upload that has ended may have stored its object: also if its answer is missing,
    or nobody waited for it any more."""
    return stored.cancelled() or isinstance(stored.exception(), (UnreachableError, NoneType))


def _failed(work: "asyncio.Future[Any]") -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)
