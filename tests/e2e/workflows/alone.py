"""Runs one electron through the executor alone, with no Covalent server."""

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from covalent._workflow.transport import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.base import Signals
from covalent.executor.utils.wrappers import wrapper_fn


async def run(
    executor: AWSLambdaExecutor,
    function: Callable[..., Any],
    *args: Any,
    cancel_after: float | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """What became of `function(*args, **kwargs)`, cancelled after so many seconds."""
    make = TransportableObject.make_transportable
    dispatch_id, started = str(uuid.uuid4()), time.monotonic()
    with _covalent_answered(executor), tempfile.TemporaryDirectory() as results:
        running = executor._execute(
            partial(wrapper_fn, make(function), [], []),
            [make(each) for each in args],
            {name: make(each) for name, each in kwargs.items()},
            dispatch_id,
            results,
            0,
        )
        cancelling = _cancel(executor, dispatch_id, cancel_after)
        (output, stdout, stderr, status), _ = await asyncio.gather(running, cancelling)
    return {
        "value": output.get_deserialized() if output else None,
        "stdout": stdout,
        "stderr": stderr,
        "status": str(status),
        "seconds": time.monotonic() - started,
    }


@contextlib.contextmanager
def _covalent_answered(executor: AWSLambdaExecutor) -> Iterator[None]:
    """In the block, answer the executor as Covalent's server does: nobody has cancelled yet."""

    async def answer() -> None:
        while True:
            signal, _ = await executor._send_queue.get()
            executor._recv_queue.put_nowait((True, False if signal == Signals.GET else None))

    executor._init_runtime()
    answering = asyncio.create_task(answer())
    try:
        yield
    finally:
        answering.cancel()


async def _cancel(executor: AWSLambdaExecutor, dispatch_id: str, seconds: float | None) -> None:
    """Cancel after so many seconds, as Covalent does: on an instance of its own."""
    if seconds is None:
        return
    await asyncio.sleep(seconds)
    metadata = {"dispatch_id": dispatch_id, "node_id": 0}
    other = AWSLambdaExecutor(executor.function_name, executor.s3_bucket_name)
    await other.cancel(metadata, {"task_id": "not needed in the process that runs it"})
