"""One attempt at one electron over the direct path: a synchronous invocation.

parts too large ─► S3      envelope ─► gate ─► Lambda ─► Response
                                         │ waiting          │ lost on the way, or long:
                                         ▼                  ▼ its outcome in S3
                                  cancelled here     cancelled by a mark in S3
"""

import asyncio
import contextlib
import json
import math
import random
import secrets
import time
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from covalent._shared_files import logger
from covalent._shared_files.exceptions import TaskCancelledError
from lambda_calls import wire

from . import blobs, failures, shutdown
from .electron import Electron
from .errors import AWSLambdaExecutorError
from .gate import Gate
from .invoke import ConnectionLost, Unreachable
from .threads import in_thread
from .transport import Reply, Throttled, Transport

app_log = logger.app_log

# Seconds after which the outcome is looked for in S3 as well: handlers leave one there from 20 s
# on, and an idle connection may be dropped without notice (by a NAT gateway after 350 s).
_LOOK_AFTER = 30.0
_LOOK_EVERY = 10.0
# Seconds beyond the task's limit: its environment may have to start first (large images take tens
# of seconds after a deployment), and its answer to travel.
_GRACE = 60.0
# Seconds between attempts to connect at all, and for how long: no name or address that is merely
# wrong should take the whole timeout to be reported.
_RECONNECT_EVERY = 1.0
_CONNECT_WITHIN = 60.0

# Bytes: an outcome is an answer that Lambda would let through, with its seal.
_LARGEST_OUTCOME = 2 * wire.PAYLOAD_LIMIT

_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, Gate]] = WeakKeyDictionary()


class StockImage(Exception):
    """The function runs Covalent's stock image: it failed before it ran anything."""


