"""Pools that run on this machine, as the reader's yardstick: the same trivial calls.

Usage: python -m benchmarks.clients.local_pools process|loky|dask COUNT WORKERS REPEATS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from .. import tasks

Map = Callable[[int], list[int]]
CHUNK = 100  # calls that travel together; loky and Dask are told so, too


@contextmanager
def process(workers: int) -> Iterator[Map]:
    with ProcessPoolExecutor(workers) as pool:
        yield lambda count: list(pool.map(tasks.nothing, range(count), chunksize=CHUNK))


@contextmanager
def loky(workers: int) -> Iterator[Map]:
    from joblib.externals.loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=workers)
    yield lambda count: list(pool.map(tasks.nothing, range(count), chunksize=CHUNK))
    pool.shutdown()


@contextmanager
def dask(workers: int) -> Iterator[Map]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def run(count: int) -> list[int]:
            # A new key for each, else Dask gives the results that it has.
            made = client.map(tasks.nothing, range(count), batch_size=CHUNK, pure=False)
            return client.gather(made)  # type: ignore[no-any-return]

        yield run


def main(which: str, count: int, workers: int, repeats: int) -> None:
    rates = []
    with {"process": process, "loky": loky, "dask": dask}[which](workers) as run:
        run(CHUNK * workers)
        for _ in range(repeats):
            started = time.perf_counter()
            values = run(count)
            rates.append(count / (time.perf_counter() - started))
            assert values == list(range(count))
    found: dict[str, Any] = {"rates": rates}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
