"""The tutorial's code, all blocks as one script."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from in_sandbox import ROOT, Sandbox

TUTORIAL = ROOT / "docs" / "tutorial"


def rounded(text: str) -> str:
    """The text with its numbers to nine digits: processors differ in the last ones."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.9g}", text)


def test_code_runs_as_printed(sandbox: Sandbox, tmp_path: Path) -> None:
    """It ends well, prints what the page says, and makes the plot."""
    text = (TUTORIAL / "index.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    (tmp_path / "sweep.py").write_text("\n".join(blocks), "utf-8")
    shutil.copy(TUTORIAL / "measurements.csv", tmp_path)
    done = sandbox.python("sweep.py", cwd=tmp_path)
    assert done.code == 0, str(done)
    printed = re.findall(r"^(?:COMPLETED.*|\{.*\})$", done.stdout, re.M)
    assert len(printed) == 3, str(done)
    page = rounded(text)
    assert all(rounded(line) in page for line in printed), str(done)
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
