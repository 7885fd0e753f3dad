"""How long tests wait on a busy machine."""

import time
from collections.abc import Callable

BUSY = 4.0  # seconds that a busy machine may add to what takes a moment


def wait_until(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something is so; fail when it is not after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not after {seconds:.0f} s"
        time.sleep(0.05)
