"""Environments of the function, with a bucket and without."""

from collections.abc import Iterator
from pathlib import Path

import aws_server
import pytest
from function_box import Function, with_bucket


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """A warm environment without a bucket."""
    with Function(tmp_path_factory.mktemp("function") / "tmp") as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Function]:
    """A new environment."""
    with Function(tmp_path / "tmp") as running:
        yield running


@pytest.fixture
def aws() -> Iterator[aws_server.AWS]:
    """A server that speaks S3's protocol."""
    with aws_server.running() as server:
        yield server


@pytest.fixture
def stored(aws: aws_server.AWS, tmp_path: Path) -> Iterator[Function]:
    """A new environment with a bucket."""
    with with_bucket(aws, tmp_path / "tmp") as running:
        yield running
