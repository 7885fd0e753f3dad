"""Lambda's Invoke API on the event loop: signed here, sent by aiohttp.

botocore's own client takes a thread for each invocation under way; this takes none, and about
half the CPU (docs/performance.md). All that is configuration stays botocore's: endpoint, region,
credentials and their renewal, proxies, certificates, and how an error's body is read.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import asyncio
import contextlib
import errno
import io
import json
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from .. import messages, wire
from ..threads import Threads
from .clients import CONNECT_TIMEOUT, READ_TIMEOUT, Signing
from .refusals import ConnectionLost, NoDescriptors, Unreachable
from .signing import Signer

# Seconds before an unused connection sends its first sign of life, between two of them, and how
# many may go unanswered: NAT gateways drop what is silent for 350 s, and Linux would begin after
# two hours. What was sent and is not acknowledged it would repeat for a quarter of an hour.
_IDLE, _INTERVAL, _COUNT = 30, 10, 3
_SILENCE = _IDLE + _INTERVAL * _COUNT
_SIGNS_OF_LIFE = MappingProxyType(
    {
        "TCP_KEEPIDLE": _IDLE,
        "TCP_KEEPALIVE": _IDLE,  # what macOS calls it
        "TCP_KEEPINTVL": _INTERVAL,
        "TCP_KEEPCNT": _COUNT,
        "TCP_USER_TIMEOUT": _SILENCE * 1000,
    }
)
# Bytes from which on a payload is signed in a thread, so that other calls do not wait for it.
_LARGE = 256 * 1024
_SHOWN = 1000  # bytes of an answer that is no error of Lambda's
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class NotMade(Exception):
    """The request cannot be made like this: a matter of configuration."""


class HttpResponse:
    """What the endpoint answered, whatever its status.

    Args:
        status: of HTTP.
        headers: by lower-case name.
        body: as it came.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def error(self) -> Any:
        """It as botocore's ClientError, with the `Reason` that Invoke's model adds."""
        from botocore.exceptions import ClientError
        from botocore.parsers import create_parser

        said = wire.object_in(self.body)  # empty if it is none of Lambda's
        # The parser wants a JSON object, whatever a proxy on the way has answered instead.
        body = self.body if said else json.dumps({"message": _text(self.body)}).encode()
        raw = {"status_code": self.status, "headers": self.headers, "body": body}
        parsed = create_parser("rest-json").parse(raw, None)
        parsed.setdefault("Reason", str(said.get("Reason") or ""))
        return ClientError(parsed, "Invoke")


class InvokeApi:
    """The connections to one function's endpoint; for the event loop in which it was opened.

    The mutable state is aiohttp's pool of connections, and `signing`, which is replaced when the
    credentials are renewed.

    Args:
        signing: how requests are signed and sent.
        function: its name or ARN.
        threads: where large requests are signed.

    Raises:
        ConfigurationError: if the certificates cannot be used.
    """

    def __init__(self, signing: Signing, function: str, threads: Threads) -> None:
        import aiohttp
        from yarl import URL

        self.signing, self._threads = signing, threads
        path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations"
        self._url = URL(f"{signing.url}{path}", encoded=True)
        self._signer = Signer(str(self._url), signing.region)
        secure = signing.url.startswith("https:")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the limiter decides how many
                ssl=_trusting(signing.certificates) if secure else True,
                socket_factory=_socket,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def open(self) -> None:
        """Have the connections closed when the loop ends: it closes its generators then."""
        self._closing = self._closes()
        await anext(self._closing)

    async def _closes(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._http.close()

    async def post(self, payload: bytes, headers: Mapping[str, str]) -> HttpResponse:
        """Invoke the function once; never repeated.

        Args:
            payload: the event, JSON as bytes.
            headers: more of them (`X-Amz-Log-Type`).

        Raises:
            Unreachable, NoDescriptors, ConnectionLost, NotMade: if no answer came.
            botocore.exceptions.BotoCoreError, ClientError: if it cannot be signed.
        """
        import aiohttp

        signed = await self._signed(payload, headers)
        if self._url.scheme == "http":  # the proxy reads the request itself, there is no CONNECT
            signed.update(self.signing.proxy_headers)
        # A file is sent piece by piece, so that others get their turn in between.
        body = payload if len(payload) < _LARGE else io.BytesIO(payload)
        try:
            async with self._http.post(
                self._url,
                data=body,
                headers=signed,
                proxy=self.signing.proxy,
                proxy_headers=self.signing.proxy_headers,
                allow_redirects=False,  # they would be a second request, signed for the first
            ) as response:
                named = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status, named, await response.read())
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise NotMade(str(error)) from error
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            aiohttp.ConnectionTimeoutError,
        ) as error:
            raise self._not_connected(error) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if getattr(error, "errno", None) in _NO_DESCRIPTORS:  # before there is a socket
                raise self._not_connected(error) from error
            words = str(error) or type(error).__name__
            silence = _SILENCE if getattr(error, "errno", None) == errno.ETIMEDOUT else 0.0
            said = f"The connection to {self.signing.url} broke: {words}"
            raise ConnectionLost(said, silence) from error

    def _not_connected(self, error: Exception) -> Unreachable | NoDescriptors:
        cause = getattr(error, "os_error", error)
        words = f"Could not connect to {self.signing.url}: {error}"
        if getattr(cause, "errno", None) in _NO_DESCRIPTORS:
            return NoDescriptors(words)
        return Unreachable(words)

    async def _signed(self, payload: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        given = {"Accept-Encoding": "identity", **headers}
        credentials = self.signing.credentials
        if credentials is None:
            return given
        renewal = getattr(credentials, "refresh_needed", None)
        if len(payload) >= _LARGE or (renewal is not None and renewal()):
            return await self._threads.run(self._sign, payload, given)
        return self._sign(payload, given)

    def _sign(self, payload: bytes, headers: dict[str, str]) -> dict[str, str]:
        keys = self.signing.credentials.get_frozen_credentials()
        return self._signer.signed(payload, headers, keys, datetime.now(timezone.utc))


def _trusting(certificates: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:  # ssl.SSLError is one
        raise messages.CERTIFICATES_UNUSABLE(path=certificates, said=error) from error


def _text(body: bytes) -> str:
    return body[:_SHOWN].decode("utf-8", "replace")


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _SIGNS_OF_LIFE.items():  # not on every system
        if hasattr(socket, option):
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
