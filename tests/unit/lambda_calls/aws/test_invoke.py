"""Invoke: one signed request on the event loop, over connections that are kept and closed."""

import asyncio
import base64
import gc
import socket
import ssl
import subprocess
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_server import AWS, Answer
from lambda_calls.aws import invoke
from lambda_calls.aws.clients import Account, Clients, Signing
from lambda_calls.aws.invoke import HttpResponse, InvokeApi
from lambda_calls.aws.refusals import ConnectionLost, Unreachable
from lambda_calls.threads import Threads

ACCOUNT = Account(region="eu-west-1")


async def opened(
    account: Account = ACCOUNT, signing: Signing | None = None, function: str = "fn"
) -> InvokeApi:
    _threads.append(Threads(2, "test"))
    api = InvokeApi(signing or Clients().signing(account), function, _threads[-1])
    await api.open()
    return api


_threads: list[Threads] = []


@pytest.fixture(autouse=True)
def threads_closed() -> Iterator[None]:
    """The threads that a test has opened end with it."""
    yield
    while _threads:
        _threads.pop().close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by nobody else, made for this test."""
    path = tmp_path / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "key.pem").read_text())
    return path


def call(
    function: str = "fn", payload: bytes = b"{}", signing: Signing | None = None
) -> HttpResponse:
    async def once() -> HttpResponse:
        return await (await opened(signing=signing, function=function)).post(payload, {})

    return asyncio.run(once())


def test_connections_are_kept_and_closed(aws: AWS) -> None:
    """Invocations of one loop share connections; none is left open when the loop ends."""
    ports: set[int] = set()

    async def several() -> None:
        api = await opened()
        for _ in range(5):
            await api.post(b"{}", {})
            for connections in api._http.connector._conns.values():  # type: ignore[union-attr]
                for protocol, _ in connections:
                    assert protocol.transport is not None
                    ports.add(protocol.transport.get_extra_info("sockname")[1])

    aws.script = lambda event: Answer(payload=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        asyncio.run(several())
        gc.collect()
    assert len(ports) == 1


def test_silent_connections_are_kept_alive() -> None:
    """Sockets send signs of life before a NAT gateway drops them (350 s)."""
    family, kind = socket.AF_INET, socket.SOCK_STREAM
    with invoke._socket((family, kind, 0, "", ("127.0.0.1", 0))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 350


def test_arn_names_a_function(aws: AWS) -> None:
    """A function's ARN goes into the path with its colons quoted, as it was signed."""
    paths: list[str] = []
    aws.script = lambda event: Answer(payload=1)
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:fn"
    assert call(arn).status == 200
    paths = [request.split("/functions/")[1] for request in aws.requests]
    assert paths == [f"{arn}/invocations"]


def test_large_payload_arrives_whole(aws: AWS) -> None:
    """Six megabytes are sent as they are."""
    sizes: list[int] = []

    def script(event: dict[str, Any]) -> Answer:
        sizes.append(len(event["payload"]))
        return Answer(payload=1)

    aws.script = script
    payload = b'"' + 6_000_000 * b"x" + b'"'
    assert call(payload=payload).body == b"1"
    assert sizes == [len(payload)]


def test_redirections_are_not_followed(aws: AWS) -> None:
    """An answer that points elsewhere sends nothing there: no credentials, and no second run."""
    aws.script = lambda event: Answer(status=307, location=f"{aws.url}/elsewhere/invocations")
    assert call().status == 307
    assert len(aws.requests) == 1


def test_credentials_are_renewed_in_a_thread(aws: AWS) -> None:
    """Renewing credentials asks another service: the event loop does not wait for it."""
    where: list[bool] = []
    made = Clients().signing(ACCOUNT)

    class Expiring:
        def refresh_needed(self) -> bool:
            return True

        def get_frozen_credentials(self) -> Any:
            where.append(threading.current_thread() is threading.main_thread())
            return made.credentials.get_frozen_credentials()

    expiring = Signing(**{**vars(made), "credentials": Expiring()})
    aws.script = lambda event: Answer(payload=1)
    assert call(signing=expiring).status == 200
    assert where == [False]


def test_proxy_of_the_environment_is_used(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and NO_PROXY count, as they do for botocore."""
    monkeypatch.setenv("HTTP_PROXY", aws.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://lambda.invalid")
    aws.script = lambda event: Answer(payload=1)
    assert call().status == 200
    monkeypatch.setenv("NO_PROXY", "lambda.invalid")
    with pytest.raises(Unreachable, match=r"lambda\.invalid"):
        call()


def test_password_of_the_proxy_is_in_no_message(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is told its user's password, in a header; the errors about it do not have it. As for
    botocore, its URL needs no scheme."""
    seen: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        seen.append(event["headers"]["Proxy-Authorization"])
        return Answer(payload=1)

    aws.script = script
    where = aws.url.removeprefix("http://")
    monkeypatch.setenv("HTTP_PROXY", f"me:secret-word@{where}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://lambda.invalid")
    assert call().status == 200
    assert base64.b64decode(seen[0].removeprefix("Basic ")) == b"me:secret-word"
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret-word@{where}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://lambda.invalid")
    with pytest.raises(Unreachable) as refusal:  # this proxy knows no CONNECT
        call()
    said = "".join(traceback.format_exception(refusal.value))
    assert where in said and "secret-word" not in said
    assert "secret-word" not in repr(Clients().signing(ACCOUNT))


# Python 3.10's asyncio warns so of every failed handshake; 3.11 has another implementation.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_certificate_has_to_be_accepted(
    monkeypatch: pytest.MonkeyPatch, aws: AWS, certificate: Path
) -> None:
    """A certificate that nobody vouches for is a matter of configuration; AWS_CA_BUNDLE is one
    way to vouch."""
    with tls_server(certificate) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(invoke.NotMade, match="certificate"):
            call()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        with pytest.raises(ConnectionLost):  # it hangs up once the request has come
            call()


class tls_server:
    """Accepts TLS connections, reads a request and hangs up."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    with self._context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(65536)
                except OSError:
                    pass
