"""Electrons run over real sockets: a stand-in Lambda answers, everything else is the product's."""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cloudpickle
from aws_server import AWS, Answer
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.utils.wrappers import wrapper_fn

import wire

METADATA: dict[str, Any] = {"dispatch_id": "dispatch", "node_id": 7}


def made(**arguments: Any) -> AWSLambdaExecutor:
    names = {"function_name": "fn", "s3_bucket_name": "bucket", "region": "eu-west-1"}
    return AWSLambdaExecutor(**{**names, **arguments})


def covalents(
    function: Callable[..., Any], before: Sequence[Any] = (), after: Sequence[Any] = ()
) -> Any:
    """`function` as Covalent's server passes it to `run`, with hooks."""
    return partial(wrapper_fn, TransportableObject(function), list(before), list(after))


def execute(
    executor: AWSLambdaExecutor, function: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    """Run an electron as Covalent's runner does: (result, stdout, stderr, status)."""
    return asyncio.run(under_covalent(executor, function, *args, **options))


async def under_covalent(
    executor: AWSLambdaExecutor,
    function: Callable[..., Any],
    *args: Any,
    cancelled: bool = False,
    dispatch_id: str = METADATA["dispatch_id"],
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
) -> Any:
    executor._init_runtime()

    async def watch() -> None:  # what Covalent's server does with an executor's messages
        while True:
            action, _ = await executor._send_queue.get()
            if str(action).endswith("EXIT"):
                return
            executor._recv_queue.put_nowait((True, cancelled if "GET" in str(action) else None))

    watching = asyncio.ensure_future(watch())
    try:
        return await executor._execute(
            covalents(function, before, after),
            [TransportableObject(x) for x in args],
            {},
            dispatch_id,
            "/tmp",
            7,
        )
    finally:
        watching.cancel()


def request_of(event: dict[str, Any]) -> wire.Request:
    return wire.Request.from_json(json.loads(event["payload"]))


async def invoked(aws: AWS) -> None:
    """Wait until the function has been invoked."""
    while not aws.posts:
        await asyncio.sleep(0.02)


def good(value: Any, **fields: Any) -> Answer:
    response = wire.Response(
        python="3.11.0",
        cloudpickle="3.1.2",
        result=wire.encode(cloudpickle.dumps(value)),
        text=str(value),
        **fields,
    )
    return Answer(payload=response.to_json())


def bad(kind: str, message: str = "m", **fields: Any) -> Answer:
    failure = wire.Failure(kind=kind, message=message, **fields)
    response = wire.Response(
        python="3.11.0",
        cloudpickle="3.1.2",
        failure=failure,
        stdout="so far\n",
        usage=wire.Usage(duration=1.5, memory_mb=512),
    )
    return Answer(payload=response.to_json())
