"""Pools whose calls real handlers run, on two environments that all tests of a module share."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aws_server
import fleet as fleets
import pytest
from aws_server import AWS
from fleet import Fleet
from secret_keys import SECRET_KEY, SESSION_TOKEN


@pytest.fixture(scope="module")
def endpoint() -> Iterator[AWS]:
    with aws_server.running() as aws:
        yield aws


@pytest.fixture(scope="module")
def environments(endpoint: AWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleets.running(endpoint, tmp_path_factory.mktemp("fleet"), 2) as fleet:
        yield fleet


@pytest.fixture
def reachable(endpoint: AWS, monkeypatch: pytest.MonkeyPatch) -> AWS:
    """The stand-in, which this process's pools reach."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    endpoint.requests.clear()
    endpoint.objects.clear()
    endpoint.questions.clear()
    endpoint.concurrency = endpoint.reserved = None
    return endpoint


@pytest.fixture
def fleet(reachable: AWS, environments: Fleet) -> Iterator[Fleet]:
    """Two environments; after the test nothing is left of its pools in this process or in S3."""
    reachable.script = environments.answer
    environments.batches.clear()
    environments.seconds = 60.0
    before = threads(), descriptors()
    yield environments
    end = time.monotonic() + 10
    while (threads() - before[0] or descriptors() > before[1]) and time.monotonic() < end:
        gc.collect()  # a pool that was let go of may be part of a cycle
        time.sleep(0.05)
    assert not threads() - before[0], "threads are left"
    assert descriptors() <= before[1], "descriptors are left"
    assert not reachable.objects, "objects are left"


def threads() -> set[threading.Thread]:
    """Those of a pool."""
    return {x for x in threading.enumerate() if x.name.startswith("lambda-")}


def descriptors() -> int:
    """How many this process has open, those of the stand-in's own connections left out."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += not os.readlink(Path("/proc/self/fd", name)).startswith("socket:")
        except OSError:
            pass
    return count


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """The environments of a module's fleet outlive its tests, and so do their connections to the
    stand-in; the fleet itself looks at what each test leaves behind."""
