"""Lambda's Invoke API on the event loop: signed by botocore, sent by aiohttp.

botocore's own client takes a thread for each invocation under way; this takes none, and about
half the CPU (docs/performance.md). All that is configuration stays botocore's: endpoint, region,
credentials and their renewal, proxies, certificates, and how an error's body is read.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import asyncio
import contextlib
import io
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from .clients import CONNECT_TIMEOUT, READ_TIMEOUT, Account, Signing, signing
from .threads import in_thread

# Seconds before an unused connection sends its first sign of life, and between two of them: NAT
# gateways drop what is silent for 350 s, and Linux would begin after two hours.
_KEEPALIVE = 60
# Bytes from which on a payload is signed in a thread, so that other electrons do not wait for it.
_LARGE = 256 * 1024


class Unreachable(Exception):
    """No connection came about: the electron certainly did not run."""


class ConnectionLost(Exception):
    """The connection broke after the request was sent: the electron may have run."""


class NotMade(Exception):
    """The request cannot be made like this: a matter of configuration."""


class Answer:
    """Lambda's answer, whatever its status.

    Args:
        status: of HTTP.
        headers: by lower-case name.
        body: as it came.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def error(self) -> Any:
        """It as botocore's ClientError."""
        from botocore.exceptions import ClientError
        from botocore.parsers import create_parser

        raw = {"status_code": self.status, "headers": self.headers, "body": self.body}
        return ClientError(create_parser("rest-json").parse(raw, None), "Invoke")


async def invoke(
    account: Account, function: str, payload: bytes, headers: Mapping[str, str]
) -> Answer:
    """Invoke a function once; never repeated.

    Args:
        account: whose credentials, and where.
        function: its name or ARN.
        payload: the event, JSON as bytes.
        headers: more of them (`X-Amz-Log-Type`).

    Raises:
        Unreachable, ConnectionLost, NotMade: if no answer came.
        ConfigurationError, botocore.exceptions.BotoCoreError: if it cannot be signed.
    """
    sender = await _sender(account)
    return await sender.invoke(function, payload, headers)


class _Sender:
    """The connections of one account on one event loop."""

    def __init__(self, made: Signing) -> None:
        import aiohttp

        self._signing = made
        secure = made.url.startswith("https:")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the gate decides how many
                ssl=ssl.create_default_context(cafile=made.certificates) if secure else True,
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
            await self._session.close()

    async def invoke(self, function: str, payload: bytes, headers: Mapping[str, str]) -> Answer:
        import aiohttp
        from yarl import URL

        url = f"{self._signing.url}/2015-03-31/functions/{quote(function, safe='')}/invocations"
        signed = await self._signed(url, payload, headers)
        if url.startswith("http:"):  # the proxy reads the request itself, there is no CONNECT
            signed.update(self._signing.proxy_headers)
        # A file is sent piece by piece, so that others get their turn in between.
        body = payload if len(payload) < _LARGE else io.BytesIO(payload)
        try:
            async with self._session.post(
                URL(url, encoded=True),
                data=body,
                headers=signed,
                proxy=self._signing.proxy,
                proxy_headers=self._signing.proxy_headers,
                allow_redirects=False,  # they would be a second request, signed for the first
            ) as response:
                named = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, named, await response.read())
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise NotMade(str(error)) from error
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            aiohttp.ConnectionTimeoutError,
        ) as error:
            raise Unreachable(f"Could not connect to {self._signing.url}: {error}") from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            words = str(error) or type(error).__name__
            raise ConnectionLost(
                f"The connection to {self._signing.url} broke: {words}"
            ) from error

    async def _signed(
        self, url: str, payload: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        from botocore.awsrequest import AWSRequest

        given = {"Accept-Encoding": "identity", **headers}
        request = AWSRequest(method="POST", url=url, headers=given, data=payload)
        credentials = self._signing.credentials
        if credentials is not None:
            renewal = getattr(credentials, "refresh_needed", None)
            if len(payload) >= _LARGE or (renewal is not None and renewal()):
                await in_thread(self._sign, request)
            else:
                self._sign(request)
        return dict(request.headers.items())

    def _sign(self, request: Any) -> None:
        from botocore.auth import SigV4Auth

        frozen = self._signing.credentials.get_frozen_credentials()
        SigV4Auth(frozen, "lambda", self._signing.region).add_auth(request)


_Senders = dict[Account, "asyncio.Task[_Sender]"]
_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, _Senders] = WeakKeyDictionary()


async def _sender(account: Account) -> _Sender:
    """This loop's sender for `account`; made once, however many electrons begin at a time."""
    senders = _senders.setdefault(asyncio.get_running_loop(), {})
    making = senders.get(account)
    if making is None or (making.done() and (making.cancelled() or making.exception())):
        making = senders[account] = asyncio.ensure_future(_make(account))
    return await asyncio.shield(making)


async def _make(account: Account) -> _Sender:
    sender = _Sender(await in_thread(signing, account))
    await sender.open()
    return sender


def forget_senders() -> None:
    """Have the next request make its connections and read the credentials again."""
    for senders in list(_senders.values()):
        senders.clear()


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):  # not on every system
        if hasattr(socket, option):
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE)
    return made
