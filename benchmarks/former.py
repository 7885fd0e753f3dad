"""The handler as it was before electrons had processes of their own, from this repository's git.

It ran the user's code in its own process. `coldstart` shows what the processes cost beside it.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from .paths import ROOT, TEMPLATE

COMMIT = "6de9996f5a490ef8347b42545a019cfa87cb49ac"  # the last one measured with that handler
PROTOCOL = 1  # of its envelope, whose fields are those of today's
FILES = ("cookiecutter.json", "local_extensions.py", TEMPLATE.name)
SECONDS = 60.0


def unpack(folder: Path, repository: Path = ROOT) -> bool:
    """Put that commit's template into `folder`; False where git does not have the commit.

    A shallow clone and a downloaded archive do not have it.
    """
    command = ["git", "archive", "--format=tar", COMMIT, "--", *FILES]
    try:
        done = subprocess.run(
            command, cwd=repository, capture_output=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:  # no git
        return False
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return True
