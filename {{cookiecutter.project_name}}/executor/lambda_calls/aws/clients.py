"""Sessions, clients and what signs a request: made once for each account, for the whole process.

A new client costs 50-80 ms of CPU, and its connections could not be reused.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .. import messages
from . import refusals

# Lambda's longest timeout is 900 s; the answer may need some more to travel.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
READ_TIMEOUT = 960
CONNECT_TIMEOUT = 10
# Seconds without a byte from S3 after which a request to it is made again, by botocore.
_S3_READ_TIMEOUT = 30
# Connections that each client keeps: as many as there are threads that use it.
KEPT = 50

# Where AWS itself answers: https://docs.aws.amazon.com/general/latest/gr/lambda-service.html
_OF_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn")


@dataclass(frozen=True)
class Account:
    """Whose credentials, and where; the key of the process-wide clients.

    Args:
        region, profile: as in AWS's own configuration; empty: botocore's default chain.
        credentials_file: path of a shared credentials file; empty: the default one.
        endpoint_url: where Lambda's API is, if not at AWS (`sam local start-lambda`).
    """

    region: str = ""
    profile: str = ""
    credentials_file: str = ""
    endpoint_url: str = ""


@dataclass(frozen=True)
class Signing:
    """What a request to Lambda needs beside its payload, as botocore resolves it.

    Args:
        url: Lambda's endpoint.
        region: the region that the signature names.
        credentials: botocore's credentials; None: the request goes unsigned.
        certificates: path of the certificates that the endpoint's is checked against.
        proxy: the proxy's URL, less user and password, as messages quote it; None: there is none.
        proxy_headers: what the proxy alone is told: user and password, if it has any.
    """

    url: str
    region: str
    credentials: Any
    certificates: str
    proxy: str | None
    proxy_headers: Mapping[str, str] = field(repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        return is_loopback(self.url)

    @property
    def is_aws(self) -> bool:
        """Whether the endpoint is AWS's own, not an emulator's."""
        return (urlsplit(self.url).hostname or "").endswith(_OF_AWS)


class Clients:
    """Makes sessions and clients, and keeps them.

    The mutable state is what was made, by account and service. Any thread may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # making clients is not thread-safe in boto3; using is
        self._sessions: dict[Account, Any] = {}
        self._clients: dict[tuple[Account, str], Any] = {}
        self._signing: dict[Account, Signing] = {}

    def session(self, account: Account) -> Any:
        """A new boto3 session for `account`, for others to use as they like.

        Raises:
            ConfigurationError: if the profile does not exist.
        """
        import boto3
        import botocore.session
        from botocore.exceptions import ProfileNotFound

        core = botocore.session.Session(profile=account.profile or None)
        if account.credentials_file:
            path = os.path.expanduser(account.credentials_file)
            core.set_config_variable("credentials_file", path)
        try:
            return boto3.Session(botocore_session=core, region_name=account.region or None)
        except ProfileNotFound as error:
            file = f" {account.credentials_file}" if account.credentials_file else ""
            raise messages.NO_PROFILE(profile=account.profile, file=file) from error

    def client(self, account: Account, service: str) -> Any:
        """The process's client for `service` (`lambda`, `s3`, …).

        Raises:
            ConfigurationError: if there is no such profile.
        """
        if service != "lambda":
            account = _without_endpoint(account)
        with self._lock:
            key = account, service
            if key not in self._clients:
                self._clients[key] = self._new_client(account, service)
            return self._clients[key]

    def signing(self, account: Account) -> Signing:
        """How requests to Lambda are signed and sent; the first time it blocks.

        Raises:
            ConfigurationError: if there is no such profile.
            botocore.exceptions.NoCredentialsError: if there are none where some are needed.
        """
        with self._lock:
            if account not in self._signing:
                self._signing[account] = self._new_signing(account)
            return self._signing[account]

    def credentials(self, account: Account) -> Any:
        """Those that requests are signed with; None if there are none."""
        with self._lock:
            return self._kept_session(account).get_credentials()

    def renew(self, account: Account, refused: Any) -> bool:
        """Read the credentials again; whether they are others than those that were refused.

        Clients keep the credentials that they began with, but files are renewed beside a running
        process.

        Args:
            account: whose.
            refused: botocore's credentials that AWS did not accept; None: there were none.
        """
        with self._lock:
            if _keys(self.credentials(account)) != _keys(refused):
                return True  # somebody has read them again meanwhile
            self._sessions.clear()
            self._clients.clear()
            self._signing.clear()
            return bool(_keys(self.credentials(account)) != _keys(refused))

    def caller_identity(self, account: Account) -> dict[str, Any]:
        """Who the credentials belong to, as AWS STS says.

        Raises:
            ConfigurationError: if they are missing or not accepted.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            identity: dict[str, Any] = self.client(account, "sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            said = refusals.said(error) if isinstance(error, ClientError) else error
            raise messages.CREDENTIALS_NOT_ACCEPTED(said=said) from error
        return identity

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _kept_session(self, account: Account) -> Any:
        account = _without_endpoint(account)
        if account not in self._sessions:
            self._sessions[account] = self.session(account)
        return self._sessions[account]

    def _new_client(self, account: Account, service: str) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        made = self._kept_session(account)
        config = Config(
            max_pool_connections=KEPT, connect_timeout=CONNECT_TIMEOUT, tcp_keepalive=True
        )
        if service == "lambda":
            # A retried synchronous invocation runs the call twice: retries are ours to decide.
            ours = Config(read_timeout=READ_TIMEOUT, retries={"total_max_attempts": 1})
            config = config.merge(ours)
            if is_loopback(account.endpoint_url) and made.get_credentials() is None:
                config = config.merge(Config(signature_version=UNSIGNED))
        else:
            config = config.merge(Config(read_timeout=_S3_READ_TIMEOUT))
        return made.client(service, endpoint_url=account.endpoint_url or None, config=config)

    def _new_signing(self, account: Account) -> Signing:
        from botocore.exceptions import NoCredentialsError
        from botocore.httpsession import ProxyConfiguration, get_cert_path
        from botocore.utils import get_environ_proxies

        meta = self.client(account, "lambda").meta
        url = str(meta.endpoint_url)
        core = self._kept_session(account)._session
        credentials = core.get_credentials()
        if credentials is None and not is_loopback(account.endpoint_url):
            raise NoCredentialsError
        proxies = ProxyConfiguration(get_environ_proxies(url))
        proxy = proxies.proxy_url_for(url)
        bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        return Signing(
            url=url.rstrip("/"),
            region=str(meta.region_name),
            credentials=credentials,
            certificates=_existing(str(get_cert_path(bundle or True))),
            proxy=_without_login(proxy) if proxy else None,
            proxy_headers=proxies.proxy_headers_for(proxy) if proxy else {},
        )


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def _keys(credentials: Any) -> Any:
    return credentials and tuple(credentials.get_frozen_credentials())


def _without_endpoint(account: Account) -> Account:
    return Account(account.region, account.profile, account.credentials_file)


def _existing(bundle: str) -> str:
    if not os.path.exists(bundle):
        raise messages.NO_CERTIFICATES(path=bundle)
    return bundle


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
