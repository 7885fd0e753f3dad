"""A trivial task after one that ended its process, beside one after a task like itself."""

from __future__ import annotations

import json

from .. import handlers, images, lab, progress
from ..results import OURS, Benchmark, Goal, Measure

MEMORY = images.MEMORY_OF_ONE_CPU  # MB
WARM_UPS = 20
ROUNDS = 100


def run() -> Benchmark:
    with lab.endpoint() as at, images.built() as built:
        ours = handlers.all_of(built, at)[0]
        with handlers.environment(built, ours, MEMORY) as environment:
            environment.container.start()
            for _ in range(WARM_UPS):
                environment.run()
            after: dict[str, list[float]] = {"a trivial task": [], "a crash": []}
            for _ in progress.rounds("a crash, then trivial tasks", ROUNDS):
                _crash(environment)
                after["a crash"].append(environment.run().milliseconds)
                after["a trivial task"].append(environment.run().milliseconds)
    measures = [Measure(OURS, f"after {what}", "ms", times) for what, times in after.items()]
    more = measures[1].median - measures[0].median
    return Benchmark(
        name="crash",
        title="A trivial task after one that ended its process (os._exit)",
        setup=(
            f"{ROUNDS} rounds of a task that calls os._exit and two trivial ones, in one "
            f"container with the limits of a function of {MEMORY} MB, after {WARM_UPS} to warm "
            "up. From the event's leaving the stand-in for the Runtime API to the answer's "
            "arrival there."
        ),
        measures=measures,
        goals=[Goal("at most 20 ms more than after a trivial one (ms)", more, 20.0)],
    )


def _crash(environment: handlers.Environment) -> None:
    event = json.dumps(environment.handler.electron["crash"]).encode()
    answer = json.loads(environment.api.run(event).answer)
    if (answer["failure"] or {}).get("kind") != "crashed":
        raise lab.BenchmarkError(f"the electron did not crash: {answer}")
