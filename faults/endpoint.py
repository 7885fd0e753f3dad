"""Lambda and S3 on this machine, with Lambda's limits, behind doors that break things.

    caller ───► door ─┐                         ┌─► environment (the real handler)
    (any number)      ├─► Lambda: limits, kills ┤        │
    function ─► door ─┘   S3: objects in memory └─ ◄─────┘ its S3 is the function's door

S3 is that of the benchmarks' endpoint. HTTP is spoken here, byte by byte, since a fault may hit
in the middle of an answer.

Usage: python -m faults.endpoint FOLDER IMAGE; prints the port for control. IMAGE is that of the
container in which the only environment runs; "" for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import psutil

from benchmarks.endpoint import INVOCATIONS, S3, TASK_ID
from benchmarks.endpoint import Endpoint as Objects
from benchmarks.endpoint import Environment as Connection
from benchmarks.environment import EVENT
from benchmarks.paths import ROOT

from . import toxics
from .toxics import Poison, Strike, Toxic

CONTROL = "/_faults/"
PAYLOAD_LIMIT = 6 * 1024 * 1024
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset
_STARTS_WITHIN = 60.0  # seconds, of the first environment
_MEMORY, _TMP = "256m", "32m"  # of a container
_PIECE = 64 * 1024  # bytes of a body that are read at a time
_PROCESSES = 16  # behind environments that are only counted
# Seconds by which a request's time may be off:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
_LAMBDAS_SKEW, _S3S_SKEW = 300.0, 900.0
_AMZ_DATE = "%Y%m%dT%H%M%SZ"

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Limits:
    """What Lambda allows at a door.

    Attributes:
        concurrency: invocations at a time; None: as many as come.
        rate: requests a second; None: as many as come.
        ramp: invocations at a time to begin with, and how many more each second; None: no ramp.
        asleep: seconds from the first request for which the function wakes up.
        holds: seconds that an invocation takes in an environment which is only counted, before its
            event goes to one of `_PROCESSES` that there are: for more than a machine can hold.
        clock: seconds that the services' clock is ahead of this machine's, by which they judge
            each request's time; None: they do not.
    """

    concurrency: int | None = None
    rate: float | None = None
    ramp: tuple[int, float] | None = None
    asleep: float = 0.0
    holds: float = 0.0
    clock: float | None = None


@dataclass
class Request:
    """One request; its body comes after the rest."""

    verb: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def service(self) -> str:
        return "lambda" if self.path.startswith(INVOCATIONS) else "s3"

    @property
    def bucket(self) -> str:
        return "" if self.service == "lambda" else self.path.split("/")[1]

    @property
    def attempt(self) -> str:
        """The name of the attempt that it sends; empty if it sends none."""
        found = TASK_ID.search(self.body) if self.service == "lambda" else None
        return found[2].decode() if found else ""

    @property
    def signed_by(self) -> str:
        """The header with its signature."""
        return self.headers.get("authorization", "")


class EnvironmentEnded(Exception):
    """It was killed, or ended by itself, before it answered."""


class Environments:
    """The execution environments of the function.

    The mutable state is those that are idle, those that are busy, and who waits for one.
    """

    def __init__(self, folder: Path, url: str, image: str) -> None:
        self._idle: deque[Connection] = deque()
        self._busy: dict[int, tuple[Connection, bytes]] = {}  # and with which event
        self._wanted: deque[asyncio.Future[Connection]] = deque()
        self._starting = self.started = 0
        self.address = str(folder / "socket")
        self._folder, self._image = folder, image
        self._variables = {"AWS_ENDPOINT_URL": url}
        self._zygote: subprocess.Popen[str] | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._join, self.address, backlog=512)
        self._zygote = subprocess.Popen(
            self._contained() if self._image else self._command(sys.executable, self._folder),
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._variables},
        )
        # Should environments not start at all, this says so, not each call.
        self._rest(await asyncio.wait_for(self._taken(), _STARTS_WITHIN))

    def _command(self, python: str, folder: Path) -> list[str]:
        return [python, "-m", "faults.environments", self.address, str(folder)]

    def _contained(self) -> list[str]:
        """The command that runs it in a container: this machine's sources and packages, the
        image's Python."""
        packages = Path(boto3.__file__).parent.parent
        variables = {**self._variables, "PYTHONDONTWRITEBYTECODE": "1"}
        variables["PYTHONPATH"] = f"{ROOT}:{packages}"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            variables[name] = os.environ[name]
        words = ["docker", "run", "-i", "--rm", "--network", "host", "--workdir", str(ROOT)]
        words += ["--memory", _MEMORY, "--memory-swap", _MEMORY, "--tmpfs", f"/tmp:size={_TMP}"]
        words += [f"--env={name}={value}" for name, value in variables.items()]
        for path, mode in ((ROOT, ":ro"), (packages, ":ro"), (self._folder, "")):
            words.append(f"--volume={path}:{path}{mode}")
        return [*words, self._image, *self._command("python3", Path("/tmp"))]

    def close(self) -> None:
        self._server.close()
        assert self._zygote is not None and self._zygote.stdin is not None
        for connection in self._idle:
            connection.writer.close()
        left = [] if self._image else _family(self._zygote.pid)
        self._zygote.stdin.close()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._zygote.wait(10)
        os.unlink(self.address)

    async def ask(self, body: bytes, strike: Strike | None) -> tuple[bytes, bytes]:
        """One environment's answer to an event."""
        connection = await self._taken()
        self._busy[id(connection)] = connection, body
        try:
            answer = await self._asked(connection, body, strike)
        except EnvironmentEnded:
            connection.writer.close()
            raise
        finally:
            del self._busy[id(connection)]
        self._rest(connection)
        return answer

    async def _asked(
        self, connection: Connection, body: bytes, strike: Strike | None
    ) -> tuple[bytes, bytes]:
        kind, killed = strike.toxic.kind if strike else "", False
        if strike and kind == toxics.KILLED_BEFORE:
            killed = self._struck(connection, strike)
        asking = asyncio.ensure_future(connection.ask(EVENT, body))
        if strike and kind == toxics.KILLED_DURING:
            await asyncio.wait({asking}, timeout=strike.toxic.amount)
            killed = not asking.done() and self._struck(connection, strike)
        if strike and kind == toxics.FROZEN:
            await asyncio.wait({asking}, timeout=strike.toxic.after)
            if not asking.done():
                strike.lands()
                await self._freeze(connection, strike.toxic.amount)
        try:
            answer = await asking
        except (EOFError, ConnectionError) as error:
            raise EnvironmentEnded from error
        if strike and kind == toxics.KILLED_AFTER:
            killed = self._struck(connection, strike)
        if killed:  # its answer may have been on its way
            raise EnvironmentEnded
        return answer

    def _struck(self, connection: Connection, strike: Strike) -> bool:
        strike.lands()
        self._kill(connection)
        return True

    def kill_those_with(self, bucket: str) -> int:
        """End the environments that run events which name a bucket; how many there were."""
        busy = [x for x, body in self._busy.values() if f'"{bucket}"'.encode() in body]
        for connection in busy:
            self._kill(connection)
        return len(busy)

    async def _taken(self) -> Connection:
        if self._idle:
            return self._idle.popleft()
        future: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._wanted.append(future)
        if len(self._wanted) > self._starting:
            self._starting += 1
            self.started += 1
            assert self._zygote is not None and self._zygote.stdin is not None
            self._zygote.stdin.write("1\n")
            self._zygote.stdin.flush()
        return await future

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        self._starting -= 1
        self._rest(Connection(reader, writer))

    def _rest(self, connection: Connection) -> None:
        while self._wanted:
            future = self._wanted.popleft()
            if not future.done():
                return future.set_result(connection)
        self._idle.append(connection)

    def _kill(self, connection: Connection) -> None:
        """End all of an environment, as Lambda does."""
        for process in _family(_process(connection)):
            with contextlib.suppress(psutil.Error):
                process.kill()

    async def _freeze(self, connection: Connection, seconds: float) -> None:
        family = _family(_process(connection))
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        await asyncio.sleep(seconds)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.resume()


