"""Wall-clock times of whole processes, taken in turns so that a slow minute meets all alike."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import progress
from .lab import BenchmarkError

SECONDS = 600.0

Run = Callable[[], float]


def in_turns(
    what: str, runs: Mapping[str, Run], repeats: int, warmups: int = 1
) -> dict[str, list[float]]:
    """What each run returned, by name; every other round goes backwards.

    Args:
        what: what the runs do, as it is printed for whoever waits.
        runs: what to measure.
        repeats: how many rounds count.
        warmups: how many rounds before them do not.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in progress.rounds(what, warmups + repeats):
        for name in names if turn % 2 else reversed(names):
            taken = runs[name]()
            if turn >= warmups:
                found[name].append(taken)
    return found


def run(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, seconds: float = SECONDS
) -> tuple[float, str, str]:
    """Seconds that a process took from start to end, and what it printed.

    Raises:
        BenchmarkError: when it failed, or took longer than `seconds`.
    """
    started = time.perf_counter()
    try:
        done = subprocess.run(
            list(command),
            env=dict(env),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command)} took more than {seconds:.0f} s") from error
    taken = time.perf_counter() - started
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return taken, done.stdout, done.stderr
