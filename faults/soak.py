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
from lambda_calls.aws.clients import KEPT, Account

from . import storm
from .lab import BUCKET, Door, Lab
from .progress import Progress
from .ways import profile

_CALLS, _TIMEOUT = 120, 15.0  # calls in a round, seconds for each
_WARM_UP = 8  # rounds
_KEPT_KEY = "soak"
_M_MMAP_THRESHOLD = -3  # of the C library's mallopt
_MAPPED = 128 * 1024  # bytes from which a block has pages of its own


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
        _give_memory_back()
        _start_all_threads()
        for number in range(_WARM_UP):
            storm.run(lab, _CALLS, seed=f"{seed} warm {number}", timeout=_TIMEOUT, door=door)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end or len(samples) < 8:
            again = f"{seed} {len(samples)}"
            found = storm.run(lab, _CALLS, seed=again, timeout=_TIMEOUT, door=door)
            calls += found.calls
            broken += found.broken
            _open_all_connections(door)
            samples.append(_sample())
            threads = Counter(x.name for x in threading.enumerate())
            progress.say(f"{calls} calls: {samples[-1]}, {dict(threads)}")
    quarter = max(1, len(samples) // 4)
    return Soak(minutes, calls, _mean(samples[:quarter]), _mean(samples[-quarter:]), broken)


def _give_memory_back() -> None:
    """Have the C library give large blocks back to the system once they are free. `make soak` has
    Python take all its memory from there.

    By default it keeps up to twice the largest of them in each of its arenas, eight for a core: a
    third of a gigabyte in this process, where 33 MB are in use. How many of the arenas have
    met a large block by then is chance, which goes on for hours.
    """
    if not ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED):
        raise RuntimeError("the C library refuses to give memory back")


def _open_all_connections(door: Door) -> None:
    """Have the S3 client of the door's account open every connection that it may keep: how many
    calls ever needed one at a time is chance, and faults close some. One that is left beside these
    is a leak."""
    door.poison([])
    account = Account(region="us-east-1", profile=profile(door.url, "test"))
    s3 = server().process.clients.client(account, "s3")
    s3.put_object(Bucket=BUCKET, Key=_KEPT_KEY, Body=b"any")
    # An answer that is not read yet keeps its connection.
    answers = [s3.get_object(Bucket=BUCKET, Key=_KEPT_KEY) for _ in range(KEPT)]
    for answer in answers:
        answer["Body"].read()
    s3.delete_object(Bucket=BUCKET, Key=_KEPT_KEY)


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
