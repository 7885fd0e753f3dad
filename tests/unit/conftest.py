"""Unit tests see no ambient configuration: no AWS, no Covalent, no home and no project around."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import aws_server
import leaks
from aws_server import AWS
from secret_keys import SECRET_KEY, SESSION_TOKEN
from template_paths import EXECUTOR, FUNCTION, LAMBDA_CALLS

# The image holds wire.py beside app.py; here it is found in the package's folder, looked at last.
sys.path[:0] = [str(EXECUTOR), str(FUNCTION)]
sys.path.append(str(LAMBDA_CALLS))

if TYPE_CHECKING:
    from lambda_calls.session import Process

AMBIENT = ("AWS_", "COVALENT_", "XDG_", "SAM_")

# Covalent reads and writes its configuration when it is imported, which test modules may do as
# they are collected: long before any fixture runs.
_HOME = tempfile.mkdtemp(prefix="covalent-lambda-unit-")


def _ambient() -> list[str]:
    return [name for name in os.environ if name.startswith(AMBIENT)]


# A shell without job control starts its background commands with SIGINT ignored, and children
# inherit that: then no Ctrl-C in a test would reach anything.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in _ambient():
    del os.environ[_name]
os.environ["HOME"] = _HOME


def pytest_unconfigure() -> None:
    """Remove the home of the test run."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def imported() -> None:
    """What a process's first call imports is there: no test of time depends on which is first."""
    for name in ("aiohttp", "boto3", "botocore.client", "botocore.parsers", "lambda_calls.run"):
        import_module(name)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread, a task, a descriptor or a process behind, unless it says why."""
    import covalent_awslambda_plugin.awslambda  # noqa: F401  what Covalent opens for itself stays

    with leaks.none(request):
        yield


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AWS]:
    """A stand-in for AWS, which this process's executors reach with keys of its own."""
    from covalent_awslambda_plugin.server import server

    with aws_server.running() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
        server.cache_clear()
        yield running
        server().process.close()
        server.cache_clear()


@pytest.fixture
def process(aws: AWS) -> Iterator[Process]:
    """What one program keeps, thrown away after the test."""
    from lambda_calls.session import Process

    made = Process()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def clean_surroundings(
    nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give each test a home and a working directory of its own; no instance metadata either."""
    from covalent_awslambda_plugin.awslambda import carrier, settings_reader

    for name in _ambient():
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(work)
    for once_for_a_process in (settings_reader, carrier):
        once_for_a_process.cache_clear()
    yield work
    for once_for_a_process in (settings_reader, carrier):
        once_for_a_process.cache_clear()
