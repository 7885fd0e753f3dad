"""A parameter sweep as one fan-out electron: Lyapunov exponents of the logistic map.

Each value of r is an item of one electron, so Covalent's server has a few nodes to look after,
not three hundred. Needs a running Covalent server and matplotlib:

    . build/demo.env && python examples/parameter_sweep.py sweep.png
"""

import math
import sys
from collections import UserList
from typing import Any

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


def main(path: str) -> None:
    values = [2.8 + 1.2 * i / (VALUES - 1) for i in range(VALUES)]
    # Of a plain list Covalent would make a node for each value.
    dispatched = ct.dispatch(sweep)(UserList(values), 20_000)
    print(f"dispatched {dispatched}; `covalent logs` shows how far it is")
    result = ct.get_result(dispatched, wait=True)
    if str(result.status) != "COMPLETED":
        sys.exit(f"{result.status}: {result.error}")
    output = result.get_node_result(0)["stdout"]
    print("\n".join(line for line in output.splitlines() if line.startswith("[fan-out]")))
    exponents, chaotic = result.result
    print(f"{VALUES} values of r, {100 * chaotic:.0f} % of them chaotic")
    draw(values, exponents, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "parameter_sweep.png")
