"""The function's handler in a process of its own, called as Lambda's runtime client calls it.

    test ── event, seconds ──► worker: app.handler(event, Context) ──► answer ── test
            (its descriptor 0)                                (its descriptor 1)

The worker's standard input and output carry the protocol, as those of MiniStack's local worker
do. The context is a stand-in for Lambda's: it has the three attributes that the handler reads.
"""

import builtins
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aws_server
import cloudpickle
from secret_keys import SECRET_KEY, SESSION_TOKEN
from template_paths import FUNCTION, LAMBDA_CALLS

import wire

_HERE = Path(__file__).parent
# The handler's, and those of the tests' own modules, which their electrons may name.
PATHS = [str(x) for x in (FUNCTION, LAMBDA_CALLS, _HERE, _HERE / "function", _HERE.parent)]
SERVING = """
import app
class Context:
    memory_limit_in_mb, aws_request_id = 512, "request-1"
    def __init__(self, milliseconds):
        import time
        self.end = time.monotonic() + milliseconds / 1000
    def get_remaining_time_in_millis(self):
        import time
        return int(1000 * (self.end - time.monotonic()))
import json, sys
for line in sys.stdin:
    event, seconds = json.loads(line)
    sys.stdout.write(json.dumps(app.handler(event, Context(1000 * seconds))) + "\\n")
    sys.stdout.flush()
"""
WORKER = f"import sys; sys.path[:0] = {PATHS[:1]!r}; sys.path += {PATHS[1:]!r}\n{SERVING}"


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


def returned(response: wire.Response) -> Any:
    """The value that an electron returned."""
    assert response.failure is None, response.failure
    assert isinstance(response.result, str)
    return cloudpickle.loads(wire.decode(response.result))


class Function:
    """One environment of the function. Use it in a `with` statement.

    Args:
        folder: its /tmp, beside which the file for its log lies.
        command: what serves; None: the handler of this tree, on this Python.
        environment: variables beside PATH.
    """

    def __init__(
        self, folder: Path, command: Sequence[str] | None = None, **environment: str
    ) -> None:
        self.folder, self._command = folder, command or [sys.executable, "-c", WORKER]
        self._environment = environment
        opened, path = tempfile.mkstemp(suffix=".log", dir=folder.parent)
        os.close(opened)
        self.log_file = Path(path)

    def __enter__(self) -> "Function":
        self.folder.mkdir(exist_ok=True)
        defaults = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.folder),
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "default::DeprecationWarning",
        }
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**defaults, **self._environment},
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    @property
    def log(self) -> str:
        """What the environment wrote to its log."""
        return self.log_file.read_text("utf-8", "replace")

    @property
    def tasks(self) -> Path:
        """Where the folders of its tasks lie."""
        (environment,) = self.folder.glob("covalent-*")
        return environment / "tasks"

    def handle(self, event: Any, seconds: float = 60) -> Any:
        """The handler's answer to any event."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([event, seconds]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the environment has ended:\n{self.log}"
        return json.loads(line)

    def call(
        self, function: Callable[..., Any], *args: Any, seconds: float = 60, **fields: Any
    ) -> wire.Response:
        """Run an electron; its response."""
        event = json.loads(request(function, *args, **fields).to_json())
        return wire.Response.from_json(self.handle(event, seconds))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `work` took, and what it returned."""
    started = time.monotonic()
    value = work()
    return time.monotonic() - started, value


def with_bucket(aws: aws_server.AWS, folder: Path) -> Function:
    """A new environment that finds its bucket on the server."""
    return Function(
        folder,
        AWS_ENDPOINT_URL=aws.url,
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN=SESSION_TOKEN,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )


def stored_argument(aws: aws_server.AWS, value: Any) -> wire.Blob:
    data = wire.decode(part(value))
    blob = wire.blob(data)
    aws.objects[f"/bucket/{blob.key}"] = data
    return blob


def of_a_script(function: Callable[..., Any]) -> Any:
    """The function as a script has it, which names no module of these tests."""
    known = {"__name__": "__main__", "__builtins__": builtins}
    return types.FunctionType(function.__code__, known)


def batch_response(
    running: Function, function: Callable[..., Any], calls: list[Any], **fields: Any
) -> wire.Response:
    """The response to a batch of calls, given by their arguments."""
    seconds = fields.pop("seconds", 60)
    frames = [
        wire.Frame(wire.ITEM, number, cloudpickle.dumps((arguments, {})))
        for number, arguments in enumerate(calls)
    ]
    event = wire.Batch(
        task_id="dispatch-0-attempt",
        key="the attempt's key",
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        function=part(of_a_script(function)),
        calls=wire.encode(b"".join(x.to_bytes() for x in frames)),
        count=len(calls),
        **fields,
    )
    return wire.Response.from_json(running.handle(json.loads(event.to_json()), seconds))


def batch(
    running: Function, function: Callable[..., Any], calls: list[Any], **fields: Any
) -> list[Any]:
    """What a batch's calls, given by their arguments, returned, in the order of their ends."""
    response = batch_response(running, function, calls, **fields)
    assert response.failure is None, response.failure
    assert isinstance(response.result, str)
    told = wire.frames_of(response.result)
    return [cloudpickle.loads(x.data) for x in told if x.kind == wire.VALUE]
