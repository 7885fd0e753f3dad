"""Lambda's execution environments, for the stand-in endpoint: forked from one warm process.

    endpoint ── "8\n" ──► this process, which has imported the handler
                               │ fork, 8 times
    endpoint ◄── socket ──► environment: one event, one call of the handler, one answer

Each environment runs one event at a time, has a temporary folder of its own, and decodes and
encodes JSON as Lambda's runtime client does. All have what a container that served before has in
memory: boto3 and numpy, that of the zygote, and what their own events imported.

Usage: python -m benchmarks.environment HANDLER SOCKET FOLDER, with the counts on standard input
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import time
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import memory
from .paths import BUCKET, EXECUTOR, FUNCTION, PUBLIC

EVENT, RESET, PEAK = b"E", b"R", b"P"
HEADER = struct.Struct(">cQ")
SECONDS = 900.0

Handler = Callable[[Any, Any], Any]


class Context:
    """What handlers read of Lambda's context object."""

    memory_limit_in_mb = 1769
    function_name = "benchmark"

    def __init__(self) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._end = time.monotonic() + SECONDS

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self._end - time.monotonic()))


def ours() -> Handler:
    """The generated project's handler: `app` is imported in each environment, where it forks."""
    sys.path.insert(0, str(FUNCTION))
    # Only for wire.py, which the image holds beside app.py; its html.py is not Python's.
    sys.path.append(str(EXECUTOR / "lambda_calls"))
    for name in ("boto3", "task_guard", "task_storage"):
        importlib.import_module(name)
    return lambda event, context: importlib.import_module("app").handler(event, context)


def ours_light() -> Handler:
    """Ours for more environments than this machine has cores: it looks for orders late.

    Our handler makes an S3 client when a task has run for two seconds, to look whether it was
    cancelled. On Lambda, where each environment has cores of its own, a task of a second has ended
    by then. Where a thousand share a few cores it has not, and a thousand clients of 20 MB and
    0.1 s of CPU each would be what is measured.
    """
    handler = ours()
    guard: Any = sys.modules["task_guard"]
    assert hasattr(guard, "FIRST_LOOK"), "the handler would look for orders as early as ever"
    guard.FIRST_LOOK = SECONDS
    return handler


def stock() -> Handler:
    """The handler of Covalent's stock image, which the public plugin's distribution carries.

    Changed in one point: it names /tmp itself, and never empties it; here that is each
    environment's own folder.
    """
    importlib.import_module("covalent.executor.utils.wrappers")  # its electrons are pickled so
    path = PUBLIC / "covalent_awslambda_plugin" / "exec.py"
    source, module = path.read_text("utf-8"), types.ModuleType("stock_handler")
    assert '"/tmp"' in source, "all environments would share the machine's /tmp"
    exec(compile(source.replace('"/tmp"', 'os.environ["TMPDIR"]'), path, "exec"), vars(module))
    return module.handler  # type: ignore[no-any-return]


def boto() -> Handler:
    """The same work with nothing around it: fetch, call by name, store."""
    return importlib.import_module("benchmarks.plain_function").handler  # type: ignore[no-any-return]


def lithops() -> Handler:
    return importlib.import_module(  # type: ignore[no-any-return]
        "lithops.serverless.backends.aws_lambda.entry_point"
    ).lambda_handler


def lithops_light() -> Handler:
    """Lithops' handler made to cost less CPU, for more environments than this machine has cores.

    On Lambda each has a core of its own; here a thousand share a few, and what is measured would
    be the sum of their work. So they keep one S3 client (Lithops makes two for each call), set up
    no log (three times), and run the task in a thread, as Lithops does where it cannot fork. What
    is read and stored stays.
    """
    handler = lithops()
    entry: Any = sys.modules[handler.__module__]
    storage: Any = importlib.import_module("lithops.storage.storage")
    section = {"region": "us-east-1", "storage_bucket": BUCKET, "user_agent": "lithops"}
    kept = storage.Storage(storage_config={"backend": "aws_s3", "aws_s3": section})
    storage.Storage = lambda **_: kept
    worker: Any = importlib.import_module("lithops.worker.handler")
    worker.is_unix_system = lambda: False
    entry.setup_lithops_logger = worker.setup_lithops_logger = lambda _: None
    return handler


HANDLERS: dict[str, Callable[[], Handler]] = {
    "ours": ours,
    "ours-light": ours_light,
    "stock": stock,
    "boto": boto,
    "lithops": lithops,
    "lithops-light": lithops_light,
}


def main(name: str, address: str, folder: str) -> None:
    own_tmp(Path(folder) / f"{name}-{os.getpid()}")  # modules make folders there when imported
    importlib.import_module("numpy")  # of the electrons with arrays
    handler = HANDLERS[name]()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    gc.collect()
    gc.freeze()  # collecting would copy every shared page
    for line in sys.stdin:
        for _ in range(int(line)):
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # handlers wait for children
                os.dup2(silence, 0)
                serve(name, handler, address, Path(folder))
                os._exit(0)


def serve(name: str, handler: Handler, address: str, folder: Path) -> None:
    """Serve one environment's events until the endpoint hangs up."""
    own_tmp(folder / f"{name}-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.connect(address)
        endpoint.sendall(name.encode() + b"\n")
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                kind, body = receive(endpoint)
                send(endpoint, *_answer(kind, body, handler))


_peak = memory.SharedPeak()


def own_tmp(folder: Path) -> None:
    """Lambda gives each environment a /tmp of its own; some modules looked for theirs already."""
    folder.mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    os.chdir(folder)
    worker = sys.modules.get("lithops.worker.handler")
    if worker is not None:
        assert hasattr(worker, "LITHOPS_TEMP_DIR"), "all environments would share one folder"
        worker.LITHOPS_TEMP_DIR = str(folder / "lithops")  # type: ignore[attr-defined]


def _answer(kind: bytes, body: bytes, handler: Handler) -> tuple[bytes, bytes]:
    if kind == RESET:
        gc.collect()
        return RESET, str(_peak.begin()).encode()
    if kind == PEAK:
        return PEAK, str(_peak.end()).encode()
    try:
        return EVENT, json.dumps(handler(json.loads(body), Context())).encode()
    except Exception as error:
        failure = {"errorMessage": str(error), "errorType": type(error).__name__}
        return b"X", json.dumps(failure).encode()


def send(endpoint: socket.socket, kind: bytes, body: bytes) -> None:
    endpoint.sendall(HEADER.pack(kind, len(body)))
    endpoint.sendall(body)


def receive(endpoint: socket.socket) -> tuple[bytes, bytes]:
    kind, size = HEADER.unpack(_exactly(endpoint, HEADER.size))
    return kind, _exactly(endpoint, size)


def _exactly(endpoint: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = endpoint.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return bytes(data)


if __name__ == "__main__":
    main(*sys.argv[1:4])
