"""Runs one electron through the executor alone, with no Covalent server.

Usage: python without_a_server.py ENDPOINT_URL
"""

import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from functools import partial
from typing import Any

from covalent._workflow.transport import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.base import Signals
from covalent.executor.utils.wrappers import wrapper_fn


def add(left: int, right: int) -> dict[str, Any]:
    print("adding on the laptop")
    return {"sum": left + right, "function": os.environ.get("AWS_LAMBDA_FUNCTION_NAME")}


async def answer_for_a_server(executor: AWSLambdaExecutor) -> None:
    """Take what the executor tells Covalent's server, and say that nobody cancelled."""
    while True:
        signal, _ = await executor._send_queue.get()
        if signal == Signals.EXIT:
            return
        executor._recv_queue.put_nowait((True, False if signal == Signals.GET else None))


async def main(endpoint_url: str) -> None:
    """Run `add(20, right=22)` and print what came back, as JSON."""
    executor = AWSLambdaExecutor(endpoint_url=endpoint_url)
    executor._init_runtime()
    listener = asyncio.create_task(answer_for_a_server(executor))
    function = partial(wrapper_fn, TransportableObject.make_transportable(add), [], [])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as results:
        output, stdout, stderr, status = await executor._execute(
            function,
            [TransportableObject.make_transportable(20)],
            {"right": TransportableObject.make_transportable(22)},
            str(uuid.uuid4()),
            results,
            0,
        )
    await listener
    answer = {
        "output": output.get_deserialized() if output else None,
        "stdout": stdout,
        "stderr": stderr,
        "status": str(status),
        "seconds": time.monotonic() - started,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
