"""This machine: what builds images, and how many connections it allows."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from lambda_calls.descriptors import left_for_connections, raise_limit

from .finding import Remark, ok, partial

_SOCKET = "/var/run/docker.sock"
_SECONDS = 5.0
# What a thousand electrons at a time take.
_ENOUGH = 1100


def building(situation: object) -> Iterator[Remark]:
    """Whether images can be built here; running electrons needs neither."""
    yield _docker()
    if shutil.which("sam"):
        yield ok("sam is there")
    else:
        yield partial("sam is not there: it builds and deploys", "pip install aws-sam-cli")


def _docker() -> Remark:
    host = os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    parts = urlsplit(host)
    if parts.scheme != "unix":
        return ok(f"Docker at {host} (DOCKER_HOST); not asked")
    if not os.path.exists(parts.path):
        return partial(
            f"Docker does not run ({parts.path} is missing): `sam build` and `sam local` need it",
            "sudo systemctl start docker (or start Docker Desktop)",
        )
    try:
        return ok(f"Docker answers at {parts.path} ({_asked(parts.path)})")
    except PermissionError:
        return partial(
            f"this user may not use {parts.path}",
            "sudo usermod -aG docker $USER, then log in again",
        )
    except (OSError, http.client.HTTPException) as error:
        return partial(
            f"Docker does not answer at {parts.path}: {error}", "sudo systemctl restart docker"
        )


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def _asked(path: str) -> str:
    connection = _Connection(path)
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"it answers {answer.status} {answer.reason}")
        return f"API {answer.headers.get('Api-Version', 'unknown')}"
    finally:
        connection.close()


def open_files(situation: object) -> Iterator[Remark]:
    """How many connections a process may have, which is how many electrons it runs at a time."""
    if sys.platform == "win32":
        yield ok("Windows sets no limit that matters here")
        return
    raise_limit()  # as the executor does, in this process alone
    left = left_for_connections()
    if left >= _ENOUGH:
        yield ok(f"{left} electrons may be under way at a time")
    else:
        yield partial(
            f"{left} electrons may be under way at a time, in this shell and what it starts",
            "ulimit -Hn 65536 (as root), or LimitNOFILE= of the server's service",
        )
