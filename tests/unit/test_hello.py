"""The first workflow says what is wrong when it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from template_paths import EXECUTOR, PROJECT

pytestmark = pytest.mark.timeout(60)


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    """The address that does not answer, and what to do; exit code 1."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "workflows" / "hello.py")],
        cwd=tmp_path,
        env={
            **os.environ,
            "COVALENT_DISPATCHER_ADDR": "127.0.0.1",
            "COVALENT_SVC_PORT": "9",
            "PYTHONPATH": str(EXECUTOR),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "Covalent's server" in line]
    assert line.startswith("Covalent's server does not answer at http://127.0.0.1:9/api/")
    assert "`covalent start`" in line
    assert "Traceback" not in done.stderr
