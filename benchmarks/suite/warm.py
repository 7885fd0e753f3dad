"""The handlers' own time for one trivial task in a warm container."""

from __future__ import annotations

import ast
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass

from .. import handlers, images, lab, progress, tasks
from ..handlers import BARE, FORMER, STOCK
from ..results import OURS, Benchmark, Goal, Measure

MEMORY = images.MEMORY_OF_ONE_CPU  # MB
WARM_UPS = 20
ROUNDS = 10
TASKS = 50  # in each round
PACKAGES = "numpy pandas scipy scikit-learn"
USING = "ours, packages used"
IMPORTING = "ours, the import statements alone"
INSTALLED = "ours, with DepsPip"
PAUSE = 0.01  # seconds; on AWS, the way of an answer and of the next request takes longer
PAUSED = ", after a pause"


def run() -> Benchmark:
    what = "from event to answer"
    times = _times("")
    installed = Measure(
        OURS, "the same, of an electron whose DepsPip has installed before", "ms", times[INSTALLED]
    )
    ours, stock, bare = (Measure(name, what, "ms", times[name]) for name in (OURS, STOCK, BARE))
    paused = f"the same, {1000 * PAUSE:.0f} ms after the task before"
    rested, bare_rested = (
        Measure(name, paused, "ms", times[name + PAUSED]) for name in (OURS, BARE)
    )
    former = [Measure(FORMER, what, "ms", times[FORMER])] if FORMER in times else []
    loaded = "from event to answer, packages imported before"
    times = _times(PACKAGES)
    heavy, bare_beside = (Measure(name, loaded, "ms", times[name]) for name in (OURS, BARE))
    using = Measure(OURS, "the same, of an electron that uses them", "ms", times[USING])
    importing = Measure(OURS, "of this, its import statements", "ms", times[IMPORTING])
    over, heavy_over = ours.median - bare.median, heavy.median - bare_beside.median
    using_over = using.median - bare_beside.median
    return Benchmark(
        name="warm",
        title="One trivial task in a warm container",
        setup=(
            f"{ROUNDS} rounds of {TASKS} tasks, back to back, by turns, after {WARM_UPS} to warm "
            f"up. Each contender has one container with the limits of a function of {MEMORY} MB, "
            "one processor. The time begins when the event leaves the stand-in for the Runtime "
            "API and ends when the answer arrives there. The bare handler returns the same event "
            "under the same awslambdaric, so it shows the runtime client's own round trip. The "
            "former handler ran tasks in its own process, where each reaches the next. S3 is "
            f"the endpoint, with {lab.LATENCY_MS:.0f} ms a request; only the stock handler needs "
            f"it. “Packages imported before”: an image with {PACKAGES}, whose handler holds them, "
            "as an earlier electron of the environment imported them. The trivial task does not "
            "import them, so it is forked from a small process. The electron that uses them "
            "imports all four; the time of its import statements is taken in the electron. The "
            f"one with DepsPip imports a package of {tasks.MODULES:,} modules, which pip "
            "installed for an electron before it."
        ),
        measures=[
            *(ours, stock, bare, *former),
            *(rested, bare_rested, installed),
            *(heavy, bare_beside, using, importing),
        ],
        goals=[
            Goal("at most 2.5 ms over the runtime client's own round trip (ms)", over, 2.5),
            Goal("stretch: 1.5 ms over it (ms)", over, 1.5),
            Goal(f"the same where {PACKAGES} are imported (ms)", heavy_over, 6.0),
            Goal("stretch: 3 ms where they are imported (ms)", heavy_over, 3.0),
            Goal("the same of an electron that uses them (ms)", using_over, 6.0),
            Goal("of this, at most 5 ms for its import statements", importing.median, 5.0),
            Goal("at most 200 ms with DepsPip, installed before (ms)", installed.median, 200.0),
        ],
        notes=[
            f"Ours takes {over:.2f} ms over the bare handler: a process of the task's own, "
            "forked ahead, two pickles loaded and one made there, streams and answer read back. "
            f"{1000 * PAUSE:.0f} ms after the task before it takes "
            f"{rested.median - bare_rested.median:.2f} ms over it, as its process is ready then.",
            *(
                f"The former handler took {one.median - bare.median:.2f} ms over it, without a "
                "process of the task's own."
                for one in former
            ),
        ],
    )


def _times(packages: str) -> dict[str, list[float]]:
    """Milliseconds of the trivial task by contender, in images with these packages."""
    with (
        lab.endpoint() as at,
        images.built(packages, with_former=not packages) as built,
        ExitStack() as stack,
    ):
        running = [
            stack.enter_context(handlers.environment(built, one, MEMORY))
            for one in handlers.all_of(built, at)
        ]
        for environment in running:
            environment.container.start()
            if packages and environment.handler.name == OURS:
                _import_packages(environment)
            _tasks(environment, WARM_UPS)
        times: dict[str, list[float]] = {one.handler.name: [] for one in running}
        times.update({x: [] for x in (USING, IMPORTING, OURS + PAUSED, BARE + PAUSED)})
        for _ in progress.rounds(f"{TASKS} tasks with each handler", ROUNDS):
            for environment in running:
                name = environment.handler.name
                times[name] += _tasks(environment, TASKS)
                if not packages and name in (OURS, BARE):
                    times[name + PAUSED] += _tasks(environment, TASKS, PAUSE)
                if packages and name == OURS:
                    used = [_use_packages(environment) for _ in range(TASKS)]
                    times[USING] += [one.milliseconds for one in used]
                    times[IMPORTING] += [one.importing for one in used]
        if not packages:
            ours = next(one for one in running if one.handler.name == OURS)
            _use_installed(ours)  # waits for pip
            times[INSTALLED] = [_use_installed(ours) for _ in range(TASKS)]
    return times


@dataclass(frozen=True)
class Used:
    """An electron that used the packages.

    Attributes:
        milliseconds: from event to answer.
        held: whether the handler held them before.
        importing: milliseconds of its import statements.
    """

    milliseconds: float
    held: bool
    importing: float


def _import_packages(environment: handlers.Environment) -> None:
    """Have an electron import the packages, until one finds that the handler holds them."""
    if not any(_use_packages(environment).held for _ in range(3)):
        raise lab.BenchmarkError(f"the handler does not hold {PACKAGES} after three electrons")


def _use_packages(environment: handlers.Environment) -> Used:
    event = json.dumps(environment.handler.electron["packages"]).encode()
    done = environment.api.run(event)
    answer = json.loads(done.answer)
    if answer["failure"]:
        raise lab.BenchmarkError(f"the electron did not import {PACKAGES}: {done.answer[:2000]!r}")
    held, importing = ast.literal_eval(answer["text"])
    return Used(done.milliseconds, held, importing)


def _use_installed(environment: handlers.Environment) -> float:
    """Milliseconds of an electron that DepsPip has a package installed for."""
    done = environment.api.run(json.dumps(environment.handler.electron["pip"]).encode())
    answer = json.loads(done.answer)
    if answer["failure"] or answer["text"] != "7":
        raise lab.BenchmarkError(f"the electron has not what it installs: {done.answer[:2000]!r}")
    return done.milliseconds


def _tasks(environment: handlers.Environment, count: int, pause: float = 0.0) -> list[float]:
    """Milliseconds of each, with a pause in seconds before."""
    times = []
    for _ in range(count):
        time.sleep(pause)
        times.append(environment.run().milliseconds)
    return times
