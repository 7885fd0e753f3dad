"""The examples that Covalent's server runs, each run as its reader runs it.

(tests/e2e/test_make_up.py runs the others.)
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from in_sandbox import ROOT, Sandbox

PNG = b"\x89PNG\r\n\x1a\n"
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize(
    ("name", "picture", "progress", "said"),
    [
        ("digits", "digits.png", r"COMPLETED[^\n]*\n\d+ done", r"0\.01  +9\d\.\d%\n"),
        ("nitrogen_on_copper", "n.png", r"COMPLETED[^\n]*\n\d+ done", r"1\.10 Å +0\.323 eV\n"),
        ("word_count", "", r"COMPLETED[^\n]*\n\d+ done", r"covalent +\d+ █"),
        ("parameter_sweep", "s.png", r"\[fan-out\] \d+ of 300", r"300 values of r, \d+ %"),
        ("sublattice", "", r"COMPLETED[^\n]*\n\d+ done", r"1 +\d+ +9\d\.\d%\n"),
        ("thumbnails", "t.png", r"24 calls in \d+ requests", r"24 pictures"),
    ],
)
def test_example(
    sandbox: Sandbox, tmp_path: Path, name: str, picture: str, progress: str, said: str
) -> None:
    """It says how it went and what it found, and leaves its picture."""
    words = [picture] if picture else []
    done = sandbox.python(EXAMPLES / f"{name}.py", *words, cwd=tmp_path)
    assert done.code == 0, str(done)
    assert re.search(progress, done.stdout), str(done)
    assert re.search(said, done.stdout), str(done)
    if picture:
        assert (tmp_path / picture).read_bytes().startswith(PNG)


def test_a_file_that_is_no_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is named; the other thumbnails are made, and the pool shows its bar."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    good = ROOT / "docs" / "tutorial" / "sweep.png"
    (tmp_path / "pictures" / "good.png").write_bytes(good.read_bytes())
    script = EXAMPLES / "thumbnails.py"
    done = sandbox.python(script, "sheet.png", tmp_path / "pictures", cwd=tmp_path)
    assert done.code == 0, str(done)
    assert "broken.png: cannot identify image file" in done.stderr
    assert "100%" in done.stderr
    assert (tmp_path / "sheet.png").read_bytes().startswith(PNG)


def test_an_example_that_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    """It ends with exit code 1, and with the electron's own words."""
    (tmp_path / "empty").mkdir()
    done = sandbox.python(EXAMPLES / "word_count.py", tmp_path / "empty", cwd=tmp_path)
    assert done.code == 1, str(done)
    assert "there is no text (*.md) in" in done.stdout


def test_every_example_is_described() -> None:
    """examples/README.md has a row for each file, with the packages that its docstring names."""
    rows = (EXAMPLES / "README.md").read_text("utf-8")
    for file in sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]):
        assert f"({file.name})" in rows, file.name
