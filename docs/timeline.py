"""Makes docs/fan-out-timeline.png: `pool.plot()` of a run that has one of everything.

    make test-venvs
    build/venv/bin/python docs/timeline.py

The real handler runs behind the stand-in for Lambda of the tests (tests/unit/fleet.py): in two
environments that are warm, and in two more that start after a while. More requests go out than
there are environments, so some are refused.
"""

import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "{{cookiecutter.project_name}}"
PICTURE = ROOT / "docs" / "fan-out-timeline.png"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit"), str(PROJECT / "executor")]
sys.path.append(str(PROJECT / "executor" / "lambda_calls"))  # for wire.py, as in the image

import aws_server  # noqa: E402
import fleet as fleets  # noqa: E402
from function_box import WORKER, Function  # noqa: E402

CALLS, SECONDS = 100, 0.12
STRAGGLER, STRAGGLES = 62, 3.0  # which call, and seconds
FAILS = 70
AT_ONCE = 12  # requests
WARM, MORE = 2, 2  # environments
AFTER = 2.5  # seconds until the others begin to start
STARTING = 1.0  # seconds that each of these takes more: Lambda has an image to fetch


def call(number: int) -> int:
    """One call of the run."""
    time.sleep(STRAGGLES if number == STRAGGLER else SECONDS)
    if number == FAILS:
        raise ValueError(f"call {number} fails")
    return number


def main() -> None:
    """Run the calls, and draw them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        aws_server.running() as aws,
        ExitStack() as stack,
    ):
        os.environ.update(aws.env)
        fleet = stack.enter_context(fleets.running(aws, Path(folder), WARM))
        with fleets.pool(max_workers=WARM) as pool:  # what comes first here and there: not drawn
            list(pool.map(time.sleep, [SECONDS] * WARM, chunksize=1))
        timer = threading.Timer(AFTER, _start_more, (fleet, stack, Path(folder), aws.env))
        timer.start()
        with fleets.pool(max_workers=AT_ONCE) as pool:
            list(pool.map(call, range(CALLS), chunksize=1, return_exceptions=True))
            pool.plot(PICTURE)
        timer.join()


def _start_more(fleet: fleets.Fleet, stack: ExitStack, folder: Path, env: dict[str, str]) -> None:
    """Have more environments; the first request of each waits for its start."""
    command = [sys.executable, "-c", f"import time; time.sleep({STARTING})\n{WORKER}"]
    for number in range(MORE):
        function = Function(folder / f"later-{number}", command, **env)
        fleet.add(stack.enter_context(function))


if __name__ == "__main__":
    main()
