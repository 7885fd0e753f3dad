"""Covalent: here, in its server's process, and the packages that the server must have."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any
from urllib.parse import urlsplit

from lambda_calls import wire

from ..dispatches import Dispatches
from ..errors import CommandError
from .finding import Remark, missing, ok, partial
from .packages import normal
from .situation import Situation, Unknown

PLUGIN = "covalent-awslambda-plugin"
# From here on FastAPI refuses the bodies that Covalent 0.240 posts, with 422.
_FASTAPI = (0, 132)
_SECONDS = 60.0
# What Lambda's runtime needs in the image, and a server does not.
_OF_THE_IMAGE = frozenset(
    ["awslambdaric", "pip", "setuptools", "wheel", "simplejson", "snapshot-restore-py"]
)
_PROBE = """\
import importlib.metadata as m, json, platform
points = m.entry_points(group="covalent.executor.executor_plugins")
print(json.dumps({
    "python": platform.python_version(),
    "packages": {x.metadata["Name"]: x.version for x in m.distributions()},
    "plugins": sorted(x.name for x in points),
}))
"""


def client(situation: object) -> Iterator[Remark]:
    """What is installed for the Python that runs this."""
    yield from _of_packages(
        {str(x.metadata["Name"]): x.version for x in distributions()},
        f"Python {platform.python_version()}",
    )


def server(situation: object) -> Iterator[Remark]:
    """Whether it answers, and what is installed for its Python."""
    dispatches = Dispatches.configured()
    try:
        dispatches.get("/api/v2/dispatches?count=1")
    except CommandError as error:
        said = error.__cause__ or error
        yield missing(f"it does not answer at {dispatches.url}: {said}", "covalent start")
        return
    yield ok(f"answers at {dispatches.url}")
    found = _server(dispatches.url)
    if found is None:
        yield partial(
            "its process is not this user's on this machine: what is installed there was not "
            "checked",
            "covalent-lambda doctor, where it runs",
        )
        return
    yield from _of_packages(found.packages, f"its Python {found.python}")
    here = platform.python_version()
    if wire.minor(found.python) != wire.minor(here):
        yield missing(
            f"its Python is {wire.minor(found.python)}, the one of your scripts "
            f"{wire.minor(here)}: what one pickles the other cannot load",
            f"run your scripts with {found.program}",
        )


def packages(situation: Situation) -> Iterator[Remark]:
    """What the image has and the server lacks.

    The server opens results itself where a workflow returns a list or a dictionary or computes
    with them, and in the closing step of every workflow.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        there = situation.pong().get("packages")
    except (ClientError, BotoCoreError) as error:
        raise Unknown("the function does not tell its packages, see Image") from error
    if there is None:
        raise Unknown("the function does not tell its packages, see Image")
    found = _server(Dispatches.configured().url)
    where = "the server" if found else "this Python (the server's is not known)"
    own = found.packages if found else {str(x.metadata["Name"]): "" for x in distributions()}
    has = {normal(name) for name in own} | _OF_THE_IMAGE
    lacking = sorted(name for name in there if normal(name) not in has)
    if not lacking:
        yield ok(f"{where} has all {len(there)} packages of the image")
        return
    program = shlex.quote(found.program) if found else "python"
    yield partial(
        f"{where} lacks {', '.join(lacking)}, which the image has. A workflow fails where the "
        "server opens such a value: a returned list or dictionary, arithmetic on results, and "
        "the closing step",
        f"{program} -m pip install {' '.join(lacking)}",
    )
    yield partial(
        "or leave those steps to the function",
        '@ct.lattice(executor="awslambda"), or workflow_executor="awslambda" beside another one',
    )


def _of_packages(packages: Mapping[str, str], where: str) -> Iterator[Remark]:
    """Whether Covalent, a FastAPI that it works with, and this plugin are there."""
    has = {normal(name): said for name, said in packages.items()}
    if "covalent" not in has:
        yield missing(f"{where} has no Covalent", 'pip install "covalent==0.240.0"')
        return
    if PLUGIN not in has:
        yield missing(f"{where} lacks this plugin", "pip install ./executor")
        return
    yield ok(f"{where}: Covalent {has['covalent']}, this plugin {has[PLUGIN]}")
    if not has[PLUGIN].partition("+")[2]:
        yield missing(
            f"{where} has the public plugin {has[PLUGIN]} in place of this one",
            "pip install ./executor",
        )
    own = has.get("fastapi", "")
    if own and _release(own) >= _FASTAPI:
        yield missing(
            f"{where} has FastAPI {own}, which answers Covalent's dispatches with 422",
            'pip install "fastapi<0.132", then covalent restart',
        )
    alchemy = has.get("sqlalchemy", "")
    if alchemy and _release(alchemy) >= (2, 0):
        yield missing(
            f"{where} has SQLAlchemy {alchemy}, Covalent needs one below 2",
            'pip install "sqlalchemy<2", then covalent restart',
        )


def _release(said: str) -> tuple[int, ...]:
    parts = said.split(".")[:2]
    return tuple(int(x) if x.isdigit() else 0 for x in parts)


@dataclass(frozen=True)
class _Server:
    program: str
    python: str
    packages: Mapping[str, str]


def _server(url: str) -> _Server | None:
    """What is installed for the process that listens at the server's port; None if it cannot be
    told: it is another machine's, or another user's."""
    program = _program(url)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
        said: Any = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return _Server(program, said["python"], said["packages"])


def _program(url: str) -> str | None:
    """The Python that runs the server, found by its port."""
    import psutil

    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "0.0.0.0", "::1"):
        return None
    try:
        listening = [x for x in psutil.net_connections("tcp") if _listens(x, parts.port)]
        process = psutil.Process(listening[0].pid)
        # Root sees everybody's, and must not run a program that somebody else has named.
        if process.uids().real != os.getuid():
            return None
        command, environment = process.cmdline(), process.environ()
    except (psutil.Error, LookupError, OSError):
        return None
    # Its executable would be the one that a venv's Python is a link to.
    found = shutil.which(command[0], path=environment.get("PATH", os.defpath))
    return found if found and "python" in os.path.basename(found) else None


def _listens(connection: Any, port: int | None) -> bool:
    return bool(connection.pid and connection.status == "LISTEN" and connection.laddr.port == port)
