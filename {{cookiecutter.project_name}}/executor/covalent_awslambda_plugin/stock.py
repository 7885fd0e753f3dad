"""The protocol of Covalent's stock image, for functions that somebody made from it by hand.

    (function, args, kwargs) ── pickle ──► S3 func-….pkl ─► Lambda ─► S3 result-….pkl
                                                                  or S3 exception-….json

The public plugin invokes asynchronously and polls S3: it cannot see a crash, and Lambda runs a
task that timed out two more times. Here the same event is sent synchronously, so a crash is seen
at once, nothing is repeated, and S3 is read once, when the answer is there.
"""

import asyncio
import contextlib
import io
import json
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import cloudpickle
from covalent._workflow.transportable_object import TransportableObject
from lambda_calls import messages, wire
from lambda_calls.aws.objects import Objects
from lambda_calls.aws.refusals import ConnectionLost, Refused, Unreachable
from lambda_calls.errors import LambdaCallError, OutcomeUnknownError
from lambda_calls.session import InvocationResponse, Session
from lambda_calls.threads import Threads

from .electron import is_covalents
from .errors import TaskFailedError

FUNC_FILENAME = "func-{dispatch_id}-{node_id}.pkl"
RESULT_FILENAME = "result-{dispatch_id}-{node_id}.pkl"
EXCEPTION_FILENAME = "exception-{dispatch_id}-{node_id}.json"

_FIRST_POLL = 0.1  # seconds; doubled up to the executor's poll_freq
_REFUSES_WITHIN = 3.0  # seconds; a call that is let in takes longer, or has ended by then
_CLEANS_FOR = 5.0  # seconds that a result waits at most for the end of its objects


def event(bucket: str, func: str, result: str, exception: str) -> dict[str, str]:
    """The stock handler's event."""
    return {
        "S3_BUCKET_NAME": bucket,
        "COVALENT_TASK_FUNC_FILENAME": func,
        "RESULT_FILENAME": result,
        "EXCEPTION_FILENAME": exception,
    }


