"""What a machine lacks: the tests that need it are skipped, or fail where all must be there."""

import os
from typing import NoReturn

import pytest

_REQUIRED = "COVALENT_LAMBDA_REQUIRE_E2E"
# Read once: the unit tests' surroundings have no such variables.
_ALL_MUST_BE_THERE = os.environ.get(_REQUIRED) == "1"


def lacking(reason: str) -> NoReturn:
    """Skip for want of something on this machine, or fail where skips are forbidden."""
    if _ALL_MUST_BE_THERE:
        pytest.fail(f"{reason} ({_REQUIRED}=1)", pytrace=False)
    pytest.skip(reason)
