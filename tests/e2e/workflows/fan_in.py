"""Three layers, each three electrons that expand and one that reduces what they made.

      plot ─┬─► grow ─┐         ┌─► grow ─┐         ┌─► grow ─┐
            ├─► grow ─┼► reduce ┼─► grow ─┼► reduce ┼─► grow ─┼► reduce ─► harvest
            └─► grow ─┘         └─► grow ─┘         └─► grow ─┘

The values are dataclasses of this script's own. Prints the result and what plain Python makes of
the same, as JSON.
"""

import json
from dataclasses import dataclass, field, replace

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report

LAYERS = 3
BRANCHES = 3

deployed = AWSLambdaExecutor()


@dataclass(frozen=True)
class Seed:
    """What grows."""

    weight: int
    line: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plot:
    """Where it grows."""

    layer: int
    seeds: tuple[Seed, ...]
    notes: dict[str, int] = field(default_factory=dict)


@ct.electron(executor=deployed)
def grow(plot: Plot, branch: int) -> Plot:
    """Expand each seed into as many as the branch's number, each a little heavier."""
    print("layer", plot.layer, "branch", branch)
    seeds = tuple(
        replace(seed, weight=seed.weight + branch * step, line=(*seed.line, branch))
        for seed in plot.seeds
        for step in range(1, branch + 2)
    )
    return replace(plot, seeds=seeds)


@ct.electron(executor=deployed)
def reduce(plots: list[Plot]) -> Plot:
    """Keep the heaviest seed of each branch, and note how many there were."""
    layer = plots[0].layer
    heaviest = tuple(max(plot.seeds, key=lambda seed: seed.weight) for plot in plots)
    count = sum(len(plot.seeds) for plot in plots)
    return Plot(layer + 1, heaviest, {**plots[0].notes, f"layer {layer}": count})


@ct.lattice
def harvest(plot: Plot) -> Plot:
    """Grow and reduce, layer after layer."""
    for _ in range(LAYERS):
        plot = reduce([grow(plot, branch) for branch in range(BRANCHES)])
    return plot


if __name__ == "__main__":
    start = Plot(0, (Seed(1), Seed(5)))
    answer = report(ct.dispatch(harvest)(start))
    print(json.dumps({**answer, "expected": repr(harvest(start))}))
