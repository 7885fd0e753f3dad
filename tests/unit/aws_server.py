"""A server in this process that speaks Lambda's and S3's protocols over real sockets.

It is a stand-in: S3 is a dict, and each test says what Lambda answers. Real botocore clients talk
to it, so that signing, parsing, connection errors and status codes are those of botocore.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from secret_keys import SECRET_KEY, SESSION_TOKEN


@dataclass
class Answer:
    """What Lambda answers to one invocation.

    Args:
        payload: the body; a dict becomes JSON.
        error: `FunctionError`, if the function failed.
        log: text of the log's tail.
        status, code: an error of the API's own, with its type.
        message, reason: what such an error says, and TooManyRequestsException's reason.
        location: where the answer sends the client instead.
        hang_up: close the connection instead of answering.
        closes: close the connection after the answer.
    """

    payload: Any = None
    error: str = ""
    log: str = ""
    status: int = 200
    code: str = ""
    message: str = ""
    reason: str = ""
    location: str = ""
    hang_up: bool = False
    closes: bool = False


_SETTINGS = "/2016-08-19/account-settings"

Script = Callable[[dict[str, Any]], Answer]


@dataclass
class AWS:
    """The server's state: what S3 holds, what was asked, and who answers as Lambda."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)  # e.g. "PUT": answered with 403
    refusal: tuple[int, str] = (403, "AccessDenied")  # S3's answer to what is denied
    refusal_says: Callable[[Any], str] = lambda headers: "<Message>not you</Message>"
    refused_keys: set[str] = field(default_factory=set)  # access keys that have expired
    before_put: Callable[[], Any] = lambda: None  # called as an object arrives
    after_put: Callable[[], Any] = lambda: None  # called once it is stored, before the answer
    # Calls that the account, and the function, may have at a time; None: it is not allowed to ask,
    # -1: the function has reserved none.
    concurrency: int | None = None
    reserved: int | None = None
    reserved_elsewhere: int = 0  # by other functions
    cuts_off: bool = False  # the answers to questions after those two end in the middle
    questions: list[str] = field(default_factory=list)  # after those two
    script: Script = lambda event: Answer(status=404, code="ResourceNotFoundException")

    @property
    def posts(self) -> int:
        """How many invocations were asked for."""
        return len([r for r in self.requests if r.startswith("POST")])

    @property
    def env(self) -> dict[str, str]:
        """What an environment of the function needs to reach this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_DEFAULT_REGION": "eu-west-1",
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # hundreds connect at once


@contextmanager
def running() -> Iterator[AWS]:
    """Serve on a free loopback port while the body runs."""
    aws = AWS()
    server = _Server(("127.0.0.1", 0), _handler(aws))
    aws.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _repeating_name(answer: Answer, event: bytes) -> Answer:
    """An envelope that repeats the request's name, as the function does, unless it has one."""
    if not isinstance(answer.payload, dict) or answer.payload.get("task_id") != "":
        return answer
    name = json.loads(event).get("task_id", "")
    return replace(answer, payload={**answer.payload, "task_id": name})


