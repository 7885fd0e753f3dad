"""Two workflows through Covalent's server, as a user's script runs them.

Usage: python -m benchmarks.clients.workflow REPEATS WIDTH FOLDER CONTENDER...
       where a contender is "local", "ours" or "public"; FOLDER takes the executor's files
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
import covalent as ct

from .. import tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)

FUNCTIONS = {"ours": "ours", "public": "stock"}  # of the endpoint


def main(repeats: int, width: int, folder: str, contenders: list[str]) -> None:
    workflows = {name: _workflows(_executor(name, folder), width) for name in contenders}
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for workflow in ("hello", "fanout"):
        times: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for turn in range(1 + repeats):  # the first one warms up
            for name in contenders if turn % 2 else reversed(contenders):
                taken = _timed(*workflows[name][workflow])
                if turn:
                    times[name].append(taken)
        found[workflow] = times
    print(json.dumps(found))


def _executor(name: str, folder: str) -> Any:
    if name == "local":
        return "local"
    from covalent.executor import AWSLambdaExecutor

    made = AWSLambdaExecutor(
        function_name=FUNCTIONS[name], s3_bucket_name=BUCKET, region="us-east-1"
    )
    # The public plugin, which takes no such argument, would write into the server's own folder.
    made.cache_dir = folder
    return made


def _workflows(executor: Any, width: int) -> dict[str, tuple[Any, tuple[Any, ...], Any]]:
    """Each workflow with its arguments and its result."""
    electron: Callable[..., Any] = ct.electron(executor=executor)
    join, exclaim, nothing, total = map(
        electron, (tasks.join, tasks.exclaim, tasks.nothing, tasks.total)
    )

    @ct.lattice
    def hello(first: str, second: str) -> str:
        return exclaim(join(first, second))

    @ct.lattice
    def fanout(count: int) -> int:
        return total([nothing(i) for i in range(count)])

    return {
        "hello": (hello, ("Hello", "World"), "Hello, World!"),
        "fanout": (fanout, (width,), sum(range(width))),
    }


def _timed(workflow: Any, args: tuple[Any, ...], expected: Any) -> dict[str, float]:
    """Seconds from dispatch to result, and from the server's first to its last moment of it."""
    started = time.perf_counter()
    outcome = ct.get_result(ct.dispatch(workflow)(*args), wait=True)
    seconds = time.perf_counter() - started
    if outcome.result != expected:
        raise RuntimeError(f"ended {outcome.status}, {outcome.result!r}: {outcome.error}")
    return {
        "client": seconds,
        "server": (outcome.end_time - outcome.start_time).total_seconds(),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
