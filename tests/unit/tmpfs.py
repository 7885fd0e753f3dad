"""A file system of its own for a test: small, full, or only to be read."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lacking import lacking

# With root's rights, which a user of a machine of one's own, or of CI, often has for the asking.
_AS_ROOT: tuple[str, ...] = () if os.geteuid() == 0 else ("sudo", "--non-interactive")


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
    options = f"uid={os.getuid()},{options}"
    command = [*_AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True)
        why = made.stderr.decode() if made.returncode else ""
    except FileNotFoundError as error:
        why = str(error)
    if why:
        lacking(f"no file system with {options} can be mounted here: {why}")
    try:
        yield folder
    finally:
        subprocess.run([*_AS_ROOT, "umount", "-l", str(folder)], check=True)
