"""The core where Covalent cannot be installed: with what is required then, no more."""

import os
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from aws_server import AWS
from fleet import running
from packaging.markers import default_environment
from packaging.requirements import Requirement
from template_paths import EXECUTOR

PYTHON_WITHOUT_COVALENT = "3.14"

SCRIPT = """
import importlib.util
assert importlib.util.find_spec("covalent") is None
assert importlib.util.find_spec("fastapi") is None
from lambda_calls import LambdaPoolExecutor
with LambdaPoolExecutor(function_name="fn", s3_bucket_name="bucket", region="eu-west-1") as pool:
    print(sum(pool.map(abs, range(-5, 0))), pool.submit(len, "four").result())
"""


def required(name: str, extras: tuple[str, ...] = ("",)) -> dict[str, Distribution]:
    """A distribution and all that it requires on the Python that Covalent does not know."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(applies(needed, extra) for extra in extras):
                waiting.append((needed.name, ("", *needed.extras)))
    return found


def applies(needed: Requirement, extra: str) -> bool:
    assert needed.marker is not None
    there = {**default_environment(), "python_version": PYTHON_WITHOUT_COVALENT, "extra": extra}
    # What an older Python needs beside, this one needs for the test.
    here = {**default_environment(), "extra": extra}
    older = "tomli" in needed.name or "typing" in needed.name or "timeout" in needed.name
    return bool(needed.marker.evaluate(here if older else there))


def test_the_core_runs_calls(aws: AWS, tmp_path: Path) -> None:
    """A pool runs calls on a real handler, and Covalent is nowhere to be found."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "lambda_calls").symlink_to(EXECUTOR / "lambda_calls")
    found = required("covalent-awslambda-plugin")
    del found["covalent-awslambda-plugin"]
    for installed in found.values():
        for file in installed.files or ():
            top = folder / file.parts[0]
            source = Path(str(installed.locate_file(file.parts[0])))
            if file.parts[0] != ".." and not top.exists() and source.exists():
                top.symlink_to(source)
    with running(aws, tmp_path, 1):
        done = subprocess.run(
            [sys.executable, "-S", "-c", SCRIPT],
            cwd=tmp_path,
            env={**os.environ, **aws.env, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout, done.stderr) == ("15 4\n", "")
