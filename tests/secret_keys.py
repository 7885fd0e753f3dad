"""The keys that tests sign with, and the search for them in whatever a run of tests wrote.

A secret key belongs into the environment of a process, or into AWS's own file of credentials, and
nowhere else: into no log, no envelope, no pickle and no database.
"""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest

# No word of any program's: what is found is a leak. Put together, as tests copy this file too.
_NOWHERE = "OfTheTestsThatNobodyMayWriteDown"
SECRET_KEY, SESSION_TOKEN = f"SecretKey{_NOWHERE}", f"SessionToken{_NOWHERE}"

_LOGS = Path(__file__).resolve().parents[1] / "build" / "logs"


def forms(secret: str) -> list[bytes]:
    """How a secret stands in a file: as it is, and within base64 at any offset."""
    data = secret.encode()
    found = [data]
    for before in range(3):
        text = base64.b64encode(bytes(before) + data)
        # The first and the last characters depend on what stands beside it.
        found.append(text[4 if before else 0 : -4])
    return found


def held_in(text: str, secrets: Iterable[str]) -> list[str]:
    """The beginnings of those `secrets` that stand in `text`."""
    data = text.encode("utf-8", "replace")
    return [f"{secret[:6]}…" for secret in secrets if any(x in data for x in forms(secret))]


def written_in(roots: Iterable[Path], secrets: Collection[str]) -> list[str]:
    """The files below `roots` in which one of `secrets` stands, each with its beginning."""
    wanted = [(secret, form) for secret in secrets for form in forms(secret)]
    found = []
    for path in _paths(roots):
        try:
            data = _content(path)
        except OSError:  # gone, or never to be read
            continue
        held = {secret for secret, form in wanted if form in data}
        found += [f"{secret[:6]}… stands in {path}" for secret in sorted(held)]
    return found


def _paths(roots: Iterable[Path]) -> Iterator[str]:
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from (os.path.join(folder, name) for name in names if name != "credentials")


def _content(path: str) -> bytes:
    """What stands in a file; nothing for what is none: a link, a named pipe, a socket."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(fd).st_mode) else b""


@pytest.fixture(scope="session")
def secrets() -> set[str]:
    """What must not be written; tests add the keys that they make."""
    return {SECRET_KEY, SESSION_TOKEN}


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_written(
    secrets: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """After the last test: folders, home and logs of the run hold none of its secrets."""
    yield
    roots = [tmp_path_factory.getbasetemp(), _LOGS]
    home = Path(os.environ["HOME"])
    if home.is_relative_to(tempfile.gettempdir()):  # no developer's own
        roots.append(home)
    found = written_in(roots, secrets)
    assert not found, "secrets in what the tests wrote:\n" + "\n".join(found)
