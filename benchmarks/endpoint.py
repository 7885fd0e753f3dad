"""A stand-in for Lambda's and S3's endpoints that runs the handlers for real.

    client ── HTTP ──► this server ── socket ──► an environment (benchmarks.environment)
                          │  ▲                        │
                          ▼  └────── HTTP: its S3 ◄───┘
                        objects, in memory

It stands for AWS where AWS cannot be: each request takes a set latency more, every environment
runs one event at a time, and S3 knows whole objects, ranges and uploads in parts. It checks
neither signatures nor limits. All contenders talk to the same one.

Usage: python -m benchmarks.endpoint PORT LATENCY_MS FOLDER
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import uvicorn

from . import open_files
from .environment import EVENT, HEADER, PEAK, RESET

INVOCATIONS = "/2015-03-31/functions/"
CONTROL = "/_benchmark/"
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
CHUNK = 1024 * 1024
# S3 lists no more keys in one answer; the next ones cost another request.
PAGE = 1000
LOG = base64.b64encode(
    b"REPORT RequestId: 0\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 1769 MB\t"
    b"Max Memory Used: 64 MB\t\n"
)

CALLS = b'"calls":'  # in the event of a batch
LITHOPS_CALL = b'"call_ids"'  # in that of a call of Lithops
TASK_ID = re.compile(rb'("task_id": ?")([^"]*)')

Headers = dict[str, str]
Reply = tuple[int, Headers, bytes]


class Function:
    """One function's environments."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self._idle: deque[Environment] = deque()
        self._wanted: deque[asyncio.Future[Environment]] = deque()
        self.environments = 0
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.environment", name, address, str(folder)],
            stdin=subprocess.PIPE,
            text=True,
        )

    async def prepare(self, count: int) -> None:
        """Have at least `count` environments."""
        missing = count - self.environments
        if missing > 0:
            self._start(missing)
        taken = [await self._take() for _ in range(count)]
        for environment in taken:
            self._give_back(environment)

    async def ask(self, kind: bytes, body: bytes) -> tuple[bytes, bytes]:
        """One environment's answer; a new one is started where all are busy and waited for."""
        environment = await self._take()
        answer = await environment.ask(kind, body)
        self._give_back(environment)
        return answer

    def joined(self, environment: Environment) -> None:
        """A new environment has connected."""
        self._give_back(environment)

    def stop(self) -> None:
        """End the zygote; environments end when their connection does."""
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait(10)

    def _start(self, count: int) -> None:
        self.environments += count
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(f"{count}\n")
        self._zygote.stdin.flush()

    async def _take(self) -> Environment:
        if self._idle:
            return self._idle.popleft()  # the one that rested longest: all of them take part
        future: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        self._wanted.append(future)
        if len(self._wanted) > self.environments:
            self._start(1)
        return await future

    def _give_back(self, environment: Environment) -> None:
        if self._wanted:
            self._wanted.popleft().set_result(environment)
        else:
            self._idle.append(environment)