def _process(connection: Connection) -> int:
    """The id of the process at the other end."""
    end: Any = connection.writer.get_extra_info("socket")
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that came of it."""
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.Error:
        return []


@dataclass
class Lambda:
    """One door's view of the service: its limits.

    The mutable state is how many invocations there were and are under way, how many requests were
    refused for its limits, and the times of the latest.
    """

    limits: Limits
    invocations: int = 0
    under_way: int = 0
    most_under_way: int = 0
    refused: int = 0
    began: float | None = None
    latest: deque[float] = field(default_factory=deque)

    def refusal(self, size: int) -> Reply | None:
        """Why an invocation is refused; None if it is not."""
        now, limits = time.monotonic(), self.limits
        self.began = self.began or now
        if size > PAYLOAD_LIMIT:
            return of_lambda(413, "RequestTooLargeException", {"message": "6291456 bytes"})
        if now < self.began + limits.asleep:
            self.refused += 1
            return of_lambda(409, "CodeArtifactUserPendingException", {"message": "it wakes up"})
        while self.latest and self.latest[0] < now - 1:
            self.latest.popleft()
        if limits.rate is not None and len(self.latest) >= limits.rate:
            return self._too_many("CallerRateLimitExceeded")
        most = limits.concurrency
        if limits.ramp is not None:
            ramped = int(limits.ramp[0] + limits.ramp[1] * (now - self.began))
            most = ramped if most is None else min(most, ramped)
        if most is not None and self.under_way >= most:
            return self._too_many("ConcurrentInvocationLimitExceeded")
        self.latest.append(now)
        return None

    def _too_many(self, reason: str) -> Reply:
        self.refused += 1
        said = {"Reason": reason, "message": "Rate Exceeded."}
        return of_lambda(429, "TooManyRequestsException", said)


class Door:
    """A port at which both services answer, and toxics work."""

    def __init__(self, site: Site, poison: Poison, limits: Limits) -> None:
        self.site, self.poison, self.service = site, poison, Lambda(limits)
        self._server: asyncio.Server | None = None
        self._held: set[asyncio.StreamWriter] = set()
        self._busy: set[asyncio.StreamWriter] = set()  # with a request under way
        self._going: set[asyncio.Task[None]] = set()
        self._processes = asyncio.Semaphore(_PROCESSES)
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=2048, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._held):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._held.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (EOFError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            self._held.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether another may follow on its connection."""
        request = await _head(reader)
        self._busy.add(writer)
        try:
            if request.path.startswith(CONTROL):
                return await self._controlled(request, reader, writer)
            return await self._answered(request, reader, writer)
        finally:
            self._busy.discard(writer)

    async def _controlled(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request.body = await _body(request, reader, writer, Pace(None, request))
        said = json.loads(request.body) if request.body else {}
        answer = json.dumps(await self.site.control(request.path[len(CONTROL) :], said))
        writer.write(_bytes(request.verb, (200, {}, answer.encode())))
        await writer.drain()
        return True

    async def _answered(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        poison = self.site.poison_of(self, request)
        strike = poison.of(request.service, request.verb, request.path, request.signed_by)
        try:
            request.body = await _body(request, reader, writer, Pace(strike, request))
        except ConnectionError:
            if request.attempt:
                self.site.whole[request.attempt] = False
            raise
        if strike and strike.toxic.direction == toxics.UP:
            strike = None  # it came, late
        attempt, is_whole = request.attempt, not strike or strike.toxic.kind in toxics.HARMLESS
        if attempt:
            self.site.whole[attempt] = False
        if strike is None:
            writer.write(_bytes(request.verb, await self._handled(request)))
            await writer.drain()
            goes_on = True
        else:
            goes_on = await self._poisoned(strike, request, reader, writer)
        if attempt:
            self.site.whole[attempt] = is_whole and not writer.is_closing()
        return goes_on

    async def _handled(self, request: Request) -> Reply:
        refusal = self._skewed(request)
        if refusal is None and request.service == "s3":
            query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
            path, objects = request.path, self.site.objects
            return S3[request.verb](objects, path, query, request.headers, request.body)
        refusal = refusal or self.service.refusal(len(request.body))
        if refusal is not None:
            return refusal
        service, poison = self.service, self.site.poison_of(self, request)
        strike = poison.of_environment(request.verb, request.path, request.signed_by)
        service.invocations += 1
        service.under_way += 1
        service.most_under_way = max(service.most_under_way, service.under_way)
        # What has begun goes on, whatever becomes of the connection.
        running = asyncio.ensure_future(self._asked(request.body, strike))
        running.add_done_callback(self._ended)
        try:
            kind, answer = await asyncio.shield(running)
        except EnvironmentEnded:
            return _unhandled("Runtime.ExitError", "Runtime exited with error: signal: killed")
        if kind != EVENT:
            return 200, {"X-Amz-Function-Error": "Unhandled"}, answer
        if len(answer) > PAYLOAD_LIMIT:
            too_large = "Response payload size exceeded maximum allowed payload size"
            return _unhandled("Function.ResponseSizeTooLarge", too_large)
        return 200, {"Content-Type": "application/json"}, answer

    def _skewed(self, request: Request) -> Reply | None:
        """Why a request is refused for its time; None if it is not."""
        clock = self.service.limits.clock
        refusal = None if clock is None else skewed(request, clock)
        self.service.refused += refusal is not None
        return refusal

    async def _asked(self, body: bytes, strike: Strike | None) -> tuple[bytes, bytes]:
        holds = self.service.limits.holds
        if not holds:
            return await self.site.environments.ask(body, strike)
        await asyncio.sleep(holds)
        async with self._processes:
            return await self.site.environments.ask(body, strike)

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self.service.under_way -= 1
        if not running.cancelled():
            running.exception()

    async def _poisoned(
        self,
        strike: Strike,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        toxic = strike.toxic
        kind = toxic.kind
        if kind == toxics.KILLED_HERE:
            if self.site.environments.kill_those_with(request.bucket):
                strike.lands()
            return _reset(writer)
        if kind == toxics.VANISHED:
            if self.site.objects.objects.pop(request.path, None) is not None:
                strike.lands()
        elif kind not in (toxics.CORRUPTED, toxics.TRUNCATED, toxics.RESET_IN_RESPONSE):
            strike.lands()  # those can only hit what has a body
        if kind == toxics.RESET_BEFORE:
            return _reset(writer)
        if kind == toxics.BLACK_HOLE:
            return await _swallow(reader)
        if kind == toxics.LATENCY:
            await asyncio.sleep(toxic.amount)
        if kind == toxics.RESET_DURING:
            handling = asyncio.ensure_future(self._handled(request))
            await asyncio.wait({handling}, timeout=toxic.amount)
            return _reset(writer)
        reply = (
            _of(request.service, toxic) if kind == toxics.ANSWER else await self._handled(request)
        )
        if kind == toxics.ANSWER_AFTER:
            reply = _of(request.service, toxic)
        if kind == toxics.CORRUPTED and reply[2] and request.verb != "HEAD":
            strike.lands()
            reply = reply[0], reply[1], _changed(reply[2])
        return await self._delivered(strike, _bytes(request.verb, reply), reader, writer)

    async def _delivered(
        self,
        strike: Strike,
        data: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        toxic = strike.toxic
        kind = toxic.kind
        if kind == toxics.RESET_AFTER:
            return _reset(writer)
        if kind == toxics.SILENT:
            return await _swallow(reader)
        if kind in (toxics.TRUNCATED, toxics.RESET_IN_RESPONSE):
            # At least the head goes out: a client must see an answer that breaks off.
            cut = max(len(data) // 2, data.index(b"\r\n\r\n") + 4)
            if cut < len(data):
                strike.lands()
            writer.write(data[:cut])
            await writer.drain()
            await asyncio.sleep(0.05)
            return False if kind == toxics.TRUNCATED else _reset(writer)
        if kind == toxics.DRIP:
            pieces = 20
            for start in range(0, len(data), len(data) // pieces + 1):
                writer.write(data[start : start + len(data) // pieces + 1])
                await writer.drain()
                await asyncio.sleep(toxic.amount / pieces)
            return True
        if kind == toxics.LIMITED:
            step = max(1, int(toxic.amount / 10))
            for start in range(0, len(data), step):
                writer.write(data[start : start + step])
                await writer.drain()
                await asyncio.sleep(0.1)
            return True
        writer.write(data + (data if kind == toxics.DUPLICATED else b""))
        await writer.drain()
        return True

    def leave(self, seconds: float) -> None:
        """Have it begin to be away, without waiting."""
        going = asyncio.ensure_future(self.away(seconds))
        self._going.add(going)
        going.add_done_callback(self._going.discard)

    async def away(self, seconds: float) -> None:
        """Refuse new connections, and break those that there are, for a while."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for writer in list(self._held):
            if not writer.is_closing() and writer not in self._busy:
                _reset(writer)
        await asyncio.sleep(seconds)
        await self.open()


class Site:
    """Both services, with what they hold, and their doors.

    The mutable state is that, the toxics on the function's own way to each bucket, and which
    attempts have had the whole answer to their latest request.
    """

    def __init__(self, folder: Path, image: str) -> None:
        self._folder, self._image = folder, image
        self.objects = Objects(0.0, folder)
        self.doors: dict[int, Door] = {}
        self.whole: dict[str, bool] = {}
        self._poisons: dict[str, Poison] = {}
        self.ended = asyncio.Event()

    async def open(self) -> int:
        """Begin; the port of the function's door, which is also that for control."""
        self.function = await self.door([], "0", Limits())
        url = f"http://127.0.0.1:{self.function.port}"
        self.environments = Environments(self._folder, url, self._image)
        await self.environments.open()
        return self.function.port

    async def door(self, poison: list[Toxic], seed: str, limits: Limits) -> Door:
        made = Door(self, Poison(poison, seed), limits)
        await made.open()
        self.doors[made.port] = made
        return made

    def poison_of(self, door: Door, request: Request) -> Poison:
        """What may happen to a request; the function has another way to each bucket."""
        if door is not self.function:
            return door.poison
        return self._poisons.get(request.bucket, door.poison)

    async def control(self, what: str, said: dict[str, Any]) -> Any:
        """Follow an order of the run's."""
        if what == "door":
            limits = Limits(**said["limits"])
            return {"port": (await self.door(_toxics(said), said["seed"], limits)).port}
        if what == "poison":
            self.doors[said["port"]].poison = Poison(_toxics(said), said["seed"])
            return {}
        if what == "function":
            self._poisons[said["bucket"]] = Poison(_toxics(said), said["seed"])
            return {}
        if what == "away":
            door = self.doors[said["port"]]
            door.leave(said["seconds"])
            return {}
        if what == "close":
            self.doors.pop(said["port"]).close()
            return {}
        if what == "empty":
            self.objects.objects.clear()
            return {}
        return self._state(self.doors[said["port"]], said["bucket"])

    def _state(self, door: Door, bucket: str) -> dict[str, Any]:
        function = self._poisons.get(bucket, self.function.poison)
        start = f"/{bucket}/"
        keys = sorted(x[len(start) :] for x in self.objects.objects if x.startswith(start))
        poison, service = door.poison, door.service
        return {
            "hits": poison.hits,
            "seen": poison.seen,
            "function_hits": function.hits,
            "function_seen": function.seen,
            "environments_hit": poison.environments_hit,
            "invocations": service.invocations,
            "refused": service.refused,
            "most_under_way": service.most_under_way,
            "under_way": service.under_way,
            "environments": self.environments.started,
            "objects": keys,
            # Those of attempts that had their answer: nobody reads or writes them any more.
            "leaked": [x for x in keys if self.whole.get(_owner(x), True)],
        }


def _toxics(said: Mapping[str, Any]) -> list[Toxic]:
    return [Toxic(**x) for x in said["toxics"]]


def _owner(key: str) -> str:
    """The attempt that an object belongs to; empty for an argument, which many may share."""
    first, _, rest = key.partition("/")
    return rest.partition("/")[0] if first == "tasks" else ""


# -- HTTP ----------------------------------------------------------------------------------------


class Pace:
    """How fast a request's body comes in.

    The mutable state is how much of it has come.

    Args:
        strike: what hits the request.
        request: without its body; gets what has come of one that is cut off.
    """

    def __init__(self, strike: Strike | None, request: Request) -> None:
        self._strike = strike if strike and strike.toxic.direction == toxics.UP else None
        headers = request.headers
        length = headers.get("x-amz-decoded-content-length") or headers.get("content-length")
        self._request, self._size = request, int(length or 0)
        self._come = 0

    @property
    def is_slow(self) -> bool:
        """Whether something hits the body on its way."""
        return self._strike is not None

    async def came(self, piece: bytes) -> None:
        """More has come.

        Raises:
            ConnectionError: if no more will.
        """
        if self._strike is None:
            return
        if not self._come:
            self._strike.lands()
        self._come += len(piece)
        toxic = self._strike.toxic
        if toxic.kind == toxics.DRIP:
            await asyncio.sleep(toxic.amount * len(piece) / max(1, self._size))
        elif toxic.kind == toxics.LIMITED:
            await asyncio.sleep(len(piece) / toxic.amount)
        else:
            self._request.body += piece
            if 2 * self._come >= self._size:
                self._request.body = self._request.body[: self._size // 2]
                raise ConnectionAbortedError(toxic.kind)


async def _head(reader: asyncio.StreamReader) -> Request:
    """A request, but for its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    verb, target, _ = first.split(" ", 2)
    headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines if x)}
    return Request(verb, target, headers, b"")


async def _body(
    request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: Pace
) -> bytes:
    headers = request.headers
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunks(reader, pace)
    else:
        body = await _exactly(int(headers.get("content-length", 0)), reader, pace)
    if pace.is_slow and reader.at_eof():  # on a slow line, it would not have come whole
        raise ConnectionAbortedError("who sent it has gone")
    if headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
        from benchmarks.endpoint import _plain

        body = _plain(body, headers)
    return body


async def _chunks(reader: asyncio.StreamReader, pace: Pace) -> bytes:
    parts: list[bytes] = []
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        if not size:
            while (await reader.readline()).strip():
                pass
            return b"".join(parts)
        parts.append(await _exactly(size, reader, pace))
        await reader.readline()


async def _exactly(size: int, reader: asyncio.StreamReader, pace: Pace) -> bytes:
    parts: list[bytes] = []
    while size:
        parts.append(await reader.readexactly(min(size, _PIECE)))
        size -= len(parts[-1])
        await pace.came(parts[-1])
    return b"".join(parts)


def _bytes(verb: str, reply: Reply) -> bytes:
    status, headers, body = reply
    said = {"x-amzn-RequestId": "0", **headers}
    said.setdefault("Content-Length", str(len(body)))
    lines = "".join(f"{k}: {v}\r\n" for k, v in said.items())
    head = f"HTTP/1.1 {status} {'OK' if status < 300 else 'Error'}\r\n{lines}\r\n".encode()
    return head if verb == "HEAD" else head + body


def _reset(writer: asyncio.StreamWriter) -> bool:
    end: Any = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()
    return False


async def _swallow(reader: asyncio.StreamReader) -> bool:
    """Say nothing until the other side has had enough."""
    while await reader.read(65536):
        pass
    return False


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def of_lambda(
    status: int, code: str, said: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Reply:
    """An error of Lambda's API."""
    body = json.dumps({"Type": "User", **said}).encode()
    return status, {"x-amzn-ErrorType": code, **(headers or {})}, body


def of_s3(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error of S3's."""
    body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    return status, dict(headers or {}), body.encode()


def _of(service: str, toxic: Toxic) -> Reply:
    if "raw" in toxic.said:  # a body that no AWS service would send
        return toxic.status, dict(toxic.headers), str(toxic.said["raw"]).encode()
    if service == "lambda":
        said = {"message": f"because of {toxic.code}", **toxic.said}
        return of_lambda(toxic.status, toxic.code, said, toxic.headers)
    message = str(toxic.said.get("message", f"because of {toxic.code}"))
    return of_s3(toxic.status, toxic.code, message, toxic.headers)


def skewed(request: Request, clock: float) -> Reply | None:
    """How AWS refuses a request whose time is off, in the services' own words; None if it is not.

    Args:
        request: signed, or not: then it says no time.
        clock: seconds that the services' clock is ahead of this machine's.
    """
    said = request.headers.get("x-amz-date")
    if said is None:
        return None
    now = datetime.now(timezone.utc) + timedelta(seconds=clock)
    off = (datetime.strptime(said, _AMZ_DATE).replace(tzinfo=timezone.utc) - now).total_seconds()
    date = {"Date": format_datetime(now, usegmt=True)}
    if abs(off) <= (_S3S_SKEW if request.service == "s3" else _LAMBDAS_SKEW):
        return None
    if request.service == "s3":
        too_large = "The difference between the request time and the current time is too large."
        return of_s3(403, "RequestTimeTooSkewed", too_large, date)
    return of_lambda(403, "InvalidSignatureException", {"message": _off(said, now, off)}, date)


def _off(said: str, now: datetime, off: float) -> str:
    """Lambda's words about a request whose time is `off` seconds from `now`."""
    if off < 0:
        bound = now - timedelta(seconds=_LAMBDAS_SKEW)
        words, way = f"expired: {said} is now earlier than", "-"
    else:
        bound = now + timedelta(seconds=_LAMBDAS_SKEW)
        words, way = f"not yet current: {said} is still later than", "+"
    return f"Signature {words} {bound:{_AMZ_DATE}} ({now:{_AMZ_DATE}} {way} 5 min.)"


def _unhandled(kind: str, message: str) -> Reply:
    body = json.dumps({"errorType": kind, "errorMessage": f"RequestId: 0 Error: {message}"})
    return 200, {"X-Amz-Function-Error": "Unhandled"}, body.encode()


async def serve(folder: Path, image: str) -> None:
    """Serve until told to end."""
    site = Site(folder, image)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, site.ended.set)
    port = await site.open()
    print(port, flush=True)
    await site.ended.wait()
    for door in site.doors.values():
        door.close()
    site.environments.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
