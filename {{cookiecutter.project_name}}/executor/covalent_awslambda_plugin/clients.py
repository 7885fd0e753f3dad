"""Sessions, clients and what signs a request: made once for each account, for the whole process.

A new client costs 50-80 ms of CPU, and its connections could not be reused.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .gate import WIDEST

# Lambda's longest timeout is 900 s; the answer may need some more to travel.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
READ_TIMEOUT = 960
CONNECT_TIMEOUT = 10


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


_lock = threading.Lock()


def session(account: Account) -> Any:
    """A new boto3 session for `account`.

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
        raise ConfigurationError(
            f"The AWS profile {account.profile!r} is not in the credentials or config file"
            f"{' ' + account.credentials_file if account.credentials_file else ''}: {error}. "
            "Correct profile= or the file. (Covalent's server reads them as its own user.)"
        ) from error


def signing(account: Account) -> Signing:
    """How requests to Lambda are signed and sent; the first time it blocks.

    Raises:
        ConfigurationError: if there is no such profile.
        botocore.exceptions.NoCredentialsError: if there are no credentials where some are needed.
    """
    with _lock:
        return _signing(account)


def client(account: Account, service: str) -> Any:
    """The process's client for `service` (`lambda` or `s3`).

    Raises:
        ConfigurationError: if there is no such profile.
    """
    if service != "lambda":
        account = replace(account, endpoint_url="")
    with _lock:  # making clients is not thread-safe in boto3; using them is
        return _client(account, service)


@lru_cache(maxsize=64)
def _client(account: Account, service: str) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    made = _session(replace(account, endpoint_url=""))
    config = Config(
        max_pool_connections=WIDEST, connect_timeout=CONNECT_TIMEOUT, tcp_keepalive=True
    )
    if service == "lambda":
        # A retried synchronous invocation runs the electron twice: retries are ours to decide.
        config = config.merge(Config(read_timeout=READ_TIMEOUT, retries={"total_max_attempts": 1}))
        if _is_loopback(account.endpoint_url) and made.get_credentials() is None:
            config = config.merge(Config(signature_version=UNSIGNED))
    elif os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # An endpoint of one's own is seldom reachable as bucket.endpoint.
        config = config.merge(Config(s3={"addressing_style": "path"}))
    return made.client(service, endpoint_url=account.endpoint_url or None, config=config)


@lru_cache(maxsize=64)
def _session(account: Account) -> Any:
    return session(account)


@lru_cache(maxsize=64)
def _signing(account: Account) -> Signing:
    from botocore.exceptions import NoCredentialsError
    from botocore.httpsession import ProxyConfiguration, get_cert_path
    from botocore.utils import get_environ_proxies

    meta = _client(account, "lambda").meta
    url = str(meta.endpoint_url)
    core = _session(replace(account, endpoint_url=""))._session
    credentials = core.get_credentials()
    if credentials is None and not _is_loopback(account.endpoint_url):
        raise NoCredentialsError
    proxies = ProxyConfiguration(get_environ_proxies(url))
    proxy = proxies.proxy_url_for(url)
    bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return Signing(
        url=url.rstrip("/"),
        region=str(meta.region_name),
        credentials=credentials,
        certificates=str(get_cert_path(bundle or True)),
        proxy=_without_login(proxy) if proxy else None,
        proxy_headers=proxies.proxy_headers_for(proxy) if proxy else {},
    )


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def forget_clients() -> None:
    """Have the next request read the credentials again."""
    with _lock:
        for cache in (_session, _client, _signing):
            cache.cache_clear()


def caller_identity(account: Account) -> dict[str, Any]:
    """Who the credentials belong to, as AWS STS says.

    Raises:
        ConfigurationError: if they are missing or not accepted.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        identity: dict[str, Any] = client(account, "sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise ConfigurationError(f"AWS does not accept the credentials: {error}") from error
    return identity


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
