"""The function's handler in a process of its own, called as Lambda's runtime client calls it.

    test ── event, seconds ──► worker: app.handler(event, Context) ──► answer ── test
            (its descriptor 0)                                (its descriptor 1)

The worker's standard input and output carry the protocol, as those of MiniStack's local worker
do. The context is a stand-in for Lambda's: it has the three attributes that the handler reads.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from template_paths import FUNCTION, LAMBDA_CALLS

import wire

PATHS = [str(FUNCTION), str(LAMBDA_CALLS), *(str(Path(__file__).parents[x]) for x in (0, 1))]
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
