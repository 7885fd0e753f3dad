"""A Monte Carlo estimate with a live bar, in a plain script: no Covalent server.

Needs tqdm and matplotlib here, and nothing in the function:

    . build/demo.env && python examples/monte_carlo.py monte_carlo.png timeline.png
"""

import math
import random
import sys

from lambda_calls import LambdaPoolExecutor

BATCHES, POINTS = 400, 20_000


def inside(seed: int) -> int:
    """How many of some random points of a square lie within its circle."""
    numbers = random.Random(seed)
    return sum(numbers.random() ** 2 + numbers.random() ** 2 <= 1 for _ in range(POINTS))


def draw(counts: list[int], path: str) -> None:
    from matplotlib.figure import Figure

    total, estimates = 0, []
    for number, count in enumerate(counts, 1):
        total += count
        estimates.append(4 * total / (number * POINTS))
    points = [POINTS * (i + 1) for i in range(len(counts))]
    error = [1.96 * math.sqrt(math.pi * (4 - math.pi) / n) for n in points]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    low, high = ([math.pi + sign * e for e in error] for sign in (-1, 1))
    axes.fill_between(points, low, high, alpha=0.2, label="95 % of all runs")
    axes.plot(points, estimates, label="estimate")
    axes.axhline(math.pi, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="points", ylabel="estimate of π")
    axes.legend()
    figure.savefig(path)


def main(picture: str, timeline: str) -> None:
    # Eight suit a laptop's sandbox, whose cores run them; leave max_workers out on AWS.
    with LambdaPoolExecutor(max_workers=8, progress=True) as pool:
        counts = list(pool.map(inside, range(BATCHES)))
    print(f"π is about {4 * sum(counts) / (BATCHES * POINTS):.5f}; {pool.stats().summary}")
    pool.plot(timeline)
    draw(counts, picture)
    print(f"written: {picture}, {timeline}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] if len(sys.argv) > 2 else ("monte_carlo.png", "timeline.png")))
