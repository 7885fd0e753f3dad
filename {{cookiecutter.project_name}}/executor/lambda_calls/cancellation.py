"""Whether a call is still wanted; the request may come from any thread."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .errors import CallCancelled

T = TypeVar("T")

# Seconds that a cancelled call is given to stop, so that its streams are kept.
_STOPPING = 6.0

Tell = Callable[[], Awaitable[bool]]


class Cancellation:
    """Belongs to one call, from its beginning to its end; for one event loop.

    The mutable state is whether it was requested.

    Args:
        name: of the call, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._requested: asyncio.Future[None] = self._loop.create_future()

    @property
    def requested(self) -> bool:
        """Whether the call is to be stopped."""
        return self._requested.done()

    def request(self) -> None:
        """Have the call stopped: before it is sent, while it waits, or while it runs."""
        self._loop.call_soon_threadsafe(self._note)

    def check(self) -> None:
        """Raise CallCancelled if the call is to be stopped."""
        if self.requested:
            raise CallCancelled(f"{self._name} was cancelled")

    async def unless_requested(self, running: Awaitable[T], tell: Tell | None = None) -> T:
        """Await `running`; once the call is to be stopped, its last answer for some seconds.

        Args:
            running: what brings the answer; cancelled at the end.
            tell: has whoever runs the call stop; whether it could be told.

        Raises:
            CallCancelled: if it was to be stopped, and no answer came.
        """
        job: asyncio.Future[T] = asyncio.ensure_future(running)
        try:
            either: set[asyncio.Future[Any]] = {job, self._requested}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not job.done() and tell:
                await self._stopped(job, tell)
            if job.done() and not (self.requested and job.exception()):
                return job.result()
            raise CallCancelled(f"{self._name} was cancelled")
        except asyncio.CancelledError:  # the loop is stopping
            if tell:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(asyncio.ensure_future(tell()), _STOPPING)
            raise
        finally:
            job.cancel()

    async def _stopped(self, job: "asyncio.Future[Any]", tell: Tell) -> None:
        """Wait for the end of what is told to stop, some seconds in all."""
        end = self._loop.time() + _STOPPING
        told = asyncio.ensure_future(tell())
        try:
            await asyncio.wait({job, told}, timeout=_STOPPING, return_when=asyncio.FIRST_COMPLETED)
            if not job.done() and told.done() and told.result():
                await asyncio.wait({job}, timeout=max(0.0, end - self._loop.time()))
        finally:
            told.cancel()

    def _note(self) -> None:
        if not self._requested.done():
            self._requested.set_result(None)
