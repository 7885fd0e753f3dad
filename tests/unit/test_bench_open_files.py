"""Whose limit of open files the benchmarks raise."""

from __future__ import annotations

import resource
import subprocess
import sys

from template_paths import REPOSITORY

from benchmarks import open_files

LOW = 256
SCRIPT = f"""
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, ({LOW}, hard))
sys.argv = ["benchmarks"]
from benchmarks import __main__ as command, names, open_files
names.chosen = lambda only: []
command.main()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
open_files.allow()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_executor_has_the_limit_of_its_user() -> None:
    """What all contenders inherit is left alone; the endpoint and the peers raise their own."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = open_files.WANTED
    raised = most if hard == resource.RLIM_INFINITY else min(hard, most)
    assert done.stdout.split() == [str(LOW), str(raised)], done.stderr
