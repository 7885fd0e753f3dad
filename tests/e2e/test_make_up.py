"""The examples that need no Covalent server, and a thousand calls at once, on the sandbox of
`make up` itself. (tests/examples runs those with a server, on such a sandbox, too.)

It runs the function without an image, so no Docker engine is needed.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from harness import Command

from sandbox import environment, journey

PACKAGES = "scikit-learn dask[array]"  # as the examples' first lines say
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.timeout(600)


# In a folder of its own, beside whatever the user has up.
_COMMAND = """
import sys
from pathlib import Path
from sandbox import commands, journey
build = Path(sys.argv[1])
journey.BUILD = commands.BUILD = build
commands.ENV_FILE = build / "demo.env"
sys.exit(commands.main(sys.argv[2:]))
"""


def sandbox(build: Path, *words: str) -> Command:
    """Run a command of the sandbox whose folder is `build`."""
    command = [sys.executable, "-c", _COMMAND, str(build), *words]
    return harness.run(command, harness.EXAMPLES.parent, os.environ, 600)


@pytest.fixture(scope="module")
def sourced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that a user's shell sources."""
    build = tmp_path_factory.mktemp("sandbox") / "build"
    build.mkdir()
    try:
        command = sandbox(build, "up", "--mode", "worker", "--packages", PACKAGES)
        assert command.code == 0, str(command)
        yield build / "demo.env"
    finally:
        sandbox(build, "down")


def run(sourced: Path, script: Path, *words: str) -> Command:
    """Run a script as the first lines of an example say."""
    work = sourced.parent / script.stem
    work.mkdir(exist_ok=True)
    env = environment.clean(os.environ, home=work, python=Path("/usr/bin/python3"))
    line = f". {shlex.quote(str(sourced))} && exec python {shlex.join([str(script), *words])}"
    return harness.run(["sh", "-c", line], work, {**env, "MPLCONFIGDIR": str(work)}, 300)


@pytest.mark.parametrize(
    ("name", "pictures", "said"),
    [
        ("monte_carlo", ["pi.png", "timeline.png"], "π is about 3.14"),
        ("grid_search", ["grid.png"], "best: {'C': 10.0, 'gamma': 0.0003}"),
        ("dask_reduction", ["waves.png"], "mean intensity 1."),
    ],
)
def test_example(sourced: Path, name: str, pictures: list[str], said: str) -> None:
    """It says what it found, shows its progress, and leaves its pictures."""
    command = run(sourced, harness.EXAMPLES / f"{name}.py", *pictures)
    assert command.code == 0, str(command)
    assert said in command.stdout, str(command)
    assert "100%" in command.stderr, str(command)
    for picture in pictures:
        assert (sourced.parent / name / picture).read_bytes().startswith(PNG)


def test_a_thousand_at_once_end_well(sourced: Path) -> None:
    """Nobody said how many the laptop takes: Lambda does when it is asked, and what was sent
    before is throttled; for the pool and the electron."""
    command = run(sourced, harness.WORKFLOWS / "thousand.py")
    found = command.json
    assert found["pool"] == found["electron"] == sum(range(1000)), json.dumps(found)
    assert found["requests"] == 1000
    assert found["nodes"] <= 3  # the electron, its argument, what Covalent adds
    limit = journey.CALLS_PER_CORE * (os.cpu_count() or 1)
    assert 1 < found["at_a_time"] <= limit, json.dumps(found)
    assert found["throttled"].keys() == {"ConcurrentInvocationLimitExceeded"}, json.dumps(found)
    assert found["environments"] <= 2 * limit  # Lambda's emulator may renew some