@dataclass
class Environment:
    """The connection to one environment."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, kind: bytes, body: bytes) -> tuple[bytes, bytes]:
        self.writer.write(HEADER.pack(kind, len(body)))
        self.writer.write(body)
        kind, size = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        return kind, await self.reader.readexactly(size)


@dataclass(frozen=True)
class Record:
    """What a function once did.

    Args:
        answer: what it said.
        folder: where a call of Lithops leaves what its caller reads; empty for others.
        stored: what it left there, by path.
    """

    answer: bytes
    folder: str = ""
    stored: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Endpoint:
    """The state of both services.

    Attributes:
        latency: seconds that every request takes more.
        objects: what S3 holds, by path.
        uploads: parts by upload id.
        received: bytes of all bodies so far.
        requests: number of requests so far, by method and service.
    """

    latency: float
    folder: Path
    address: str = ""
    functions: dict[str, Function] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    received: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    events: set[asyncio.Task[Any]] = field(default_factory=set)
    records: dict[tuple[str, bool, bool], asyncio.Task[Record]] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        body = _plain(await _read(receive), headers)
        path = unquote(scope["path"])
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        if path.startswith(CONTROL):
            reply = await self._control(path[len(CONTROL) :], body)
        else:
            reply = await self._serve(scope["method"], path, query, headers, body)
        await _reply(send, scope["method"], reply)

    async def _serve(
        self, method: str, path: str, query: dict[str, list[str]], headers: Headers, body: bytes
    ) -> Reply:
        service = "lambda" if path.startswith(INVOCATIONS) else "s3"
        self.received += len(body)
        name = f"{service} {method}"
        self.requests[name] = self.requests.get(name, 0) + 1
        if self.latency:
            await asyncio.sleep(self.latency)
        if service == "lambda":
            return await self._invoke(path[len(INVOCATIONS) :].split("/")[0], headers, body)
        return S3[method](self, path, query, headers, body)

    # -- Lambda ----------------------------------------------------------------------------------

    def function(self, name: str) -> Function:
        if name not in self.functions:
            self.functions[name] = Function(name, self.address, self.folder)
        return self.functions[name]

    async def _invoke(self, name: str, headers: Headers, body: bytes) -> Reply:
        running = self._answer(name, body)
        if headers.get("x-amz-invocation-type") == "Event":
            task = asyncio.ensure_future(running)
            self.events.add(task)
            task.add_done_callback(self.events.discard)
            return 202, {}, b""
        kind, answer = await running
        said = {} if kind == EVENT else {"X-Amz-Function-Error": "Unhandled"}
        if headers.get("x-amz-log-type") == "Tail":
            said["X-Amz-Log-Result"] = LOG.decode()
        return 200, {"Content-Type": "application/json", **said}, answer

    async def _answer(self, name: str, body: bytes) -> tuple[bytes, bytes]:
        """A function's answer, or the one that it once gave.

        1,000 environments on a few cores need seconds of their own. `ours@1000` shows the client
        alone: the answer is a recorded one, after a wait of 1,000 ms. With `ours~1000` that holds
        for calls of a batch; what takes a fan-out's argument apart runs. What Lithops' handler
        stored is stored again, under the new call's name.
        """
        function, _, milliseconds = name.replace("~", "@").partition("@")
        if "@" not in name and not ("~" in name and CALLS in body):
            return await self.function(function).ask(EVENT, body)
        kind = function, CALLS in body, LITHOPS_CALL in body
        if kind not in self.records:
            self.records[kind] = asyncio.ensure_future(self._recorded(function, body))  # once
        record = await self.records[kind]
        await asyncio.sleep(int(milliseconds) / 1000)
        if record.stored:
            self.objects.update(_stored_again(record, body))
        return EVENT, _renamed(record.answer, body)

    async def _recorded(self, function: str, event: bytes) -> Record:
        _, answer = await self.function(function).ask(EVENT, event)
        if LITHOPS_CALL not in event:
            return Record(answer)
        own = _folder(_lithops_call(event))
        return Record(answer, own, {path: x for path, x in self.objects.items() if own in path})

    # -- S3 --------------------------------------------------------------------------------------

    def get(self, path: str, query: dict[str, list[str]], headers: Headers, body: bytes) -> Reply:
        if path.count("/") == 1 or path.endswith("/"):
            # Whether the bucket exists is asked without a query.
            return 200, {}, _listing(self.objects, path.strip("/"), query) if query else b""
        if path not in self.objects:
            return _missing("NoSuchKey")
        data = self.objects[path]
        said = {"ETag": '"0"', "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"}
        if "range" not in headers:
            return 200, said, data
        first, _, last = headers["range"].partition("=")[2].partition("-")
        end = min(int(last or len(data)), len(data) - 1)
        said["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
        return 206, said, data[int(first) : end + 1]

    def put(self, path: str, query: dict[str, list[str]], headers: Headers, body: bytes) -> Reply:
        etag = {"ETag": f'"{len(body)}"'}
        if "uploadId" in query:
            self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            return 200, etag, b""
        if headers.get("if-none-match") == "*" and path in self.objects:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        self.objects[path] = body
        return 200, etag, b""

    def post(self, path: str, query: dict[str, list[str]], headers: Headers, body: bytes) -> Reply:
        bucket, _, key = path.strip("/").partition("/")
        names = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        if "uploads" in query:
            name = uuid.uuid4().hex
            self.uploads[name] = {}
            return (
                200,
                {},
                _xml("InitiateMultipartUploadResult", f"{names}<UploadId>{name}</UploadId>"),
            )
        if "uploadId" in query:
            parts = self.uploads.pop(query["uploadId"][0])
            self.objects[path] = b"".join(parts[number] for number in sorted(parts))
            return 200, {}, _xml("CompleteMultipartUploadResult", f"{names}<ETag>0</ETag>")
        if "delete" in query:
            for gone in ElementTree.fromstring(body).iter(f"{{{NAMESPACE}}}Key"):
                self.objects.pop(f"/{bucket}/{gone.text}", None)
            return 200, {}, _xml("DeleteResult", "")
        return 501, {}, b""

    def delete(
        self, path: str, query: dict[str, list[str]], headers: Headers, body: bytes
    ) -> Reply:
        self.objects.pop(path, None)
        return 204, {}, b""

    # -- the benchmarks' own requests ------------------------------------------------------------

    async def _control(self, what: str, body: bytes) -> Reply:
        said: Any = json.loads(body) if body else {}
        if what == "prepare":
            await self.function(said["function"]).prepare(said["count"])
            return 200, {}, b"{}"
        if what == "memory":
            kind = RESET if said["reset"] else PEAK
            _, answer = await self.function(said["function"]).ask(kind, b"")
            return 200, {}, answer
        if what == "clear":
            self.objects.clear()
            self.received, self.requests = 0, {}
            return 200, {}, b"{}"
        counts = {"received": self.received, "requests": self.requests, "now": time.time()}
        return 200, {}, json.dumps(counts).encode()


Method = Callable[[Endpoint, str, dict[str, list[str]], Headers, bytes], Reply]
S3: dict[str, Method] = {
    "GET": Endpoint.get,
    "HEAD": Endpoint.get,
    "PUT": Endpoint.put,
    "POST": Endpoint.post,
    "DELETE": Endpoint.delete,
}


def _renamed(answer: bytes, event: bytes) -> bytes:
    """A recorded answer as that to `event`, whose name ours repeats."""
    name = TASK_ID.search(event)
    if name is None:
        return answer
    return TASK_ID.sub(lambda found: found[1] + name[2], answer, count=1)


def _stored_again(record: Record, event: bytes) -> dict[str, bytes]:
    """What a recorded call of Lithops has stored, as that of the call of `event`."""
    new = _lithops_call(event)
    folder = _folder(new)
    return {
        path.replace(record.folder, folder): json.dumps({**json.loads(data), **new}).encode()
        if data
        else b""
        for path, data in record.stored.items()
    }


def _lithops_call(event: bytes) -> dict[str, str]:
    """What names a call of Lithops."""
    said = json.loads(event)
    (number,) = said["call_ids"]
    return {"executor_id": said["executor_id"], "job_id": said["job_id"], "call_id": number}


def _folder(call: dict[str, str]) -> str:
    """Where a call of Lithops leaves what its caller reads."""
    return "/{executor_id}-{job_id}/{call_id}".format(**call)


def _listing(objects: dict[str, bytes], bucket: str, query: dict[str, list[str]]) -> bytes:
    prefix = query.get("prefix", [""])[0]
    after = query.get("continuation-token", [""])[0]
    keys = sorted(
        path[len(bucket) + 2 :] for path in objects if path.startswith(f"/{bucket}/{prefix}")
    )
    rest = [key for key in keys if key > after]
    page = rest[: min(PAGE, int(query.get("max-keys", [str(PAGE)])[0]))]
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[f'/{bucket}/{key}'])}</Size>"
        "<ETag>0</ETag><LastModified>2026-11-22T12:00:00.000Z</LastModified></Contents>"
        for key in page
    )
    head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
    more = "<IsTruncated>false</IsTruncated>"
    if len(page) < len(rest):
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        more = f"<IsTruncated>true</IsTruncated>{token}"
    count = f"<KeyCount>{len(page)}</KeyCount>"
    return _xml("ListBucketResult", head + count + more + found)


def _xml(name: str, inner: str) -> bytes:
    return f'<{name} xmlns="{NAMESPACE}">{inner}</{name}>'.encode()


def _missing(code: str) -> Reply:
    return 404, {}, f"<Error><Code>{code}</Code><Message>no such key</Message></Error>".encode()


def _plain(body: bytes, headers: Headers) -> bytes:
    """The body without the chunks that botocore signs one by one."""
    if not headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
        return body
    parts: list[bytes] = []
    start = 0
    while True:
        line = body.index(b"\r\n", start)
        size = int(body[start:line].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        start = line + 2 + size + 2


async def _read(receive: Callable[[], Awaitable[Any]]) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _reply(send: Callable[[Any], Awaitable[None]], method: str, reply: Reply) -> None:
    status, headers, body = reply
    headers = {"Content-Length": str(len(body)), "x-amzn-RequestId": "0", **headers}
    encoded = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    body = b"" if method == "HEAD" else body
    for start in range(0, max(1, len(body)), CHUNK):
        await send(
            {
                "type": "http.response.body",
                "body": body[start : start + CHUNK],
                "more_body": start + CHUNK < len(body),
            }
        )


@asynccontextmanager
async def _environments(endpoint: Endpoint) -> Any:
    """Take connections of environments while the body runs."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        endpoint.function(name).joined(Environment(reader, writer))

    digest = hashlib.sha256(str(endpoint.folder).encode()).hexdigest()[:12]
    endpoint.address = f"/tmp/bench-{os.getpid()}-{digest}.sock"  # a socket's name is short
    server = await asyncio.start_unix_server(join, endpoint.address, backlog=2048, limit=CHUNK)
    try:
        yield
    finally:
        for function in endpoint.functions.values():
            function.stop()
        server.close()
        os.unlink(endpoint.address)


async def serve(port: int, latency: float, folder: Path) -> None:
    """Serve on a loopback port until the process is told to end."""
    # uvicorn ends by the signal that it got, unless that does nothing: then what stands behind
    # this server would not be ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    endpoint = Endpoint(latency, folder)
    config = uvicorn.Config(
        endpoint,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        backlog=2048,
        timeout_keep_alive=600,
    )
    async with _environments(endpoint):
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    import uvloop

    open_files.allow()
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000, Path(sys.argv[3])))
