"""One process that runs calls among faults for minutes: what it holds must stay the same."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from covalent_awslambda_plugin.server import server

from . import storm
from .lab import Lab
from .progress import Progress

_CALLS, _TIMEOUT = 120, 15.0  # calls in a round, seconds for each
_WARM_UP = 8  # rounds


@dataclass(frozen=True)
class Soak:
    """What a process held, in the first and the last quarter.

    Args:
        minutes, calls: how much it was.
        first, last: means of MB of memory, threads and descriptors.
        broken: promises that were broken meanwhile.
    """

    minutes: float
    calls: int
    first: Mapping[str, float]
    last: Mapping[str, float]
    broken: list[str]

    @property
    def grown(self) -> list[str]:
        """What has grown by more than 5 %."""
        return [
            f"{name}: {self.first[name]} then {self.last[name]}"
            for name in self.first
            if self.last[name] > 1.05 * self.first[name]
        ]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(lab: Lab, minutes: float, seed: str, progress: Progress) -> Soak:
    """Run rounds of calls for some minutes, after those that warm up."""
    samples: list[dict[str, float]] = []
    broken: list[str] = []
    calls = 0
    # One door, as a server has one account or a few: what it keeps for each stays.
    with lab.door(concurrency=storm.ENVIRONMENTS) as door:
        # What the first rounds import and open stays: threads up to their bound, and the memory
        # that Python's allocator keeps for objects as large as these.
        _start_all_threads()
        for number in range(_WARM_UP):
            storm.run(lab, _CALLS, seed=f"{seed} warm {number}", timeout=_TIMEOUT, door=door)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end or len(samples) < 8:
            again = f"{seed} {len(samples)}"
            found = storm.run(lab, _CALLS, seed=again, timeout=_TIMEOUT, door=door)
            calls += found.calls
            broken += found.broken
            samples.append(_sample())
            threads = Counter(x.name for x in threading.enumerate())
            progress.say(f"{calls} calls: {samples[-1]}, {dict(threads)}")
    quarter = max(1, len(samples) // 4)
    return Soak(minutes, calls, _mean(samples[:quarter]), _mean(samples[-quarter:]), broken)


def _start_all_threads() -> None:
    """Have the executor's bounded pools of threads start all of theirs, as a busy hour does: one
    that a later peak starts is no leak."""
    process = server().process
    for threads in (process.transfers, process.requests):
        all_there = threading.Barrier(threads._most, timeout=60)
        for _ in range(threads._most):
            threads.begin(partial(_meet, all_there))


def _meet(all_there: threading.Barrier) -> None:
    all_there.wait()


def _sample() -> dict[str, float]:
    """What is held now: not what Python has yet to collect, or what the C library has been given
    back and keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "threads": float(threading.active_count()),
        "descriptors": float(len(os.listdir("/proc/self/fd"))),
    }


def _mean(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(mean(x[name] for x in samples), 1) for name in samples[0]}
