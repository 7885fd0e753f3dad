"""A parameter sweep as one fan-out electron: Lyapunov exponents of the logistic map.

Each value of r is an item of one electron, so Covalent's server has a few nodes to look after,
not three hundred. Needs a running Covalent server and matplotlib:

    . build/demo.env && python examples/parameter_sweep.py sweep.png
"""

import math
import sys
import time
from collections import UserList
from typing import Any
from urllib.request import urlopen

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import fan_out

VALUES = 300
executor = AWSLambdaExecutor(usage=True)


@ct.electron(executor=executor)
@fan_out(max_workers=8)  # what a laptop's sandbox stands; leave it out on AWS
def lyapunov(r: float, steps: int) -> float:
    """How fast two starting points that are close part, or meet; above 0: chaos."""
    x, total = 0.4, 0.0
    for _ in range(steps):
        x = r * x * (1 - x)
        total += math.log(max(abs(r * (1 - 2 * x)), 1e-12))
    return total / steps


@ct.electron(executor=executor)
def share_of_chaos(exponents: list[float]) -> float:
    return sum(x > 0 for x in exponents) / len(exponents)


@ct.lattice
def sweep(values: UserList[float], steps: int) -> Any:
    exponents = lyapunov(values, steps)
    return [exponents, share_of_chaos(exponents)]


def draw(values: list[float], exponents: list[float], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.plot(values, exponents, linewidth=0.9)
    axes.set(xlabel="r", ylabel="Lyapunov exponent", title="Logistic map: above 0 it is chaotic")
    figure.savefig(path)


def watch(dispatched: str) -> None:
    """Until the workflow ends, print how far the sweep is: its output grows on the server."""
    server = f"http://{ct.get_config('dispatcher.address')}:{ct.get_config('dispatcher.port')}"
    output = f"{server}/api/v0/files/{dispatched}/node_0/stdout.log"
    printed, status = 0, "RUNNING"
    while status in ("NEW_OBJECT", "PENDING", "RUNNING"):
        time.sleep(6)  # the first line comes after five seconds
        status = str(ct.get_result(dispatched, wait=False, status_only=True)["status"])
        try:
            with urlopen(output) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:  # there is none yet
            continue
        progress = [line for line in lines if line.startswith("[fan-out]")]
        for line in progress[printed:]:
            print(line, flush=True)
        printed = len(progress)


def main(path: str) -> None:
    values = [2.8 + 1.2 * i / (VALUES - 1) for i in range(VALUES)]
    # Of a plain list Covalent would make a node for each value.
    dispatched = ct.dispatch(sweep)(UserList(values), 200_000)
    print(f"dispatched {dispatched}")
    watch(dispatched)
    result = ct.get_result(dispatched, wait=True)
    if str(result.status) != "COMPLETED":
        sys.exit(f"{result.status}: {result.error}")
    exponents, chaotic = result.result
    print(f"{VALUES} values of r, {100 * chaotic:.0f} % of them chaotic")
    draw(values, exponents, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "parameter_sweep.png")
