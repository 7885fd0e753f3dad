"""From the start of a container to the end of its first trivial task, at two sizes."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable

from .. import former, handlers, images, lab, progress
from ..handlers import BARE, FORMER, STOCK, Handler
from ..images import Images
from ..results import OURS, Benchmark, Goal, Measure, ratio

SIZES = (512, images.MEMORY_OF_ONE_CPU)  # MB
REPEATS = 12
WARM_UPS = 2  # bring the images' files into the page cache
TRACES = 5
LISTED = 10  # packages

END, INIT = "to the end of the first task", "to the first request for an event"
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*([\w.]+)")

Times = dict[tuple[int, str, str], list[float]]  # by memory, contender and END or INIT
Found = dict[tuple[int, str, str], Measure]


def run() -> Benchmark:
    with lab.endpoint() as at, images.built(with_former=True) as built:
        contenders = handlers.all_of(built, at)
        times = _times(built, contenders)
        traced = [_trace(built, contender) for contender in contenders[:2]]
    found = {key: _measure(*key, samples) for key, samples in times.items()}
    return Benchmark(
        name="coldstart",
        title="From `docker start` to the answer to the first trivial task",
        setup=(
            f"Each handler starts {REPEATS} times at each size, by turns, each time in a new "
            f"container, after {WARM_UPS} to warm the page cache. Ours runs in the image that "
            "`sam build` makes, the others in the same image with another handler. A container "
            "has the memory and processor of a function of that size, is read-only except for "
            "/tmp, and runs as another user than root. awslambdaric asks a stand-in for the "
            f"Runtime API. S3 is the endpoint, with {lab.LATENCY_MS:.0f} ms a request; only the "
            "stock handler needs it. The bare handler returns its event, so it shows what Docker, "
            "Python and awslambdaric take. The former handler, of commit "
            f"{former.COMMIT[:7]}, ran the user's code in its own process; the image of its own "
            "template has ours as the base, so that Python and packages are the same."
        ),
        measures=list(found.values()),
        goals=[
            *_goals(found, "at most a third of", STOCK, 1 / 3),
            *_goals(found, "at most 1.1 ×", FORMER, 1.1),
        ],
        notes=[*traced, *(_shares(found, size) for size in SIZES), *_left_out(found)],
    )


def _goals(found: Found, words: str, other: str, limit: float) -> list[Goal]:
    """Ours beside another handler at each size; none if that was not there."""
    return [
        Goal(
            f"{words} the {other}'s, {size} MB",
            ratio(found[size, OURS, END], found[size, other, END]),
            limit,
        )
        for size in SIZES
        if (size, other, END) in found
    ]


def _left_out(found: Found) -> list[str]:
    if (SIZES[0], FORMER, END) in found:
        return []
    return [
        f"The former handler was not measured: git here does not have commit {former.COMMIT[:7]}."
    ]


def _times(built: Images, contenders: Iterable[Handler]) -> Times:
    times: Times = defaultdict(list)
    for size in SIZES:
        for repeat in progress.rounds(f"starting containers of {size} MB", WARM_UPS + REPEATS):
            for one in contenders:
                init, end = _start(built, one, size)
                if repeat >= WARM_UPS:
                    times[size, one.name, END].append(end)
                    times[size, one.name, INIT].append(init)
    return {key: times[key] for key in sorted(times, key=lambda key: (key[0], key[2] == INIT))}


def _start(built: Images, handler: Handler, size: int) -> tuple[float, float]:
    """Seconds to the first request for an event, and to the answer."""
    with handlers.environment(built, handler, size) as environment:
        started = environment.container.start()
        done = environment.run()
    return done.asked - started, done.answered - started


def _measure(size: int, contender: str, until: str, samples: list[float]) -> Measure:
    return Measure(contender, f"{size} MB: {until}", "s", samples)


def _trace(built: Images, handler: Handler) -> str:
    """What a start and its first task import, the most expensive packages first."""
    progress.say(f"looking at what is imported: {handler.name}")
    traces = [_imports(built, handler) for _ in range(TRACES)]
    costs = {
        name: statistics.median([trace.get(name, 0.0) for trace in traces])
        for name in set().union(*traces)
    }
    dearest = sorted(costs, key=lambda name: -costs[name])[:LISTED]
    listed = ", ".join(f"{name} {costs[name]:.1f}" for name in dearest)
    total = statistics.median([sum(trace.values()) for trace in traces])
    return (
        f"Imports of a start and its first task, {handler.name}, at one full processor: "
        f"{total:.0f} ms in all. By package, its own modules only, in ms: {listed}. Tracing "
        f"(`-X importtime`, median of {TRACES}) takes some of it."
    )


def _imports(built: Images, handler: Handler) -> dict[str, float]:
    """Milliseconds by top-level package."""
    costs: dict[str, float] = defaultdict(float)
    traced = {"PYTHONPROFILEIMPORTTIME": "1"}
    with handlers.environment(built, handler, SIZES[-1], **traced) as environment:
        environment.container.start()
        environment.run()
        for microseconds, module in _IMPORT.findall(environment.container.log()):
            costs[module.partition(".")[0]] += int(microseconds) / 1000
    return costs


def _shares(found: Found, size: int) -> str:
    """Where our time goes."""
    least = found[size, BARE, END].median
    init = found[size, OURS, INIT].median
    end = found[size, OURS, END].median
    return (
        f"Where ours goes at {size} MB: {least:.2f} s for Docker, Python and awslambdaric (the "
        f"bare handler), {init - least:.2f} s more for our imports, {end - init:.2f} s for the "
        "first task."
    )
