"""Workflows within a workflow: which start of a random walk comes home soonest.

Each start is a sublattice, a workflow of its own: Covalent dispatches it when its turn has come,
and its page shows it as one node with a graph behind it. It needs no package.

    make up
    . build/demo.env && python examples/sublattice.py
"""

import random
import statistics
import subprocess
import sys
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor

STARTS = [1, 2, 4]
LIMIT = 2_000  # steps until a walk is given up
on_lambda = AWSLambdaExecutor()


@ct.electron(executor=on_lambda)
def walk(start: int, seed: int) -> list[int]:
    """Steps of 300 walks on a line until each is at 0."""
    numbers = random.Random(f"{start} {seed}")
    taken = []
    for _ in range(300):
        place, steps = start, 0
        while place and steps < LIMIT:
            place += numbers.choice((-1, 1))
            steps += 1
        taken.append(steps)
    return taken


@ct.electron(executor=on_lambda)
def summary(start: int, walks: list[list[int]]) -> dict[str, Any]:
    taken = sorted(steps for some in walks for steps in some)
    home = sum(steps < LIMIT for steps in taken) / len(taken)
    return {"start": start, "median": statistics.median(taken), "home": home}


@ct.electron(executor=on_lambda)
@ct.lattice(executor=on_lambda)
def from_start(start: int) -> Any:
    """One study: two batches of walks side by side, and what came of them."""
    return summary(start, [walk(start, seed) for seed in range(2)])


@ct.lattice(executor=on_lambda)
def all_starts(starts: list[int]) -> Any:
    """One study for each start, side by side."""
    return [from_start(start) for start in starts]


def main() -> None:
    dispatched = ct.dispatch(all_starts)(STARTS)
    # A bar while it runs; in the end what failed, and why.
    if subprocess.run(["covalent-lambda", "show", dispatched], check=False).returncode:
        sys.exit(1)
    print(f"start  median of steps  home within {LIMIT}")
    for one in ct.get_result(dispatched).result:
        print(f"{one['start']:>5}  {one['median']:>15.0f}  {one['home']:>16.1%}")


if __name__ == "__main__":
    main()
