"""A stand-in for Lambda's Runtime API: hands events to one container and notes the times.

    container: awslambdaric ── GET next ──────► asked
                            ◄── event ───────── given
                            ── POST response ─► answered

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .lab import BenchmarkError

INVOCATION = "/2018-06-01/runtime/invocation/"
FUNCTION_SECONDS = 900.0


@dataclass(frozen=True)
class Invocation:
    """One event's way through the container, in seconds of `time.monotonic`.

    Attributes:
        asked: when the runtime client asked for an event.
        given: when the event was on its way to it.
        answered: when the whole answer was here.
        answer: what it answered with.
    """

    asked: float
    given: float
    answered: float
    answer: bytes

    @property
    def milliseconds(self) -> float:
        """From event to answer."""
        return 1000 * (self.answered - self.given)


class RuntimeApi:
    """The API for one container; `address` is what AWS_LAMBDA_RUNTIME_API must say."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.answers: queue.Queue[Invocation | str] = queue.Queue()
        # Of the event under way; the client may answer over another connection.
        self.asked = self.given = 0.0

    def run(self, event: bytes, seconds: float = 120.0) -> Invocation:
        """Have the container run one event.

        Raises:
            BenchmarkError: if it answers with an error, or not at all.
        """
        self.events.put(event)
        try:
            found = self.answers.get(timeout=seconds)
        except queue.Empty:
            raise BenchmarkError(f"no answer from the container after {seconds:.0f} s") from None
        if isinstance(found, str):
            raise BenchmarkError(f"the container answered with an error: {found}")
        return found


@contextmanager
def serving() -> Iterator[RuntimeApi]:
    """Serve the API on a free loopback port while the body runs."""
    server = _Server(("127.0.0.1", 0), _Requests)
    api = server.api = RuntimeApi(f"127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.events.put(None)  # lets go of a request that still waits
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    api: RuntimeApi

    def handle_error(self, *_: object) -> None:
        """Say nothing of containers that end in the middle of a request."""


class _Requests(BaseHTTPRequestHandler):
    """One of the runtime client's connections, which it keeps."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one piece

    server: _Server

    def do_GET(self) -> None:
        self.server.api.asked = time.monotonic()
        event = self.server.api.events.get()
        if event is None:
            self.close_connection = True
            return
        deadline = int(1000 * (time.time() + FUNCTION_SECONDS))
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Deadline-Ms": str(deadline),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:0:function:f",
        }
        self._write(200, event, headers)
        self.server.api.given = time.monotonic()
        self.wfile.flush()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answered = time.monotonic()
        self._write(202, b"", {})
        if self.path.startswith(INVOCATION) and self.path.endswith("/response"):
            times = self.server.api.asked, self.server.api.given, answered
            self.server.api.answers.put(Invocation(*times, body))
        else:  # the invocation's or the start's error
            self.server.api.answers.put(body.decode("utf-8", "replace"))

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
