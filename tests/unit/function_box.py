"""The function's handler, called as Lambda's runtime calls it: in this process, or in a child.

The context is a stand-in for Lambda's: it has the three attributes that the handler reads.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
from template_paths import FUNCTION, LAMBDA_CALLS

import wire

LOADS = """
import json, sys
sys.path[:0] = {paths!r}
import app, function_box
event, seconds = json.load(sys.stdin)
print("ANSWER" + json.dumps(app.handler(event, function_box.Context(seconds))))
"""


class Context:
    """What the handler reads of Lambda's context object."""

    memory_limit_in_mb = 512
    aws_request_id = "request-1"

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self._end - time.monotonic()))


def part(value: Any) -> str:
    """`value` as an inline part."""
    return wire.encode(cloudpickle.dumps(value))


def request(function: Callable[..., Any], *args: Any, **fields: Any) -> wire.Request:
    """A request to call `function` with `args`; `fields` are the request's own."""
    fields.setdefault("python", platform.python_version())
    fields.setdefault("task_id", "dispatch-0-attempt")
    fields.setdefault("key", "the attempt's key")
    return wire.Request(
        cloudpickle=cloudpickle.__version__,
        function=part(function),
        args=[part(x) for x in args],
        **fields,
    )


def call(function: Callable[..., Any], *args: Any, seconds: float = 60, **fields: Any) -> Any:
    """Call the handler in this process; its response."""
    import app

    event = json.loads(request(function, *args, **fields).to_json())
    answer = json.loads(json.dumps(app.handler(event, Context(seconds))))
    return wire.Response.from_json(answer)


def call_in_child(
    function: Callable[..., Any], *args: Any, seconds: float = 60, **fields: Any
) -> "subprocess.CompletedProcess[str]":
    """Call the handler in a child process, for tasks that may kill it."""
    event = json.loads(request(function, *args, **fields).to_json())
    paths = [str(FUNCTION), str(LAMBDA_CALLS), str(Path(__file__).parent)]
    return subprocess.run(
        [sys.executable, "-c", LOADS.format(paths=paths)],
        input=json.dumps([event, seconds]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
