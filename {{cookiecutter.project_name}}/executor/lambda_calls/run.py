"""One call from its beginning to its result: its attempts.

Run.result ─► Attempt ─► Session ─► Lambda
    ▲            │ failed, and retries are left: another attempt
Cancellation     └ response ─► Result
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from . import usage, wire
from .attempt import Attempt, Limits
from .call import Call
from .cancellation import Cancellation
from .errors import FINAL, CallCancelled, LambdaCallError
from .session import Session


@dataclass(frozen=True)
class Result:
    """What a call returned, not unpickled.

    Args:
        pickled: base64 of the pickled return value.
        text: its `str()`.
        attrs: its `doc` and `name`.
        python, cloudpickle: versions that pickled it.
    """

    pickled: str
    text: str
    attrs: Mapping[str, str | None]
    python: str
    cloudpickle: str


@dataclass(frozen=True)
class Spread:
    """A fan-out electron's arguments, taken apart by the function.

    Args:
        items: the pickled `(args, kwargs)` of each item, in order.
        function: base64 of the pickled function of one item.
        keywords: base64 of the pickled dictionary of the arguments that all items get.
        options: what `fan_out` was told.
        python, cloudpickle: versions that pickled them.
    """

    items: list[bytes]
    function: str
    keywords: str
    options: Mapping[str, Any]
    python: str
    cloudpickle: str

    @staticmethod
    def of(frames: str, response: wire.Response) -> "Spread":
        """Read what the function answered.

        Raises:
            wire.EnvelopeError: if it is something else.
        """
        found: dict[int, list[bytes]] = {}
        for frame in wire.frames_of(frames):
            found.setdefault(frame.kind, []).append(frame.data)
        try:
            return Spread(
                items=found.get(wire.ITEM, []),
                function=wire.encode(found[wire.FUNCTION][0]),
                keywords=wire.encode(found[wire.SHARED][0]),
                options=_options(found[wire.OPTIONS][0]),
                python=response.python,
                cloudpickle=response.cloudpickle,
            )
        except KeyError as error:
            raise wire.EnvelopeError(f"a spread lacks a frame: {error}") from error


def _options(data: bytes) -> Mapping[str, Any]:
    said = wire.loads(data)
    if not isinstance(said, dict):
        raise wire.EnvelopeError("the options of a spread are not a dictionary")
    for name in ("batch", "max_workers"):
        value = said.get(name)
        if value is not None and not (type(value) is int and value >= 1):
            raise wire.EnvelopeError(f"a spread's {name} is {value!r}, expected 1 or more")
    return said


class Observer(Protocol):
    """Whoever is told how a call goes."""

    async def begins(self, task_id: str) -> bool:
        """An attempt is about to be sent; whether it still is wanted."""

    def answered(self, response: wire.Response, used: usage.Usage) -> None:
        """An attempt was answered, with a result or a failure."""

    def fails(self, error: LambdaCallError, retries_left: int) -> None:
        """An attempt failed, and another one follows."""

    def cannot_stop(self, error: LambdaCallError) -> None:
        """The call is cancelled, but its function could not be told, and runs on."""


class Run:
    """One call; for one event loop.

    Args:
        session: function and bucket.
        call: what to run.
        limits: what each attempt may take, and how many there may be.
        name: of the call; begins the names of its attempts in S3.
        noun: what a call is for its caller ("call", "electron"), for messages.
        observer: is told how it goes.
        cancellation: stops it.
    """

    def __init__(
        self,
        session: Session,
        call: Call,
        limits: Limits,
        *,
        name: str,
        noun: str,
        observer: Observer,
        cancellation: Cancellation,
    ) -> None:
        self._session, self._call, self._limits = session, call, limits
        self._name, self._noun, self._observer = name, noun, observer
        self._cancellation = cancellation

    async def result(self) -> Result | Spread:
        """Run the call, again if it fails and `retries` asks for it.

        Returns:
            Its value, or its items if it is a fan-out: then nothing of them ran yet.

        Raises:
            CallCancelled: if it was cancelled; the function has been told to stop.
            LambdaCallError: if there is no result; its class says what can be done.
            StockImage: if the function does not speak this protocol, before anything ran.
        """
        for retries_left in range(self._limits.retries, -1, -1):
            attempt = self._attempt()
            try:
                if not await self._observer.begins(attempt.task_id):
                    raise CallCancelled(f"{self._name} was cancelled before it was sent")
                response = await self._cancellation.unless_requested(
                    attempt.run(), partial(self._told, attempt)
                )
                self._observer.answered(response, usage.of(response.usage, attempt.log_tail))
                self._cancellation.check()
                return await self._opened(attempt, response)
            except FINAL:
                raise
            except LambdaCallError as error:
                if not retries_left:
                    raise
                self._observer.fails(error, retries_left)
            finally:
                attempt.clean_up()
        raise AssertionError("unreachable")

    def _attempt(self) -> Attempt:
        return Attempt(
            self._session,
            self._call,
            self._limits,
            task_id=f"{self._name}-{secrets.token_hex(4)}",
            noun=self._noun,
        )

    async def _told(self, attempt: Attempt) -> bool:
        """Whether the function could be told to stop; else it never began, or runs on."""
        if not attempt.sent:
            return False
        try:
            await attempt.cancel()
        except LambdaCallError as error:
            self._observer.cannot_stop(error)
            return False
        return True

    async def _opened(self, attempt: Attempt, response: wire.Response) -> Result | Spread:
        failure = response.failure
        if failure and failure.kind == wire.CANCELLED:
            raise CallCancelled(f"{attempt.task_id} was cancelled")
        if failure:
            raise attempt.error_of(response)
        if response.spread is not None:
            return await self._spread(attempt, response, response.spread)
        if response.result is None or response.text is None:
            raise attempt.not_understood("it holds neither a result nor a failure")
        pickled, text = response.result, response.text
        if not isinstance(pickled, str):
            pickled = await attempt.fetch(pickled)
        if not isinstance(text, str):
            text = wire.decode(await attempt.fetch(text)).decode("utf-8", "replace")
        return Result(pickled, text, response.attrs, response.python, response.cloudpickle)

    async def _spread(self, attempt: Attempt, response: wire.Response, part: wire.Part) -> Spread:
        frames = part if isinstance(part, str) else await attempt.fetch(part)
        try:
            return Spread.of(frames, response)
        except wire.EnvelopeError as error:
            raise attempt.not_understood(error) from error
