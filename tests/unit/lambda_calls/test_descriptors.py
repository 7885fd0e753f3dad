"""More calls at a time than the process may have files open, in a process of its own."""

import os
import subprocess
import sys

import pytest
from aws_server import AWS
from electrons import good

SCRIPT = """
import asyncio, os, resource, sys
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, hard), hard))
from calls import called
from lambda_calls import descriptors
from lambda_calls.session import Process
process = Process()
async def many():
    return await asyncio.gather(*[called(process, len, "x", timeout=60) for _ in range(300)])
print(len(asyncio.run(many())), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
free = hard - len(os.listdir("/dev/fd"))
print(0 < descriptors.left_for_connections() < free or (free, descriptors.left_for_connections()))
"""


@pytest.mark.parametrize("hard", [200, 4096])
def test_more_calls_than_descriptors(aws: AWS, hard: int) -> None:
    """The soft limit is raised as far as may be; within it, calls wait for one another."""
    aws.script = lambda event: good(1)
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(hard)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["300", str(hard), "True"], done.stderr
