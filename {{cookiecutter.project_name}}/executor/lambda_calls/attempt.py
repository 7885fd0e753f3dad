"""One attempt at one call: sent once, and asked after where the connection is lost.

    parts too large ─► S3      a turn ─► request ─► Lambda ─► response
                                 │                    │ connection lost
                                 ▼                    ▼
                          refused: another turn    order in S3: "report"
                                                      │ acknowledged: it runs, wait for its outcome
                                                      └ silence: it does not run, say so

The request is built when its turn has come: what waits holds no copy of it, and function and
executor count the same time.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import messages, wire
from .asking import Asking
from .aws.refusals import ConnectionLost, NoDescriptors, NotNow, Refused, TooLate, Unreachable
from .call import Sendable
from .errors import (
    CallCancelled,
    CredentialsError,
    LambdaCallError,
    ResourceLimitError,
    UnreachableError,
)
from .mailbox import Mailbox
from .session import InvocationResponse, Session

# Seconds after which the outcome is looked for in S3 as well: handlers leave one there from 20 s
# on, and a proxy may have dropped an idle connection without notice.
_LOOK_AFTER = 30.0
_LOOK_EVERY = 10.0
# Seconds beyond the call's limit: its environment may have to start first (large images take tens
# of seconds after a deployment), and its answer to travel.
_GRACE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between looks
# How often a result is looked for that is not there, or is damaged: on its way, or for good.
_LOOKS = 4
# Seconds for which a result is fetched at least, however little of `timeout` is left.
_FETCHES_FOR = 60.0
_GIVING_UP = 10.0  # seconds that the order to stop a call that is given up may take
_TELLING = 5.0  # the same for one that is cancelled, which is to end soon


class StockImage(Exception):
    """The function runs Covalent's stock image: it failed before it ran anything."""


@dataclass(frozen=True)
class Limits:
    """What a call may take.

    Args:
        timeout: seconds for everything: waiting for a turn, running, answering.
        time_limit: seconds for running; None: only `timeout`.
        retries: how often a failed call is run again.
        waits_apart: whether `timeout` begins anew when its turn has come: one of a thousand calls
            may have waited long, and is to have its time all the same.
    """

    timeout: float
    time_limit: float | None = None
    retries: int = 0
    waits_apart: bool = False

    def by_name(self) -> dict[str, float]:
        """The limits in seconds, by the name of the executor's argument."""
        limits = {"timeout": self.timeout}
        return limits if self.time_limit is None else {**limits, "time_limit": self.time_limit}


