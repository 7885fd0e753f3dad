"""A file system of its own for a test: small, full, or only to be read."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def fill(folder: Path) -> None:
    """Leave no byte for others on the file system of a folder."""
    with contextlib.suppress(OSError), (folder / "fills").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory at `folder` while the body runs; the test is skipped where none can
    be mounted.

    Args:
        folder: where; made if it is missing.
        options: as mount's `-o` has them.
    """
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no file system with {options} can be mounted here: {made.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
