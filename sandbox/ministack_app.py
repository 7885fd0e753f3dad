"""MiniStack whose functions' logs can be read while they run, as AWS's can.

By itself it writes the log of an invocation once that has ended.

    a local worker's stderr ──┐
                              ├──► Live: the invocation's log stream, a line at a time
    a container's output ─────┘

This replaces functions of MiniStack that it does not document. requirements/sandbox.txt holds the
version, and tests/unit/test_sandbox_live_logs.py fails with one that is made otherwise.

Usage: python -m hypercorn …/ministack_app.py:app
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

# hypercorn's. The modules of this folder are a package's, not to be found by their bare names.
sys.path.remove(str(Path(__file__).resolve().parent))

from ministack.app import app  # type: ignore[import-untyped]  # noqa: F401
from ministack.core import lambda_runtime  # type: ignore[import-untyped]
from ministack.core.responses import new_uuid  # type: ignore[import-untyped]
from ministack.services import cloudwatch_logs, lambda_svc  # type: ignore[import-untyped]

# Seconds until a container's output is followed: a shorter invocation's is read at its end.
_FOLLOW_AFTER = 0.5
# Begins the line that says that all before it was written by an invocation that has ended.
_MARK = f"\0{new_uuid()} "
_READ_SECONDS = 10.0  # far more than a busy machine needs to read a pipe


class Live:
    """The log stream of one invocation.

    The mutable state is what was written to it, by a thread that reads the function's output and
    then by the one that serves the invocation.

    Args:
        config: the function's, as MiniStack keeps it.
        request_id: the invocation's.
    """

    def __init__(self, config: Mapping[str, Any], request_id: str) -> None:
        version = config.get("Version", "$LATEST")
        chosen = (config.get("LoggingConfig") or {}).get("LogGroup")
        self._group = chosen or f"/aws/lambda/{config['FunctionName']}"
        self._name = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{version}]{new_uuid()}"
        cloudwatch_logs._create_log_group({"logGroupName": self._group})  # if there is none
        names = {"logGroupName": self._group, "logStreamName": self._name}
        cloudwatch_logs._create_log_stream(names)
        self._stream = cloudwatch_logs._log_groups[self._group]["streams"][self._name]
        self._lock = threading.Lock()
        self._is_closed = False
        self._events: list[dict[str, Any]] = []
        self._id = request_id
        # The emulator in a container writes it, too.
        self._start = f"START RequestId: {request_id}"
        self._append([f"{self._start} Version: {version}"])

    def write(self, lines: Iterable[str]) -> None:
        """Write lines as they come, unless it has ended."""
        with self._lock:
            if not self._is_closed:
                self._append(line for line in lines if not line.startswith(self._start))

    def close(self, lines: Iterable[str], milliseconds: int, memory: str) -> None:
        """Write what of all its lines was not written yet, and that it has ended."""
        with self._lock:
            self._is_closed = True
            written = Counter(event["message"] for event in self._events)
            for line in lines:
                if written[line]:
                    written[line] -= 1
                elif not line.startswith(self._start):
                    self._append([line])
            took = f"Duration: {milliseconds} ms\tBilled Duration: {milliseconds} ms"
            self._append_once(f"END RequestId: {self._id}")
            self._append_once(f"REPORT RequestId: {self._id}", f"\t{took}\t{memory}")
        cloudwatch_logs._fanout_to_subscription_filters(self._group, self._name, self._events)

    def _append_once(self, begins: str, rest: str = "") -> None:
        if not any(event["message"].startswith(begins) for event in self._events):
            self._append([begins + rest])

    def _append(self, lines: Iterable[str]) -> None:
        now = int(1000 * time.time())
        events = [{"timestamp": now, "message": line, "ingestionTime": now} for line in lines]
        self._events += events
        cloudwatch_logs._append_log_events(self._stream, events)


_live: ContextVar[Live | None] = ContextVar("live", default=None)
_dispatch = lambda_svc._execute_function_dispatch
_invoke = lambda_runtime.Worker.invoke
_drain = lambda_runtime.Worker._drain_stderr_bounded
_invoke_rie = lambda_svc._invoke_rie


def _dispatched(
    func: Any, config: Mapping[str, Any], event: Any, request_id: str, started: float
) -> Any:
    token = _live.set(Live(config, request_id))
    try:
        return _dispatch(func, config, event, request_id, started)
    finally:
        _live.reset(token)


def _ended(
    func: Any, request_id: str, log: str, error: bool, milliseconds: int, **_more: Any
) -> None:
    live = _live.get()
    assert live is not None
    size = (func.get("config") or func).get("MemorySize", 128)
    used = lambda_svc._probe_peak_memory_mb(func)
    memory = f"Memory Size: {size} MB\tMax Memory Used: {used} MB"
    live.close((log or "").splitlines(), milliseconds, memory)


def _invoked(worker: Any, *arguments: Any, **more: Any) -> Any:
    worker.live = _live.get()
    try:
        return _invoke(worker, *arguments, **more)
    finally:
        worker.live = None


def _stderr_read(worker: Any) -> None:
    """In a thread of each worker's."""
    lines = worker._stderr_queue
    for line in worker._proc.stderr:
        text, mark, number = line.rstrip("\n").partition(_MARK)
        live: Live | None = worker.live
        if text or not mark:
            if live is not None:
                live.write([text])
            lines.put(text)
        if mark:
            lines.put(mark + number)


def _drained(worker: Any, **bounds: float) -> str:
    """What the invocation that has just ended wrote: all that stands in the pipe before a mark.

    MiniStack waits for milliseconds. On a busy machine, the rest then went to the next invocation.
    """
    mark, lines = _MARK + new_uuid(), []
    try:
        with open(f"/proc/self/fd/{worker._proc.stderr.fileno()}", "w") as pipe:
            pipe.write(f"{mark}\n")
        while (line := worker._stderr_queue.get(timeout=_READ_SECONDS)) != mark:
            lines.append(line)
    except (AttributeError, OSError, queue.Empty):  # the worker has ended, or this is no Linux
        lines.append(_drain(worker, **bounds))
    return "\n".join(line for line in lines if not line.startswith(_MARK))


def _invoked_in_container(container: Any, event: Any, timeout: int, request_id: str) -> Any:
    live = _live.get()
    assert live is not None
    output = _Output(container, live)
    waiting = threading.Timer(_FOLLOW_AFTER, output.follow)
    waiting.daemon = True
    waiting.start()
    try:
        return _invoke_rie(container, event, timeout, request_id)
    finally:
        waiting.cancel()
        output.close()


class _Output:
    """What a container writes, followed in a thread until `close`."""

    def __init__(self, container: Any, live: Live) -> None:
        self._container, self._live = container, live
        self._since = time.time()
        self._lock = threading.Lock()
        self._is_closed = False
        self._stream: Any = None

    def follow(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._stream = self._container.logs(
                stdout=True, stderr=True, stream=True, follow=True, since=self._since
            )
        rest = b""
        for chunk in self._stream:
            *lines, rest = (rest + chunk).split(b"\n")
            self._live.write(line.decode("utf-8", "replace").rstrip("\r") for line in lines)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._stream is not None:
                self._stream.close()


lambda_svc._execute_function_dispatch = _dispatched
lambda_svc._emit_lambda_logs = _ended
lambda_svc._invoke_rie = _invoked_in_container
lambda_runtime.Worker.live = None
lambda_runtime.Worker.invoke = _invoked
lambda_runtime.Worker._read_stderr = _stderr_read
lambda_runtime.Worker._drain_stderr_bounded = _drained
