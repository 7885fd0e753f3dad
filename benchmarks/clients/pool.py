"""LambdaPoolExecutor as a script uses it, with no Covalent around.

Usage: python -m benchmarks.clients.pool calls COUNT CHUNK WORKERS REPEATS |
       rate FUNCTION COUNT WORKERS REPEATS |
       fanout FUNCTION COUNT SECONDS REPEATS | memory COUNT CHUNK WORKERS
       (a CHUNK of 0: learnt)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
from lambda_calls import LambdaPoolExecutor

from .. import memory, tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)

WARM_UP = 200


def made(workers: int | None, function: str = "ours") -> LambdaPoolExecutor:
    return LambdaPoolExecutor(
        workers, function_name=function, s3_bucket_name=BUCKET, region="us-east-1"
    )


def calls(count: str, chunk: str, workers: str, repeats: str) -> dict[str, Any]:
    """Trivial calls a second, by `map`."""
    number, size = int(count), int(chunk) or None
    rates, requests = [], []
    with made(int(workers)) as pool:
        list(pool.map(tasks.nothing, range(WARM_UP), chunksize=size))
        for _ in range(int(repeats)):
            before = pool.stats().summary.requests
            started = time.perf_counter()
            values = list(pool.map(tasks.nothing, range(number), chunksize=size))
            rates.append(number / (time.perf_counter() - started))
            requests.append(pool.stats().summary.requests - before)
            assert values == list(range(number))
    return {"rates": rates, "requests": requests}


def rate(function: str, count: str, workers: str, repeats: str) -> dict[str, Any]:
    """The same, a request each, to a function that answers all of them alike."""
    number, rates = int(count), []
    with made(int(workers), function) as pool:
        for _ in range(int(repeats)):
            started = time.perf_counter()
            values = list(pool.map(tasks.nothing, [7] * number, chunksize=1))
            rates.append(number / (time.perf_counter() - started))
            assert values == [7] * number
    return {"rates": rates}


def fanout(function: str, count: str, seconds: str, repeats: str) -> dict[str, Any]:
    """Calls that sleep, all at once, by `map`: time beyond that, and CPU for each."""
    number, wait = int(count), float(seconds)
    before = memory.reset_peak()
    beyond, cpu = [], []
    with made(None, function) as pool:
        for _ in range(int(repeats)):
            started, used = time.perf_counter(), time.process_time()
            values = list(pool.map(tasks.wait, [wait] * number, chunksize=1))
            beyond.append(time.perf_counter() - started - wait)
            cpu.append((time.process_time() - used) / number)
            assert len(values) == number
    return {"beyond": beyond, "cpu": cpu, "memory": memory.peak() - before}


def peak(count: str, chunk: str, workers: str) -> dict[str, Any]:
    """The most memory of this process, its imports included, for inputs from a generator."""
    number, total = int(count), 0
    started = time.perf_counter()
    with made(int(workers)) as pool:
        for value in pool.map(
            tasks.nothing, (x for x in range(number)), chunksize=int(chunk) or None
        ):
            total += value
    assert total == number * (number - 1) // 2
    return {"peak": memory.peak(), "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    commands: dict[str, Callable[..., dict[str, Any]]]
    commands = {"calls": calls, "rate": rate, "fanout": fanout, "memory": peak}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
