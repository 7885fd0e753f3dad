"""The tutorial's code, in the sandbox of `make up PACKAGES="numpy matplotlib"`, where that is up.

    . build/demo.env && build/venv/bin/python -m pytest tests/tutorial

No part of `make test`: with the sandbox's start it takes more than a minute.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial"


def test_code_runs_as_printed(tmp_path: Path) -> None:
    """All blocks, as one script, end well, print what the page says, and make the plot."""
    if "COVALENT_LAMBDA_ADD_PACKAGE" not in os.environ:
        pytest.skip("this shell has no sandbox: make up, then . build/demo.env")
    text = (TUTORIAL / "index.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    (tmp_path / "sweep.py").write_text("\n".join(blocks), "utf-8")
    shutil.copy(TUTORIAL / "measurements.csv", tmp_path)
    command = ["python", "sweep.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    printed = re.findall(r"^(?:COMPLETED.*|\{.*\})$", ended.stdout, re.M)
    assert len(printed) == 3
    assert all(line in text for line in printed), ended.stdout
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