class Attempt:
    """One call, run at most once.

    Args:
        session: function and bucket.
        call: what to send.
        limits: what it may take, from now on.
        task_id: names this attempt in S3.
        noun: what a call is for its caller ("call", "electron"), for messages.
    """

    def __init__(
        self, session: Session, call: Sendable, limits: Limits, *, task_id: str, noun: str
    ) -> None:
        self._session, self._call, self._limits = session, call, limits
        self.task_id, self._noun = task_id, noun
        self._born = time.monotonic()
        self._deadline = self._turn_until = self._born + limits.timeout
        self._secret = ""  # seals what the function leaves in S3; another one for each sending
        self.sent = False  # if True, the call may be running
        self.waited = 0.0  # seconds before it was sent
        self.sent_at = 0.0  # seconds since 1970; 0: not yet
        self.refusals: list[tuple[float, str]] = []  # when Lambda did not take it, and why
        self.log_tail = ""  # the end of the invocation's log, as AWS wrote it
        self._ended = self._stopping = self._kept = False
        self._mailbox = Mailbox(session, task_id)

    async def run(self) -> wire.Response:
        """Send the call and wait for its response.

        Raises:
            LambdaCallError: if no response comes; its class says what can be done.
            StockImage: if the function does not speak this protocol, before anything ran.
            CallCancelled: if it was cancelled before it could be sent.
        """
        again = False
        try:
            while True:
                async with self._stored(again) as blobs:
                    response = await self._sent(blobs)
                    while _failed_as(response, wire.STORAGE_BUSY):
                        await self._pause_for_storage(response)
                        response = await self._sent(blobs)
                if _failed_as(response, wire.BLOB_MISSING, wire.BLOB_TAMPERED) and not again:
                    again = True  # deleted, expired or overwritten: noticed before anything ran
                else:
                    self._note_objects(response)
                    return response
        except (StockImage, CallCancelled):
            raise
        except LambdaCallError:
            await self._give_up()
            raise
        except Exception as error:  # no defect of ours may leave a call without a typed ending
            await self._give_up()
            raise messages.defect(error, call=self._noun, sent=self.sent) from error

    async def cancel(self) -> None:
        """Ask the function to stop; it looks for the order while its call runs.

        Raises:
            LambdaCallError: if the order cannot be stored, or is not within some seconds; a
                request that is under way goes on all the same.
        """
        self._stopping = True
        if not self._mailbox.exists:
            function = self._session.target.function
            raise messages.NO_WAY_TO_TELL(call=self._noun, function=function)
        order = asyncio.ensure_future(self._mailbox.order(wire.CANCEL))
        try:
            await asyncio.wait({order}, timeout=_TELLING)
            if not order.done():
                raise messages.STORAGE_UNREACHABLE(
                    action="s3:PutObject",
                    bucket=self._session.target.bucket,
                    said=f"none within {_TELLING:g} s",
                )
            order.result()
        finally:
            _drop(order)

    async def fetch(self, blob: wire.Blob) -> str:
        """A part of the response that it did not carry itself, as base64 text.

        Tried again while `timeout` lasts; kept in the bucket if it cannot be had.

        Raises:
            ResultUnreadError: if it cannot be fetched for now.
            LambdaCallError: if it is not what was stored.
        """
        end = max(self._deadline, time.monotonic() + _FETCHES_FOR)
        objects, pause = self._session.objects, _FIRST_PAUSE
        looks_left = _LOOKS
        while True:
            try:
                return await self._session.process.transfers.run(objects.fetch, blob)
            except (wire.DigestMismatch, LambdaCallError) as error:
                passing = isinstance(error, (UnreachableError, CredentialsError))
                looks_left -= not passing
                if time.monotonic() > end or not looks_left or _is_final(error):
                    raise self._unread(blob, error) from error
                self._say(f"cannot fetch its result yet, trying again: {error}")
            await self._session.limiter.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def error_of(self, response: wire.Response) -> LambdaCallError:
        """The failure that the function reported, as an error.

        Args:
            response: this attempt's, with a failure.
        """
        assert response.failure is not None
        target = self._session.target
        return messages.of_failure(
            response.failure,
            response.usage,
            call=self._noun,
            function=target.function,
            limits=self._limits.by_name(),
            advice=target.advice,
            # With `waits_apart` its time began when it was sent.
            waited=0.0 if self._limits.waits_apart else self.waited,
        )

    def not_understood(self, said: object, payload: bytes = b"") -> LambdaCallError:
        """The error for an answer that is none; see `Session.not_understood`."""
        return self._session.not_understood(said, call=self._noun, payload=payload)

    def _unread(self, blob: wire.Blob, error: Exception) -> LambdaCallError:
        if isinstance(error, wire.DigestMismatch):
            return messages.RESULT_TAMPERED(call=self._noun, said=error)
        self._kept = True
        return messages.RESULT_UNREAD(
            call=self._noun, bucket=self._session.objects.bucket, key=blob.key, said=error
        )

    def clean_up(self) -> None:
        """Have deleted what this attempt left in the bucket, unless its call may still be running
        or its result was not read."""
        may_run = self.sent and not self._ended
        if not may_run and not self._kept:
            self._mailbox.clear()

    def _note_objects(self, response: wire.Response) -> None:
        if any(isinstance(part, wire.Blob) for part in (response.result, response.spread)):
            self._mailbox.note(wire.RESULT)
        if isinstance(response.text, wire.Blob):
            self._mailbox.note(wire.RESULT_TEXT)
        if response.failure and response.failure.kind == wire.RESULT_LOST:
            # One of them may have been stored before the other failed, or without its knowledge.
            self._mailbox.note(wire.RESULT)
            self._mailbox.note(wire.RESULT_TEXT)
        if response.usage.duration >= wire.LEAVE_OUTCOME_AFTER:
            self._mailbox.note(wire.OUTCOME)

    # -- sending it ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _stored(self, again: bool) -> AsyncIterator[Mapping[int, wire.Blob]]:
        """The parts that are too large for the request, in the bucket while the body runs."""
        large = self._call.leaving()
        if not large:
            yield {}
            return
        if not self._session.target.bucket:
            size = 3 * len(large[0]) // 4
            raise messages.BUCKET_NEEDED(call=self._noun, size=size)
        stored = self._session.blobs.stored(large, again=again, seconds=self._left())
        async with contextlib.AsyncExitStack() as stack:
            try:
                blobs = await stack.enter_async_context(stored)
            except TimeoutError as error:
                raise messages.UPLOAD_TOO_SLOW(
                    call=self._noun,
                    bucket=self._session.target.bucket,
                    seconds=self._limits.timeout,
                ) from error
            yield blobs

    async def _sent(self, blobs: Mapping[int, wire.Blob]) -> wire.Response:
        """The response to this call, sent when its turn has come; again while it is refused."""
        while True:
            try:
                left = self._turn_until - time.monotonic()
                async with self._session.limiter.turn(self._born, left):
                    await self._session.open()
                    limit = self._limit()
                    response = await self._awaited(self._payload(blobs, limit), limit)
                self._ended = True
                return response
            except Refused as refusal:
                self.sent = False
                if self._stopping:
                    raise CallCancelled("cancelled before it could be sent") from refusal
                self._refused(refusal)

    def _refused(self, refusal: Refused) -> None:
        """Raise if there is no use in waiting for another turn."""
        function = self._session.target.function
        if isinstance(refusal, Unreachable):
            if self._session.is_away(refusal, self._limits.timeout, late=self._is_late()):
                raise messages.UNREACHABLE(
                    call=self._noun, function=function, said=refusal
                ) from refusal
            if self._session.limiter.tells_outage():
                out = self._session.limiter.outage()
                self._say(f"cannot reach Lambda for {out:.0f} s, trying again: {refusal}")
        elif self._is_late():
            raise messages.THROTTLED(
                call=self._noun, function=function, seconds=self._limits.timeout, said=refusal
            ) from refusal
        elif isinstance(refusal, NotNow):
            self.refusals.append((time.time(), refusal.reason))
        elif isinstance(refusal, NoDescriptors):
            self._say(f"waits until this process has a free file descriptor: {refusal}")

    async def _pause_for_storage(self, response: wire.Response) -> None:
        said = response.failure.message if response.failure else ""
        # What is left after the pause has to be enough to read them.
        if self._turn_until - time.monotonic() <= 2 * _LONGEST_PAUSE:
            raise messages.STORAGE_BUSY(
                call=self._noun,
                function=self._session.target.function,
                seconds=self._limits.timeout,
                said=said,
            )
        self._say(f"sent again, since S3 was busy: {said}")
        await self._session.limiter.pause(_LONGEST_PAUSE)

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _is_late(self) -> bool:
        """Whether its turn should have come by now."""
        return time.monotonic() >= self._turn_until

    def _limit(self) -> float:
        """Seconds that the call may run, sent now: with `waits_apart` its time begins."""
        if self._limits.waits_apart:
            self._deadline = time.monotonic() + self._limits.timeout
        left = self._left()
        if left <= 0:
            raise TooLate("none: its turn came too late")
        return min(left, self._limits.time_limit or left)

    def _payload(self, blobs: Mapping[int, wire.Blob], limit: float) -> bytes:
        self._secret = secrets.token_hex(32)
        request = self._call.request(
            task_id=self.task_id,
            key=self._secret,
            bucket=self._session.target.bucket or "",
            limit=limit,
            blobs=blobs,
        )
        return request.to_json().encode()

    # -- waiting for its response ----------------------------------------------------------------

    async def _awaited(self, payload: bytes, limit: float) -> wire.Response:
        """The answer, or the outcome that the function left in S3, whichever comes first."""
        self.sent, self._ended = True, False
        self.waited = time.monotonic() - self._born
        self.sent_at = time.time()
        end = time.monotonic() + limit + _GRACE
        at_exit = self._session.process.at_exit
        at_exit.add(self._mailbox.order_to_stop)
        answer = asyncio.ensure_future(self._session.invoke(payload, call=self._noun))
        outcome: asyncio.Task[wire.Response] | None = None
        try:
            await asyncio.wait({answer}, timeout=min(_LOOK_AFTER, limit + _GRACE))
            if not answer.done() and self._mailbox.exists:
                outcome = asyncio.ensure_future(self._outcome_left())
                await asyncio.wait(
                    {answer, outcome},
                    timeout=max(0.0, end - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            elif not answer.done():
                await asyncio.wait({answer}, timeout=max(0.0, end - time.monotonic()))
            if outcome and outcome.done() and not answer.done():
                return outcome.result()
            if not answer.done():
                raise self._unknown("nor did it end the call in time")
            try:
                invocation = answer.result()
            except ConnectionLost as lost:
                if outcome:
                    outcome.cancel()
                return await self._reattached(lost, end)
            except LambdaCallError:
                self.sent = False  # refused for good: nothing ran
                raise
            return self._answered(invocation)
        finally:
            at_exit.discard(self._mailbox.order_to_stop)
            for job in filter(None, (answer, outcome)):
                _drop(job)

    def _answered(self, invocation: InvocationResponse) -> wire.Response:
        """The response that Lambda brought."""
        real = self._session.is_aws
        self.log_tail = invocation.log_tail if real else ""
        if invocation.payload and not invocation.function_error:
            return self._read(invocation.payload)
        self._ended = True
        if _is_stock(invocation):
            raise StockImage
        self._mailbox.note_all()  # whatever it had left by then
        raise messages.of_crash(
            invocation.payload,
            invocation.log_tail,
            call=self._noun,
            function=self._session.target.function,
            option=self._session.target.advice.option,
            real=real,
        )

    def _read(self, payload: bytes) -> wire.Response:
        try:
            response = wire.Response.from_json(wire.loads(payload))
        except wire.EnvelopeError as error:
            raise self.not_understood(error, payload) from error
        refused_unread = response.failure and response.failure.kind == wire.PROTOCOL_DIFFERS
        if response.task_id != self.task_id and not refused_unread:
            raise messages.NOT_OURS(
                call=self._noun,
                function=self._session.target.function,
                wanted=self.task_id,
                got=response.task_id,
                option=self._session.target.advice.option,
            )
        return response

    async def _outcome_left(self) -> wire.Response:
        """Wait until the function's outcome is in S3."""
        await asyncio.sleep(_LOOK_EVERY * random.random())  # a thousand do not look at once
        while True:
            with contextlib.suppress(LambdaCallError):  # the answer itself may still come
                response = await self._outcome()
                if response is not None:
                    return response
            await asyncio.sleep(_LOOK_EVERY * random.uniform(0.8, 1.2))

    async def _reattached(self, lost: ConnectionLost, end: float) -> wire.Response:
        """The outcome of a call whose connection is lost.

        Raises:
            OutcomeUnknownError: if the function does not say that the call runs.
        """
        if not self._mailbox.exists:
            raise self._unknown(lost) from lost
        self._say(f"its connection is lost, asking the function through S3: {lost}")
        asking, pause = Asking(lost.silence), _FIRST_PAUSE
        while time.monotonic() < end:
            asked = asyncio.ensure_future(self._asked(asking))
            try:
                # Not longer than the call may take, however long S3 is silent.
                await asyncio.wait({asked}, timeout=max(0.0, end - time.monotonic()))
                if not asked.done():
                    break
                response = asked.result()
            except (UnreachableError, CredentialsError, ResourceLimitError) as error:
                self._say(f"cannot ask yet: {error}")
                response = None
            except LambdaCallError as error:
                raise self._unknown(f"{lost}; {error}") from lost
            finally:
                _drop(asked)
            if response is not None:
                return response
            if asking.is_in_vain():
                silence = messages.NOT_RUNNING(
                    call=self._noun,
                    function=self._session.target.function,
                    said=lost,
                    seconds=asking.patience,
                )
                raise silence from lost
            await self._session.limiter.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise self._unknown(lost) from lost

    async def _asked(self, asking: Asking) -> wire.Response | None:
        """Ask once, and look once for what the function says."""
        if asking.is_due() and not self._stopping:
            await self._mailbox.order(asking.next_order())
            asking.asked()
        response = await self._outcome()
        if response is None and not asking.acknowledged:
            asking.acknowledged = await self._mailbox.acknowledged(asking.order, self._secret)
        return response

    async def _outcome(self) -> wire.Response | None:
        """What the function left in S3 as its answer, if anything."""
        left = await self._mailbox.outcome(self._secret)
        return None if left is None else self._read(left.encode())

    async def _give_up(self) -> None:
        """Have the function told to stop what may be running, and nobody waits for any more."""
        if self.sent and not self._ended and self._mailbox.exists:
            order = asyncio.ensure_future(self._mailbox.order(wire.CANCEL))
            order.add_done_callback(_retrieve)
            await asyncio.wait({order}, timeout=_GIVING_UP)

    def _unknown(self, said: object) -> LambdaCallError:
        function = self._session.target.function
        return messages.UNKNOWN(call=self._noun, function=function, said=said)

    def _say(self, text: str) -> None:
        said = wire.on_one_line(text)
        self._session.process.log.warning(f"{self._noun} {self.task_id}: {said}")


def _failed_as(response: wire.Response, *kinds: str) -> bool:
    return response.failure is not None and response.failure.kind in kinds


def _is_final(error: Exception) -> bool:
    """Whether to fetch a result again cannot help."""
    passing = (wire.DigestMismatch, UnreachableError, CredentialsError)
    is_missing = type(error) is messages.NO_OBJECT.error
    return not (isinstance(error, passing) or is_missing)


def _is_stock(invocation: InvocationResponse) -> bool:
    """Whether Covalent's stock handler failed on the envelope, as it must: its own variables are
    unbound when the event lacks its keys, so its error handler fails, before anything ran."""
    unbound = (b"local_exception_filename", b"s3")  # which one depends on Python's version
    payload = invocation.payload
    return b"UnboundLocalError" in payload and any(x in payload for x in unbound)


def _drop(job: "asyncio.Future[Any]") -> None:
    """Have a job end for which nobody waits any more."""
    if job.cancel():
        job.add_done_callback(_retrieve)
    else:
        _retrieve(job)


def _retrieve(job: "asyncio.Future[Any]") -> None:
    """Take note of what a job ended with that nobody waits for any more."""
    if not job.cancelled():
        job.exception()
