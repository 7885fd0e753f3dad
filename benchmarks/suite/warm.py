"""The handlers' own time for one trivial task in a warm container."""

from __future__ import annotations

import json
from contextlib import ExitStack

from .. import handlers, images, lab, progress
from ..handlers import BARE, STOCK
from ..results import OURS, Benchmark, Goal, Measure

MEMORY = images.MEMORY_OF_ONE_CPU  # MB
WARM_UPS = 20
ROUNDS = 10
TASKS = 50  # in each round
PACKAGES = "numpy pandas scipy scikit-learn"
USING = "ours, packages used"


def run() -> Benchmark:
    what = "from event to answer"
    times = _times("")
    ours, stock, bare = (Measure(name, what, "ms", times[name]) for name in (OURS, STOCK, BARE))
    loaded = "from event to answer, packages imported before"
    times = _times(PACKAGES)
    heavy, bare_beside = (Measure(name, loaded, "ms", times[name]) for name in (OURS, BARE))
    using = Measure(OURS, "the same, of an electron that uses them", "ms", times[USING])
    over, heavy_over = ours.median - bare.median, heavy.median - bare_beside.median
    using_over = using.median - bare_beside.median
    return Benchmark(
        name="warm",
        title="One trivial task in a warm container",
        setup=(
            f"{ROUNDS} rounds of {TASKS} tasks, by turns, after {WARM_UPS} to warm up. Each "
            f"contender has one container with the limits of a function of {MEMORY} MB, one "
            "processor. The time begins when the event leaves the stand-in for the Runtime API "
            "and ends when the answer arrives there. The bare handler returns the same event "
            "under the same awslambdaric, so it shows the runtime client's own round trip. S3 is "
            f"the endpoint, with {lab.LATENCY_MS:.0f} ms a request; only the stock handler needs "
            f"it. “Packages imported before”: an image with {PACKAGES}, whose handler holds them, "
            "as an earlier electron of the environment imported them. The trivial task does not "
            "import them, so it is forked from a small process. The electron that uses them "
            "imports all four."
        ),
        measures=[ours, stock, bare, heavy, bare_beside, using],
        goals=[
            Goal("at most 2.5 ms over the runtime client's own round trip (ms)", over, 2.5),
            Goal(f"the same where {PACKAGES} are imported (ms)", heavy_over, 6.0),
            Goal("the same of an electron that uses them (ms)", using_over, 6.0),
        ],
        notes=[
            f"Ours takes {over:.2f} ms over the bare handler: a process of the task's own, "
            "forked ahead, two pickles loaded and one made there, streams and answer read back."
        ],
    )


def _times(packages: str) -> dict[str, list[float]]:
    """Milliseconds of the trivial task by contender, in images with these packages."""
    with lab.endpoint() as at, images.built(packages) as built, ExitStack() as stack:
        running = [
            stack.enter_context(handlers.environment(built, one, MEMORY))
            for one in handlers.all_of(built, at)
        ]
        for environment in running:
            environment.container.start()
            if packages and environment.handler.name == OURS:
                _import_packages(environment)
            _tasks(environment, WARM_UPS)
        times: dict[str, list[float]] = {USING: [], **{one.handler.name: [] for one in running}}
        for _ in progress.rounds(f"{TASKS} tasks with each handler", ROUNDS):
            for environment in running:
                times[environment.handler.name] += _tasks(environment, TASKS)
                if packages and environment.handler.name == OURS:
                    times[USING] += [_use_packages(environment)[0] for _ in range(TASKS)]
    return times


def _import_packages(environment: handlers.Environment) -> None:
    """Have an electron import the packages, until one finds that the handler holds them."""
    for _ in range(3):
        _, text = _use_packages(environment)
        if text == "True":
            return
    raise lab.BenchmarkError(f"the handler does not hold {PACKAGES}: {text}")


def _use_packages(environment: handlers.Environment) -> tuple[float, str]:
    """Milliseconds of an electron that uses the packages, and whether the handler held them."""
    event = json.dumps(environment.handler.electron["packages"]).encode()
    done = environment.api.run(event)
    return done.milliseconds, json.loads(done.answer)["text"]


def _tasks(environment: handlers.Environment, count: int) -> list[float]:
    """Milliseconds of each."""
    return [environment.run().milliseconds for _ in range(count)]
