"""Runs one electron through the executor, as whoever the environment's credentials belong to.

Usage: python least_privilege.py KIND FUNCTION BUCKET

KIND is one of ELECTRONS, or a JSON list of requests to AWS, [service, operation, arguments] each,
to make from inside the function. Prints what came back, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from covalent._workflow.transport import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.base import Signals
from covalent.executor.utils.wrappers import wrapper_fn

LARGE = 9 * 1024 * 1024  # above boto3's threshold for transfers in parts, too
CANCEL_AFTER = 3.0
OUTCOME_SECONDS = 20.5  # handlers leave outcomes from 20 s on


def add(left: int, right: int) -> int:
    return left + right


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def large(size: int) -> bytes:
    return b"\x5a" * size


def wait(seconds: float) -> str:
    print("started", flush=True)
    time.sleep(seconds)
    return "slept"


def call_aws(*requests: tuple[str, str, dict[str, Any]]) -> list[str]:
    """Requests to AWS from inside the function, under its role: "ok", or the error's code."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    codes = []
    for service, operation, arguments in requests:
        made = boto3.client(service, config=Config(s3={"addressing_style": "path"}))
        try:
            getattr(made, operation)(**arguments)
            codes.append("ok")
        except ClientError as error:
            codes.append(str(error.response["Error"]["Code"]))
    return codes


ELECTRONS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "trivial": (add, [20, 22]),
    # New each time: warm environments keep what they have fetched.
    "large_argument": (digest, [os.urandom(LARGE)]),
    "large_result": (large, [LARGE]),
    "long": (wait, [OUTCOME_SECONDS]),
    "cancelled": (wait, [20.0]),
}


async def answer_for_a_server(executor: AWSLambdaExecutor) -> None:
    """Take what the executor tells Covalent's server, and say that nobody cancelled yet."""
    while True:
        signal, _ = await executor._send_queue.get()
        if signal == Signals.EXIT:
            return
        executor._recv_queue.put_nowait((True, False if signal == Signals.GET else None))


async def cancel_later(executor: AWSLambdaExecutor, dispatch_id: str) -> None:
    """Cancel as Covalent does, on an instance of its own."""
    await asyncio.sleep(CANCEL_AFTER)
    metadata = {"dispatch_id": dispatch_id, "node_id": 0}
    other = AWSLambdaExecutor(executor.function_name, executor.s3_bucket_name)
    await other.cancel(metadata, {"task_id": "not needed in the process that runs it"})


async def main(kind: str, function: str, bucket: str) -> None:
    executor = AWSLambdaExecutor(function, bucket)
    executor._init_runtime()
    listener = asyncio.create_task(answer_for_a_server(executor))
    if kind in ELECTRONS:
        work, arguments = ELECTRONS[kind]
    else:
        work, arguments = call_aws, json.loads(kind)
    dispatch_id = str(uuid.uuid4())
    if kind == "cancelled":
        cancelling = asyncio.create_task(cancel_later(executor, dispatch_id))
    started = time.monotonic()
    make = TransportableObject.make_transportable
    with tempfile.TemporaryDirectory() as results:
        output, stdout, stderr, status = await executor._execute(
            partial(wrapper_fn, make(work), [], []),
            [make(each) for each in arguments],
            {},
            dispatch_id,
            results,
            0,
        )
    listener.cancel()
    if kind == "cancelled":
        await cancelling
    value = output.get_deserialized() if output else None
    answer = {
        "value": digest(value) if isinstance(value, bytes) else value,
        "sent": [digest(each) for each in arguments if isinstance(each, bytes)],
        "stdout": stdout,
        "stderr": stderr,
        "status": str(status),
        "seconds": time.monotonic() - started,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
