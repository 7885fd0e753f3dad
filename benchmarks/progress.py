"""Lines on the terminal that say what is being done, for whoever waits."""

from __future__ import annotations

import time
from collections.abc import Iterator

SECONDS = 5.0  # between two lines about rounds, at the least


def say(what: str) -> None:
    """Print it now, also into a file or a pipe."""
    print(f"   {what}", flush=True)


def rounds(what: str, count: int) -> Iterator[int]:
    """The numbers of the rounds, from 0; every few seconds a line says which one begins."""
    due = time.monotonic()
    for turn in range(count):
        if time.monotonic() >= due:
            due = time.monotonic() + SECONDS
            say(f"{what}: round {turn + 1} of {count}")
        yield turn