def dump(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle an electron as the stock handler reads it; its result comes as a
    TransportableObject whatever `function` is."""
    return bytes(cloudpickle.dumps((_wrapped(function), *_transportable(args, kwargs))))


def load(data: bytes, key: str) -> Any:
    """Unpickle a stock result, which carries no digest: so nothing but Covalent's own container
    (and plain data) is let in. What the container holds is not opened here; whoever opens it
    trusts the bucket, as this protocol always has.

    Raises:
        ConfigurationError: if it is damaged, or asks for anything else; nothing of it was run.
    """

    class Container:
        """Stands in for Covalent's class, whose own attributes a pickle could set."""

    try:
        found = _Careful(io.BytesIO(data), key, Container).load()
    except LambdaCallError:
        raise
    except Exception as error:  # whatever damaged bytes come to
        raise messages.STOCK_NO_RESULT(key=key, said=error) from error
    if isinstance(found, Container):
        return TransportableObject.from_dict({"attributes": vars(found)})
    return found


def load_exception(data: bytes, key: str) -> Any:
    """What the stock handler says of an exception.

    Raises:
        ConfigurationError: if it is no JSON.
    """
    try:
        return wire.loads(data)
    except wire.EnvelopeError as error:
        raise messages.STOCK_NO_RESULT(key=key, said=error) from error


class _Careful(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, key: str, container: type) -> None:
        super().__init__(file)
        self._key, self._container = key, container

    def find_class(self, module: str, name: str) -> Any:
        # Covalent has had the class in several modules; pickles name one of them.
        if name == "TransportableObject" and module.partition(".")[0] == "covalent":
            return self._container
        raise messages.STOCK_NO_RESULT(key=self._key, said=f"it asks for {module}.{name}")


class NoStockImage(Exception):
    """The function has been deployed anew and answers envelopes: nothing of the electron ran."""


class StockRun:
    """One electron over the stock protocol.

    Args:
        session: the function.
        objects: the bucket.
        node: dispatch and node, which name the objects in S3.
        timeout: seconds for everything.
        poll_freq: longest seconds between looks at S3, after a lost connection.
    """

    def __init__(
        self,
        session: Session,
        objects: Objects,
        node: tuple[str, int],
        *,
        timeout: float,
        poll_freq: float,
    ) -> None:
        self._session, self._objects = session, objects
        self._timeout, self._poll_freq = timeout, poll_freq
        self._born = time.monotonic()
        self._sent = False  # if True, the electron may be running
        self._sent_at = 0.0
        names = {"dispatch_id": node[0], "node_id": node[1]}
        self._func = FUNC_FILENAME.format(**names)
        self._result = RESULT_FILENAME.format(**names)
        self._exception = EXCEPTION_FILENAME.format(**names)

    async def result(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the electron and return its TransportableObject.

        Raises:
            LambdaCallError: the class says what can be done.
            NoStockImage: if the function answers envelopes by now.
        """
        in_thread = self._session.process.requests.run
        # What an earlier run of the same electron left must not be taken for this one's.
        await in_thread(self._objects.delete, self._result, self._exception)
        data = await in_thread(dump, function, args, kwargs)
        try:
            await self._stored(data)
            await self._invoke()
            result = await self._collected()
        except (OutcomeUnknownError, asyncio.CancelledError):
            raise  # it may still be running, and needs its objects
        except BaseException:
            await self._clean_up()
            raise
        await self._clean_up()
        return result

    async def _stored(self, data: bytes) -> None:
        """Put the electron into the bucket, while there is time."""
        upload = self._session.process.transfers.run(
            self._objects.upload, self._func, io.BytesIO(data), len(data)
        )
        try:
            await asyncio.wait_for(upload, max(0.0, self._left()))
        except asyncio.TimeoutError as error:
            raise messages.UPLOAD_TOO_SLOW(
                call="electron", bucket=self._objects.bucket, seconds=self._timeout
            ) from error

    async def _clean_up(self) -> None:
        """Delete its objects: first, as another run may have the same names, but no result waits
        long for that."""
        deleted = asyncio.Event()
        loop = asyncio.get_running_loop()

        def delete() -> None:
            try:
                self._objects.delete(*self._names())
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(deleted.set)

        self._session.process.delete(delete)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(deleted.wait(), _CLEANS_FOR)

    async def _invoke(self) -> None:
        function = self._session.target.function
        payload = json.dumps(event(self._objects.bucket, *self._names())).encode()
        invoking = asyncio.ensure_future(self._invoked(payload))
        try:
            await asyncio.wait({invoking}, timeout=max(0.0, self._left()))
            if not invoking.done():  # Lambda may be about to say that it refuses
                recent = self._sent_at + _REFUSES_WITHIN - time.monotonic()
                await asyncio.wait({invoking}, timeout=max(0.0, recent))
            if not invoking.done():
                raise self._late()
            invocation = invoking.result()
        except ConnectionLost as lost:
            return await self._poll(lost)
        finally:
            invoking.cancel()
        if invocation.function_error:
            raise messages.of_crash(
                invocation.payload,
                invocation.log_tail,
                call="electron",
                function=function,
                option=self._session.target.advice.option,
                real=self._session.is_aws,
            )
        if b'"' + wire.MARK.encode() + b'"' in invocation.payload:
            raise NoStockImage

    def _late(self) -> LambdaCallError:
        function = self._session.target.function
        if self._sent:
            return messages.UNKNOWN(call="electron", function=function, said="timeout=")
        said = "its turn came too late"
        return messages.THROTTLED(
            call="electron", function=function, seconds=self._timeout, said=said
        )

    async def _poll(self, lost: ConnectionLost) -> None:
        """Wait for what the function leaves in S3, its answer being lost."""
        keys = (self._result, self._exception)
        threads = self._session.process.requests
        try:
            await poll(
                self._objects, threads, keys, timeout=self._left(), poll_freq=self._poll_freq
            )
        except TimeoutError as error:
            function = self._session.target.function
            raise messages.UNKNOWN(call="electron", function=function, said=lost) from error

    async def _invoked(self, payload: bytes) -> InvocationResponse:
        limiter, function = self._session.limiter, self._session.target.function
        while True:
            try:
                async with limiter.turn(self._born, self._left()):
                    self._sent, self._sent_at = True, time.monotonic()
                    return await self._session.invoke(payload, call="electron")
            except Unreachable as refusal:
                self._sent = False
                if not self._session.is_away(refusal, self._timeout, late=self._left() <= 0):
                    continue
                raise messages.UNREACHABLE(
                    call="electron", function=function, said=refusal
                ) from refusal
            except Refused as refusal:  # nothing ran
                self._sent = False
                if self._left() <= 0:
                    raise messages.THROTTLED(
                        call="electron", function=function, seconds=self._timeout, said=refusal
                    ) from refusal

    def _left(self) -> float:
        return self._born + self._timeout - time.monotonic()

    def _names(self) -> tuple[str, str, str]:
        return self._func, self._result, self._exception

    async def _collected(self) -> Any:
        in_thread = self._session.process.requests.run
        result = await in_thread(self._objects.get, self._result)
        if result is not None:
            return load(result, self._result)
        exception = await in_thread(self._objects.get, self._exception)
        if exception is None:
            raise messages.STOCK_NOTHING_LEFT(
                function=self._session.target.function,
                result=self._result,
                exception=self._exception,
                bucket=self._objects.bucket,
            )
        raise TaskFailedError(str(load_exception(exception, self._exception)))


async def poll(
    objects: Objects, threads: Threads, keys: Sequence[str], *, timeout: float, poll_freq: float
) -> str:
    """Wait until the bucket holds one of `keys`; that one.

    Args:
        objects: the bucket.
        threads: where it is asked.
        keys: of the objects.
        timeout: seconds in all.
        poll_freq: longest seconds between looks; the first come sooner.

    Raises:
        TimeoutError: if none came.
    """
    end, pause = time.monotonic() + timeout, _FIRST_POLL
    while time.monotonic() < end:
        for key in keys:
            if await threads.run(objects.exists, key):
                return key
        await asyncio.sleep(pause)
        pause = min(2 * pause, poll_freq)
    raise TimeoutError(f"none of {', '.join(keys)} in bucket {objects.bucket} after {timeout} s")


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    from covalent.executor.utils.wrappers import wrapper_fn

    if is_covalents(function):
        return function
    return partial(wrapper_fn, TransportableObject(function), [], [])


def _transportable(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    make = TransportableObject.make_transportable
    return [make(x) for x in args], {k: make(v) for k, v in kwargs.items()}


# -- the documented methods' bodies: files in a work directory, one S3 object each ----------------


def upload_file(objects: Objects, workdir: str, filename: str) -> None:
    """Put a file of `workdir` into the bucket under its own name."""
    with open(os.path.join(workdir, filename), "rb") as file:
        objects.upload(filename, file, os.fstat(file.fileno()).st_size)


def download_file(objects: Objects, workdir: str, filename: str) -> bytes:
    """Fetch an object into a file of `workdir`; its bytes.

    Raises:
        FileNotFoundError: if the bucket holds no such object.
    """
    data = objects.get(filename)
    if data is None:
        raise FileNotFoundError(f"There is no {filename} in bucket {objects.bucket}.")
    os.makedirs(workdir, exist_ok=True)
    with open(os.path.join(workdir, filename), "wb") as file:
        file.write(data)
    return data
