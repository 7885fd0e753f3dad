"""Parts that are too large for the envelope: stored once, however many electrons share them.

An object stays as long as an electron of this process holds it and is then deleted. If another
process deletes or expires one in between, the function says so before it runs anything, and the
part is stored again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from . import wire
from .threads import in_thread
from .transport import Transport


@dataclass
class _Held:
    holders: int
    stored: "asyncio.Future[None]"


# By event loop, bucket and digest: the loop because futures belong to one.
_held: dict[tuple[asyncio.AbstractEventLoop, str, str], _Held] = {}


@contextlib.asynccontextmanager
async def stored(
    transport: Transport, parts: Iterable[str], *, again: bool = False
) -> AsyncIterator[Mapping[str, wire.Blob]]:
    """Keep `parts` (base64 text) in the bucket while the body runs; yields part -> blob.

    Args:
        again: store them even if the bucket seems to hold them.

    Raises:
        ConfigurationError: if the bucket cannot be written.
    """
    async with contextlib.AsyncExitStack() as stack:
        blobs = {}
        for part in parts:
            data = await in_thread(wire.decode, part)
            blob = await in_thread(wire.blob, data)
            stack.push_async_callback(_let_go, transport, blob)
            await _hold(transport, blob, data, again=again)
            blobs[part] = blob
        yield blobs


def _key(transport: Transport, blob: wire.Blob) -> tuple[asyncio.AbstractEventLoop, str, str]:
    return asyncio.get_running_loop(), transport.bucket, blob.sha256


async def _hold(transport: Transport, blob: wire.Blob, data: bytes, *, again: bool) -> None:
    key = _key(transport, blob)
    held = _held.get(key)
    if held is None:
        upload = asyncio.ensure_future(_upload(transport, blob, data, again=again))
        held = _held[key] = _Held(0, upload)
    elif again and held.stored.done():
        held.stored = asyncio.ensure_future(_upload(transport, blob, data, again=True))
    held.holders += 1
    await asyncio.shield(held.stored)  # others may wait for the same upload


async def _upload(transport: Transport, blob: wire.Blob, data: bytes, *, again: bool) -> None:
    if again or not await in_thread(transport.exists, blob.key):
        await in_thread(transport.put, blob.key, data)


async def _let_go(transport: Transport, blob: wire.Blob) -> None:
    key = _key(transport, blob)
    held = _held.get(key)
    if held is None:
        return
    held.holders -= 1
    if held.holders <= 0:
        del _held[key]
        if held.stored.done() and not held.stored.cancelled() and held.stored.exception() is None:
            with contextlib.suppress(Exception):  # the bucket's lifecycle removes what is left
                await in_thread(transport.delete, blob.key)
