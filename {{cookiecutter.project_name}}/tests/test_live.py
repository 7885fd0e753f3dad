"""The deployed function, on request: an electron costs a fraction of a cent.

    COVALENT_LAMBDA_LIVE=1 python -m pytest tests/test_live.py
    COVALENT_LAMBDA_LIVE=dev python -m pytest tests/test_live.py    # another environment

It needs what whoever runs electrons needs: credentials with the policy of the stack's output
ExecutorPolicyArn, and the executor (pip install ./executor). No Covalent server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASKED = os.environ.get("COVALENT_LAMBDA_LIVE", "")

pytestmark = pytest.mark.skipif(not ASKED, reason="COVALENT_LAMBDA_LIVE=1 runs it on AWS")


def where() -> str:
    """Where a call runs: the function's name and its Python."""
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "no Lambda function")
    return f"{name} {sys.version_info[0]}.{sys.version_info[1]}"


def test_function_runs_calls_and_carries_large_values() -> None:
    """A call runs in the function, on this Python; 8 MB go there and back through the bucket."""
    lambda_calls = pytest.importorskip("lambda_calls", reason="pip install ./executor")
    with lambda_calls.LambdaPoolExecutor(
        samconfig=str(ROOT / "samconfig.toml"),
        config_env="default" if ASKED == "1" else ASKED,
        max_workers=1,
        carry=[__name__],  # pytest imports this file: it lies beside no script
    ) as pool:
        name, python = pool.submit(where).result().split()
        large = b"x" * 8_000_000
        assert pool.submit(bytes.upper, large).result() == large.upper()
    assert name != "no Lambda function"
    assert python == f"{sys.version_info[0]}.{sys.version_info[1]}"
