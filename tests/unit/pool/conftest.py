"""Pools whose calls real handlers run, on two environments that all tests of a module share."""

import gc
import time
from collections.abc import Iterator

import aws_server
import fleet as fleets
import leaks
import pytest
from aws_server import AWS
from fleet import Fleet
from patience import wait_until
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
    """Two environments; after the test nothing of its pools runs on there, or is left in S3."""
    reachable.script = environments.answer
    environments.batches.clear()
    environments.seconds = 60.0
    yield environments
    wait_until(lambda: environments.is_idle, "its calls have ended in Lambda, too", 40)
    end = time.monotonic() + 10
    while reachable.objects and time.monotonic() < end:
        gc.collect()  # a pool that was let go of may be part of a cycle
        time.sleep(0.05)
    assert not reachable.objects, "objects are left"


@pytest.fixture(autouse=True)
def nothing_left(
    request: pytest.FixtureRequest, endpoint: AWS, environments: Fleet
) -> Iterator[None]:
    """No test leaves a thread, a task, a descriptor or a process behind. The environments of its
    module stay, and so do their connections to the stand-in."""
    import covalent_awslambda_plugin.awslambda  # noqa: F401  what Covalent opens for itself stays

    with leaks.none(request, int(endpoint.url.rpartition(":")[2])):
        yield