class Attempt:
    """One electron, sent at most once.

    Args:
        transport: the function and bucket.
        task_id: names this attempt in S3.
        timeout: seconds for everything: waiting for a turn, running, answering.
        time_limit: seconds for running; None: only `timeout`.
    """

    def __init__(
        self, transport: Transport, *, task_id: str, timeout: float, time_limit: float | None
    ) -> None:
        self._transport, self.task_id = transport, task_id
        self._timeout, self._time_limit = timeout, time_limit
        self._key = secrets.token_hex(32)  # seals the outcome
        self._born = time.monotonic()
        self.sent = False  # if True, the electron may be running
        self.log_tail = ""  # the end of the invocation's log
        self._ended = self._stopping = False
        self._lost: Exception | None = None
        self._objects: set[str] = set()  # what of ours the bucket may hold

    async def run(self, electron: Electron) -> wire.Response:
        """Send `electron` and wait for its response.

        Raises:
            AWSLambdaExecutorError: if no response comes; its class says what can be done.
            StockImage: if the function does not speak this protocol, before anything ran.
        """
        large = electron.too_large()
        response = await self._send(electron, large)
        if response.failure and response.failure.kind in (wire.BLOB_MISSING, wire.BLOB_TAMPERED):
            # Deleted, expired or overwritten meanwhile, and noticed before anything ran. Another
            # key: an outcome that the first one left must not answer for the second.
            self._key, self._lost = secrets.token_hex(32), None
            response = await self._send(electron, large, again=True)
        self._ended = True
        self._note_objects(response)
        return response

    async def cancel(self) -> None:
        """Ask the function to stop; it looks for the mark while its task runs."""
        self._stopping = True
        self._objects.add(wire.ORDER)
        await in_thread(mark_cancelled, self._transport, self.task_id)

    async def fetch(self, blob: wire.Blob) -> str:
        """A part of the response that it did not carry itself, as base64 text.

        Raises:
            AWSLambdaExecutorError: if they cannot be had, or are not those that were stored.
        """
        try:
            return await in_thread(self._transport.fetch, blob)
        except wire.DigestMismatch as error:
            raise AWSLambdaExecutorError(
                f"The electron ran, but its result is lost: {error}"
            ) from error

    async def clean_up(self) -> None:
        """Delete what this attempt left in the bucket, unless its task may still be running."""
        may_run = self.sent and not self._ended
        if may_run or not self._objects:
            return
        keys = [wire.task_key(self.task_id, name) for name in sorted(self._objects)]
        with contextlib.suppress(Exception):  # the bucket's lifecycle removes what is left
            await in_thread(self._transport.delete, *keys)

    def _note_objects(self, response: wire.Response) -> None:
        for name, part in ((wire.RESULT, response.result), (wire.RESULT_TEXT, response.text)):
            if isinstance(part, wire.Blob):
                self._objects.add(name)
        if response.usage.duration >= wire.LEAVE_OUTCOME_AFTER:
            self._objects.add(wire.OUTCOME)

    # -- sending ------------------------------------------------------------------------------

    async def _send(
        self, electron: Electron, large: list[str], *, again: bool = False
    ) -> wire.Response:
        async with blobs.stored(self._transport, large, again=again) as placed:
            request = electron.request(
                task_id=self.task_id,
                key=self._key,
                bucket=self._transport.bucket,
                limit=self._limit(),
                blobs=placed,
            )
            return await self._answer(request.to_json().encode())

    def _left(self) -> float:
        return self._born + self._timeout - time.monotonic()

    def _limit(self) -> float:
        left = max(1.0, self._left())
        return left if self._time_limit is None else min(left, self._time_limit)

    async def _answer(self, payload: bytes) -> wire.Response:
        say = app_log.warning
        while True:
            try:
                async with _turn(self._gate(), self._born, self._left()):
                    return await self._invoke(payload)
            except (Throttled, Unreachable) as refusal:
                if self._stopping:
                    raise TaskCancelledError("cancelled before it could be sent") from refusal
                cause: Exception = refusal
            if isinstance(cause, Unreachable):
                if time.monotonic() > self._born + min(self._timeout, _CONNECT_WITHIN):
                    raise failures.unreachable(self._transport.function, cause) from cause
                say(f"{self.task_id}: cannot reach Lambda, trying again: {cause}")
                say = app_log.debug  # once a second otherwise
                await asyncio.sleep(_RECONNECT_EVERY * random.uniform(0.5, 1.5))
            elif self._left() <= 0:
                raise failures.throttled(self._transport.function, self._timeout, cause) from cause

    def _gate(self) -> Gate:
        gates = _gates.setdefault(asyncio.get_running_loop(), {})
        return gates.setdefault((self._transport.account, self._transport.function), Gate())

    # -- waiting ------------------------------------------------------------------------------

    async def _invoke(self, payload: bytes) -> wire.Response:
        """Invoke once, and take whichever comes first: the answer, or the outcome in S3."""
        self.sent = True
        jobs: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._reply(payload))}
        try:
            with shutdown.stopping(partial(mark_cancelled, self._transport, self.task_id)):
                return await self._first(jobs)
        except (Throttled, Unreachable):
            self.sent = False
            raise
        finally:
            for job in jobs:
                job.cancel()
                job.add_done_callback(_retrieve)

    async def _reply(self, payload: bytes) -> wire.Response:
        return await self._read(await self._transport.invoke(payload))

    async def _first(self, jobs: set["asyncio.Future[Any]"]) -> wire.Response:
        """The first answer; the search for the outcome joins `jobs` when it is due."""
        end = time.monotonic() + self._limit() + _GRACE
        waiting, seconds, looking = set(jobs), _LOOK_AFTER, False
        while True:
            seconds = min(seconds, end - time.monotonic())
            done, waiting = await asyncio.wait(
                waiting, timeout=max(0, seconds), return_when=asyncio.FIRST_COMPLETED
            )
            for job in done:
                try:
                    answer: wire.Response = job.result()
                    return answer
                except ConnectionLost as lost:
                    self._lost = lost
            if not looking:
                looking, seconds = True, math.inf
                search = asyncio.ensure_future(self._outcome())
                jobs.add(search)
                waiting.add(search)
            elif time.monotonic() >= end:
                cause = self._lost or "the function did not end the task in time either"
                raise failures.unknown(
                    self._transport.function, self._limit() + _GRACE, cause
                ) from self._lost

    async def _read(self, reply: Reply) -> wire.Response:
        self.log_tail = reply.log_tail
        if not reply.function_error and reply.payload:
            return self._response(reply.payload)
        words = await in_thread(self._last_words)
        if words is not None:
            return words
        self._ended = True
        if _is_stock(reply):
            raise StockImage
        raise failures.of_crash(reply, self._transport.function)

    def _response(self, payload: bytes) -> wire.Response:
        try:
            return wire.Response.from_json(json.loads(payload))
        except ValueError as error:
            raise failures.of_answer(payload, self._transport.function, error) from error

    async def _outcome(self) -> wire.Response:
        """Wait until the handler's outcome is in S3."""
        while True:
            words = await in_thread(self._last_words)
            if words is not None:
                return words
            await asyncio.sleep(_LOOK_EVERY)

    def _last_words(self) -> wire.Response | None:
        """What the handler left in S3, if anything; it blocks."""
        if not self._transport.bucket:
            return None
        key = wire.task_key(self.task_id, wire.OUTCOME)
        try:
            stored = self._transport.get(key, _LARGEST_OUTCOME)
        except Exception:  # no bucket here (`sam local`), no right to it, or no outcome of ours
            return None
        if stored is None:
            return None
        self._objects.add(wire.OUTCOME)
        try:
            return self._response(wire.unseal(stored, self._key).encode())
        except wire.DigestMismatch as error:
            if self._lost is None:
                return None  # a forgery must not end an electron whose answer may still come
            raise AWSLambdaExecutorError(f"S3 object {key} was not taken: {error}") from error


@contextlib.asynccontextmanager
async def _turn(gate: Gate, age: float, seconds: float) -> Any:
    try:
        await gate.enter(age, seconds)
    except TimeoutError as error:
        raise Throttled("none: it was never its turn") from error
    throttled = False
    try:
        yield
    except Throttled:
        throttled = True
        raise
    finally:
        gate.leave(throttled=throttled)


def mark_cancelled(transport: Transport, task_id: str) -> None:
    """Put the mark for which the function looks; it blocks."""
    transport.put(wire.task_key(task_id, wire.ORDER), wire.CANCEL.encode())


def _is_stock(reply: Reply) -> bool:
    """Whether Covalent's stock handler failed on the envelope, as it must: its own variables are
    unbound when the event lacks its keys, so its error handler fails, before anything ran."""
    unbound = (b"local_exception_filename", b"s3")  # which one depends on Python's version
    return b"UnboundLocalError" in reply.payload and any(x in reply.payload for x in unbound)


def _retrieve(job: "asyncio.Future[Any]") -> None:
    """Take note of what a job ended with that nobody waits for any more."""
    if not job.cancelled():
        job.exception()
