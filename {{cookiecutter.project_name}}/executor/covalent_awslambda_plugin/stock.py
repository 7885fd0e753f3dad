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
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import cloudpickle
from covalent._workflow.transportable_object import TransportableObject
from lambda_calls import wire

from . import failures
from .electron import is_covalents
from .errors import (
    AWSLambdaExecutorError,
    ConfigurationError,
    OutcomeUnknownError,
    TaskFailedError,
)
from .invoke import ConnectionLost, Unreachable
from .threads import in_thread
from .transport import Reply, Throttled, Transport

FUNC_FILENAME = "func-{dispatch_id}-{node_id}.pkl"
RESULT_FILENAME = "result-{dispatch_id}-{node_id}.pkl"
EXCEPTION_FILENAME = "exception-{dispatch_id}-{node_id}.json"

_FIRST_POLL = 0.1  # seconds; doubled up to the executor's poll_freq


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
        ConfigurationError: if the pickle asks for anything else; nothing of it was run.
    """

    class Container:
        """Stands in for Covalent's class, whose own attributes a pickle could set."""

    found = _Careful(io.BytesIO(data), key, Container).load()
    if isinstance(found, Container):
        return TransportableObject.from_dict({"attributes": vars(found)})
    return found


class _Careful(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, key: str, container: type) -> None:
        super().__init__(file)
        self._key, self._container = key, container

    def find_class(self, module: str, name: str) -> Any:
        # Covalent has had the class in several modules; pickles name one of them.
        if name == "TransportableObject" and module.partition(".")[0] == "covalent":
            return self._container
        raise ConfigurationError(
            f"S3 object {self._key} is no result of Covalent's stock image: it asks for "
            f"{module}.{name}. It was not loaded. Did somebody else write it?"
        )


class NoStockImage(Exception):
    """The function has been deployed anew and answers envelopes: nothing of the electron ran."""


class StockRun:
    """One electron over the stock protocol.

    Args:
        transport: the function and bucket.
        dispatch_id, node_id: name the objects in S3.
        timeout: seconds for everything.
        poll_freq: longest seconds between looks at S3, after a lost connection.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        dispatch_id: str,
        node_id: int,
        timeout: float,
        poll_freq: float,
    ) -> None:
        self._transport, self._timeout, self._poll_freq = transport, timeout, poll_freq
        names = {"dispatch_id": dispatch_id, "node_id": node_id}
        self._func = FUNC_FILENAME.format(**names)
        self._result = RESULT_FILENAME.format(**names)
        self._exception = EXCEPTION_FILENAME.format(**names)

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the electron and return its TransportableObject.

        Raises:
            AWSLambdaExecutorError: the class says what can be done.
        """
        # What an earlier run of the same electron left must not be taken for this one's.
        await in_thread(self._transport.delete, self._result, self._exception)
        data = await in_thread(dump, function, args, kwargs)
        await in_thread(self._transport.upload, self._func, io.BytesIO(data), len(data))
        try:
            await self._invoke()
            result = await self._collect()
        except (OutcomeUnknownError, asyncio.CancelledError):
            raise  # it may still be running, and needs its objects
        except BaseException:
            await self._clean_up()
            raise
        await self._clean_up()
        return result

    async def _clean_up(self) -> None:
        with contextlib.suppress(Exception):  # a result that came must not be lost over this
            await in_thread(self._transport.delete, *self._names())

    async def _invoke(self) -> None:
        payload = json.dumps(event(self._transport.bucket, *self._names())).encode()
        try:
            reply = await asyncio.wait_for(self._unthrottled(payload), self._timeout)
        except ConnectionLost as lost:
            keys = (self._result, self._exception)
            try:
                await poll(self._transport, keys, timeout=self._timeout, poll_freq=self._poll_freq)
            except TimeoutError as error:
                function = self._transport.function
                raise failures.unknown(function, self._timeout, lost) from error
            return
        except (asyncio.TimeoutError, TimeoutError) as error:
            function = self._transport.function
            raise failures.unknown(function, self._timeout, "timeout=") from error
        except Unreachable as refusal:
            raise failures.unreachable(self._transport.function, refusal) from refusal
        if reply.function_error:
            raise failures.of_crash(reply, self._transport.function)
        if b'"' + wire.MARK.encode() + b'"' in reply.payload:
            raise NoStockImage

    async def _unthrottled(self, payload: bytes) -> Reply:
        pause = _FIRST_POLL
        while True:
            try:
                return await self._transport.invoke(payload)
            except Throttled:  # nothing ran
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, self._poll_freq)

    def _names(self) -> tuple[str, str, str]:
        return self._func, self._result, self._exception

    async def _collect(self) -> Any:
        result = await in_thread(self._transport.get, self._result)
        if result is not None:
            return load(result, self._result)
        exception = await in_thread(self._transport.get, self._exception)
        if exception is None:
            raise AWSLambdaExecutorError(
                f"Function {self._transport.function} answered, but left neither {self._result} "
                f"nor {self._exception} in bucket {self._transport.bucket}. May its role write "
                "there (s3:PutObject)?"
            )
        raise TaskFailedError(str(json.loads(exception)))


async def poll(
    transport: Transport, keys: Sequence[str], *, timeout: float, poll_freq: float
) -> str:
    """Wait until the bucket holds one of `keys`; that one.

    Args:
        timeout: seconds in all.
        poll_freq: longest seconds between looks; the first come sooner.

    Raises:
        TimeoutError: if none came.
    """
    end, pause = time.monotonic() + timeout, _FIRST_POLL
    while time.monotonic() < end:
        for key in keys:
            if await in_thread(transport.exists, key):
                return key
        await asyncio.sleep(pause)
        pause = min(2 * pause, poll_freq)
    raise TimeoutError(f"none of {', '.join(keys)} in bucket {transport.bucket} after {timeout} s")


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


def upload_file(transport: Transport, workdir: str, filename: str) -> None:
    """Put a file of `workdir` into the bucket under its own name."""
    with open(os.path.join(workdir, filename), "rb") as file:
        transport.upload(filename, file, os.fstat(file.fileno()).st_size)


def download_file(transport: Transport, workdir: str, filename: str) -> bytes:
    """Fetch an object into a file of `workdir`; its bytes.

    Raises:
        FileNotFoundError: if the bucket holds no such object.
    """
    data = transport.get(filename)
    if data is None:
        raise FileNotFoundError(f"There is no {filename} in bucket {transport.bucket}.")
    os.makedirs(workdir, exist_ok=True)
    with open(os.path.join(workdir, filename), "wb") as file:
        file.write(data)
    return data
