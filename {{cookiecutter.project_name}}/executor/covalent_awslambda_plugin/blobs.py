"""Parts that are too large for the envelope: stored once, however many electrons share them.

An object stays while an electron of this process holds it and some seconds longer, because
Covalent starts the electrons of a fan-out one after the other; then it is deleted. If another
process deletes or expires one in between, the function says so before it runs anything, and the
part is stored again.
"""

import asyncio
import atexit
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from lambda_calls import wire

from .base64_files import Decoded
from .errors import ConfigurationError
from .threads import in_thread
from .transport import Transport

# Seconds that an object outlives its last holder.
_LINGER = 60.0
_AT_EXIT = 10.0


@dataclass
class _Held:
    transport: Transport
    blob: wire.Blob
    holders: int
    stored: "asyncio.Future[None]"
    removal: "asyncio.TimerHandle | None" = None


# By event loop, bucket and digest: the loop because futures belong to one.
_Key = tuple[asyncio.AbstractEventLoop, str, str]
_held: dict[_Key, _Held] = {}
_removals: set["asyncio.Future[None]"] = set()
# The digests of texts that electrons hold.
_digests: WeakKeyDictionary[Decoded, "asyncio.Future[str]"] = WeakKeyDictionary()


@contextlib.asynccontextmanager
async def stored(
    transport: Transport, parts: Iterable[str], *, again: bool = False
) -> AsyncIterator[Mapping[int, wire.Blob]]:
    """Keep `parts` (base64 text) in the bucket while the body runs.

    Yields their blobs by the parts' `id`: to hash a large text takes longer than to decode it.

    Args:
        again: store them even if the bucket seems to hold them.

    Raises:
        ConfigurationError: if the bucket cannot be written.
    """
    async with contextlib.AsyncExitStack() as stack:
        blobs, files = {}, []
        for part in parts:
            files.append(Decoded(part))  # kept, so that others find the digest of its text
            held = await _held_for(transport, files[-1], again=again)
            stack.callback(_let_go, held)
            await asyncio.shield(held.stored)  # others may wait for the same upload
            blobs[id(part)] = held.blob
        yield blobs


async def _held_for(transport: Transport, data: Decoded, *, again: bool) -> _Held:
    if not transport.bucket:
        raise ConfigurationError(
            f"The electron needs a bucket: an argument of {data.size} bytes does not fit "
            "into an invocation. Name one with s3_bucket_name=, or run where the project's "
            "samconfig.toml is found."
        )
    sha256 = await _digest(data)
    blob = wire.Blob(key=wire.BLOB_PREFIX + sha256, size=data.size, sha256=sha256)
    return _hold(transport, blob, data, again=again)


async def _digest(data: Decoded) -> str:
    """Its sha256. Electrons that share an argument have copies of their own of it: one is hashed,
    the others are compared with it, which takes a twentieth of the time."""
    loop = asyncio.get_running_loop()
    for other, digest in list(_digests.items()):
        usable = digest.get_loop() is loop and not _failed(digest)
        if usable and other.text == data.text:
            _digests[data] = digest  # the one that was hashed may end first
            return await asyncio.shield(digest)
    digest = _digests[data] = asyncio.ensure_future(in_thread(data.sha256))
    return await asyncio.shield(digest)


def _key(held: _Held) -> _Key:
    return held.stored.get_loop(), held.transport.bucket, held.blob.sha256


def _hold(transport: Transport, blob: wire.Blob, data: Decoded, *, again: bool) -> _Held:
    key = asyncio.get_running_loop(), transport.bucket, blob.sha256
    held = _held.get(key)
    if held is None or _failed(held.stored) or (again and held.stored.done()):
        upload = asyncio.ensure_future(_upload(transport, blob, data, again=again))
        if held is None:
            held = _held[key] = _Held(transport, blob, 0, upload)
        held.stored = upload
    if held.removal is not None:
        held.removal.cancel()
        held.removal = None
    held.holders += 1
    return held


def _failed(work: "asyncio.Future[Any]") -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)


async def _upload(transport: Transport, blob: wire.Blob, data: Decoded, *, again: bool) -> None:
    if again or not await in_thread(transport.exists, blob.key):
        await in_thread(transport.upload, blob.key, data, data.size)


def _let_go(held: _Held) -> None:
    held.holders -= 1
    if held.holders <= 0:
        held.removal = asyncio.get_running_loop().call_later(_LINGER, _remove, held)


def _remove(held: _Held) -> None:
    _held.pop(_key(held), None)
    if held.stored.done() and not _failed(held.stored):
        removal = asyncio.ensure_future(_delete(held))
        _removals.add(removal)  # the loop keeps no strong reference of its own
        removal.add_done_callback(_removals.discard)


async def _delete(held: _Held) -> None:
    with contextlib.suppress(Exception):  # the bucket's lifecycle removes what is left
        await in_thread(held.transport.delete, held.blob.key)


@atexit.register
def _delete_what_lingers() -> None:
    end = time.monotonic() + _AT_EXIT
    for held in list(_held.values()):
        if time.monotonic() > end:
            break
        if held.stored.done() and not _failed(held.stored):
            with contextlib.suppress(Exception):
                held.transport.delete(held.blob.key)
