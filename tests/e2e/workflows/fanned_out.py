"""Fan-out electrons, each a lattice of its own; prints what became of them, as JSON.

All are dispatched at once; those that the function must not run all at a time say so.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import covalent as ct
import requests
from covalent._shared_files.config import get_config
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import fan_out
from report import report

ITEMS = 300
deployed = AWSLambdaExecutor(usage=True)
trace = str(Path(tempfile.mkdtemp(prefix="fan-out-")) / "opened")


class Traced:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.makedirs, (trace, 0o700, True)


@ct.electron(executor=deployed)
@fan_out(max_workers=3)
def squares(x: int) -> int:
    print(f"squaring {x}")
    return x * x


@ct.electron(executor=deployed)
def total(values: list[int]) -> int:
    return sum(values)


@ct.lattice
def study(xs: list[int]) -> int:
    return total(squares(xs))


@ct.electron(executor=deployed)
@fan_out(over=("a", "b"), max_workers=2)
def paired(a: int, b: str, c: float) -> tuple[int, str, float]:
    return a, b, c


@ct.electron(executor=deployed)
@fan_out(batch=1, max_workers=2)
def fails_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three is not for me")
    return x


@ct.electron(executor=deployed)
@fan_out(return_exceptions=True, max_workers=1)
def odd_ones(x: int) -> int:
    if x == 1:
        raise KeyError("one")
    return x


@ct.electron(executor=deployed)
@fan_out(max_workers=1)
def traced(x: int) -> Traced:
    return Traced()


@ct.electron(executor=deployed)
@fan_out(batch=1, max_workers=3)
def sleeps(x: int) -> int:
    print(f"fan-out begun: {x}", flush=True)
    time.sleep(120)
    return x


def output_so_far(dispatch_id: str) -> str:
    """What Covalent says of the first node's output while it runs, once three items do."""
    address = f"http://127.0.0.1:{get_config('dispatcher.port')}/api/v0/files/{dispatch_id}"
    end = time.monotonic() + 60
    while True:  # before there is a file, the server answers with an error
        shown = requests.get(f"{address}/node_0/stdout.log", timeout=10).text
        if "3 running" in shown or time.monotonic() > end:
            return shown
        time.sleep(0.5)


def main() -> None:
    works: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "study": (study, (list(range(ITEMS)),)),
        "paired": (ct.lattice(paired), ([1, 2, 3], ["x", "y", "z"], 0.5)),
        "fails_at_three": (ct.lattice(fails_at_three), (list(range(6)),)),
        "odd_ones": (ct.lattice(odd_ones), ([0, 1, 2],)),
    }
    answers = {}
    for name, (work, args) in works.items():
        answers[name] = report(ct.dispatch(work)(*args))
    # Else Covalent's server opens the values when it closes the workflow.
    closed_there = ct.lattice(traced, workflow_executor="awslambda")
    dispatched = ct.dispatch(closed_there)([1, 2, 3])
    while str(ct.get_result(dispatched, wait=False, status_only=True)["status"]) != "COMPLETED":
        time.sleep(0.5)
    answers["opened_here"] = os.path.exists(trace)
    answers["traced"] = report(dispatched)
    dispatched = ct.dispatch(ct.lattice(sleeps))(list(range(6)))
    time.sleep(float(sys.argv[1]))
    answers["shown"] = output_so_far(dispatched)
    requested = time.time()
    ct.cancel(dispatched)
    answers["sleeps"] = report(dispatched)
    answers["cancelled_after"] = time.time() - requested
    print(json.dumps(answers))


main()