def _handler(aws: AWS) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            path, body = self._request()
            if not path.endswith("/invocations"):  # AWS STS
                error = b"<Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
                return self._answer(403, b"<ErrorResponse>" + error + b"</ErrorResponse>")
            if self._has_expired_key():
                return self._answer(403, b"{}", {"x-amzn-ErrorType": "ExpiredTokenException"})
            answer = aws.script({"headers": dict(self.headers), "payload": body})
            answer = _repeating_name(answer, body)
            if answer.hang_up:
                self.close_connection = True
                self.connection.close()
                return
            headers = {"Connection": "close"} if answer.closes else {}
            if answer.code:
                fault = {"Type": "User", "message": answer.message or f"because of {answer.code}"}
                if answer.reason:
                    fault["Reason"] = answer.reason
                headers["x-amzn-ErrorType"] = answer.code
                return self._answer(answer.status, json.dumps(fault).encode(), headers)
            if answer.error:
                headers["X-Amz-Function-Error"] = answer.error
            if answer.location:
                headers["Location"] = answer.location
            if answer.log:
                headers["X-Amz-Log-Result"] = base64.b64encode(answer.log.encode()).decode()
            payload = answer.payload
            data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            self._answer(answer.status, data, headers)

        def do_PUT(self) -> None:
            path, body = self._request()
            if self._refused():
                return
            aws.before_put()
            aws.objects[path] = body
            aws.after_put()
            self._answer(200, b"", {"ETag": '"x"'})

        def do_HEAD(self) -> None:
            path, _ = self._request()
            if self._refused():
                return
            if path not in aws.objects:
                return self._answer(404, b"")
            self._answer(200, b"", {"Content-Length": str(len(aws.objects[path])), "ETag": '"x"'})

        def do_GET(self) -> None:
            if self.path.startswith(_SETTINGS):
                taken = max(0, aws.reserved or 0) + aws.reserved_elsewhere
                limits = {
                    "ConcurrentExecutions": aws.concurrency,
                    "UnreservedConcurrentExecutions": (aws.concurrency or 0) - taken,
                }
                return self._told(aws.concurrency, {"AccountLimit": limits})
            if self.path.endswith("/concurrency"):
                some = {"ReservedConcurrentExecutions": aws.reserved}
                return self._told(aws.reserved, {} if aws.reserved == -1 else some)
            path, _ = self._request()
            if self._refused():
                return
            if path not in aws.objects:
                return self._answer(
                    404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
                )
            data, etag = aws.objects[path], {"ETag": '"x"'}
            if "Range" not in self.headers:
                return self._answer(200, data, etag)
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            part = data[int(first) : int(last or len(data)) + 1]
            where = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            self._answer(206, part, {"Content-Range": where, **etag})

        def _told(self, known: int | None, answer: dict[str, Any]) -> None:
            aws.questions.append(self.path)
            if aws.cuts_off:
                self.close_connection = True
                return self._answer(200, b"{}", {"Content-Length": "67"})
            if known is None:
                code = {"x-amzn-ErrorType": "AccessDeniedException"}
                return self._answer(403, b'{"Message": "not authorized"}', code)
            self._answer(200, json.dumps(answer).encode())

        def do_DELETE(self) -> None:
            path, _ = self._request()
            if self._refused():
                return
            aws.objects.pop(path, None)
            self._answer(204, b"")

        def _request(self) -> tuple[str, bytes]:
            path = unquote(urlsplit(self.path).path)
            aws.requests.append(f"{self.command} {path}")
            if self.headers.get("Transfer-Encoding") == "chunked":
                return path, self._chunks()
            return path, self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _chunks(self) -> bytes:
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return self._aws_chunks(data) if "STREAMING" in self._hash() else data

        def _hash(self) -> str:
            return self.headers.get("X-Amz-Content-SHA256", "")

        @staticmethod
        def _aws_chunks(data: bytes) -> bytes:
            plain = b""
            while data:
                size, _, data = data.partition(b"\r\n")
                count = int(size.split(b";")[0], 16)
                if not count:
                    break
                plain, data = plain + data[:count], data[count + 2 :]
            return plain

        def _refused(self) -> bool:
            if self._has_expired_key():
                status, code = 400, "ExpiredToken"
            elif self.command in aws.denied:
                status, code = aws.refusal
            else:
                return False
            said = aws.refusal_says(self.headers)
            body = f"<Error><Code>{code}</Code>{said}</Error>".encode()
            self._answer(status, b"" if self.command == "HEAD" else body)
            return True

        def _has_expired_key(self) -> bool:
            signed_by = self.headers.get("Authorization", "")
            return any(f"Credential={key}/" in signed_by for key in aws.refused_keys)

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(ConnectionError):  # a client may have had enough
                    self.wfile.write(body)

    return Handler
