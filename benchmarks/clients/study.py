"""A fan-out electron, and as many electrons as a list, through Covalent's server.

The endpoint answers after SECONDS, with what the handler once answered at once.

Usage: python -m benchmarks.clients.study FUNCTION ITEMS ELECTRONS SECONDS REPEATS
"""

from __future__ import annotations

import json
import sys
import time
from collections import UserList
from typing import Any

import cloudpickle
import covalent as ct
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import fan_out

from .. import tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)


def main(function: str, items: int, electrons: int, seconds: float, repeats: int) -> None:
    def executor(name: str) -> AWSLambdaExecutor:
        return AWSLambdaExecutor(
            function_name=f"{function}{name}{1000 * seconds:.0f}",
            s3_bucket_name=BUCKET,
            region="us-east-1",
        )

    spread = ct.electron(fan_out(batch=1)(tasks.wait), executor=executor("~"))
    single = ct.electron(tasks.wait, executor=executor("@"))

    @ct.lattice
    def one_node(values: UserList[float]) -> Any:
        return spread(values)

    @ct.lattice
    def many_nodes(count: int) -> Any:
        return [single(0.0) for _ in range(count)]

    _timed(one_node, UserList([0.0] * 4))  # records the answer, as the next one does
    _timed(many_nodes, 1)
    found = {
        "fan_out": [_timed(one_node, UserList([0.0] * items)) - seconds for _ in range(repeats)],
        "electrons": [_timed(many_nodes, electrons) - seconds],
    }
    print(json.dumps(found))


def _timed(workflow: Any, *args: Any) -> float:
    """Seconds from the first to the last moment of a dispatch in the server."""
    dispatched = ct.dispatch(workflow)(*args)
    while True:
        state = ct.get_result(dispatched, wait=False, status_only=True)
        if str(state["status"]) in ("COMPLETED", "FAILED", "CANCELLED"):
            break
        time.sleep(0.25)
    outcome = ct.get_result(dispatched, wait=True)
    if str(outcome.status) != "COMPLETED":
        raise RuntimeError(f"ended {outcome.status}: {outcome.error}")
    return float((outcome.end_time - outcome.start_time).total_seconds())


if __name__ == "__main__":
    name, items, electrons, seconds, repeats = sys.argv[1:]
    main(name, int(items), int(electrons), float(seconds), int(repeats))
