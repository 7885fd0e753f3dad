"""What having the plugin costs every program that imports Covalent, and what an executor costs."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .. import lab, processes, progress
from ..paths import ROOT
from ..results import OURS, PUBLIC, Benchmark, Goal, Measure

REPEATS = 21
WARMUPS = 2  # rounds; the first writes Covalent's configuration and compiled files
EXECUTORS = 1000
IMPORT_LIMIT_MS = 100.0
CORE_LIMIT_MS = 60.0
EXECUTOR_LIMIT_MS = 1.0

NONE = "no plugin"
PLUGINS = {NONE: None, OURS: lab.PLUGINS["ours"], PUBLIC: lab.PLUGINS["public"]}
SHOWN = 5
TRIES = 5

IMPORT = "import covalent"
CORE = "import lambda_calls"  # which loads neither Covalent nor boto3
POOL = "from lambda_calls import LambdaPoolExecutor"
GROWTH = "import covalent, more than without a plugin"
NAMED = "an executor, names given"
FROM_FILE = "an executor, names from samconfig.toml"

SETUP = (
    "Each import runs in a fresh process, and each contender has a HOME and a configuration of "
    f"its own. There are {REPEATS} rounds in turns after {WARMUPS} of warm-up. The import is "
    "timed inside the process, without the interpreter's start. What it grows by is taken round "
    f"by round. For an executor, the time is the mean of {EXECUTORS:,} in a process, in {REPEATS} "
    "processes. Ours is also made inside a generated project, where it reads the names from "
    "samconfig.toml."
)

_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
# A full garbage collection falls into whichever module happens to be imported at the time.
_UNCOLLECTED = "import gc; gc.disable(); import covalent"
_COLLECTIONS = """
import gc, time
began, taken = [0.0], []
def note(phase, info):
    if info["generation"] == 2:
        if phase == "start":
            began[0] = time.perf_counter()
        else:
            taken.append(time.perf_counter() - began[0])
gc.callbacks.append(note)
import covalent
print(f"{len(taken)} ({1000 * sum(taken):.0f} ms)")
"""
# -X importtime writes "import time: self [us] | cumulative | imported package".
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def run() -> Benchmark:
    with lab.folder() as work:
        imports = processes.in_turns(
            "importing Covalent",
            {
                **{name: _importing(name, IMPORT, work) for name in PLUGINS},
                **{statement: _importing(OURS, statement, work) for statement in (CORE, POOL)},
            },
            REPEATS,
            WARMUPS,
        )
        executors = processes.in_turns("constructing executors", _constructing(work), REPEATS)
        progress.say("looking where an import's time goes")
        costs = {name: _costs(name, work) for name in (OURS, PUBLIC)}
        collections = {name: _collections(name, work) for name in PLUGINS}
    growth = {name: _grown(imports[name], imports[NONE]) for name in (OURS, PUBLIC)}
    measures = [
        *(Measure(name, GROWTH, "ms", growth[name]) for name in growth),
        *(Measure(name, IMPORT, "ms", imports[name]) for name in PLUGINS),
        *(Measure(OURS, statement, "ms", imports[statement]) for statement in (CORE, POOL)),
        Measure(OURS, NAMED, "ms", executors[NAMED]),
        Measure(PUBLIC, NAMED, "ms", executors[PUBLIC]),
        Measure(OURS, FROM_FILE, "ms", executors[FROM_FILE]),
    ]
    median = {(one.contender, one.what): one.median for one in measures}
    return Benchmark(
        name="imports",
        title="importing Covalent with the plugin, and constructing executors",
        setup=SETUP,
        measures=measures,
        goals=[
            _at_most("import covalent grows by", median[OURS, GROWTH], IMPORT_LIMIT_MS),
            _at_most(CORE, median[OURS, CORE], CORE_LIMIT_MS),
            _at_most(NAMED, median[OURS, NAMED], EXECUTOR_LIMIT_MS),
            _at_most(FROM_FILE, median[OURS, FROM_FILE], EXECUTOR_LIMIT_MS),
        ],
        notes=[
            *(f"What {name} imports more than Covalent alone: {costs[name]}." for name in costs),
            "Full garbage collections while Covalent is imported, which one more module can set "
            f"off: {', '.join(f'{name} {found}' for name, found in collections.items())}.",
        ],
    )


def _at_most(what: str, found: float, limit: float) -> Goal:
    return Goal(f"{what}: at most {limit:.0f} ms", found, limit)


def _grown(times: list[float], without: list[float]) -> list[float]:
    return [one - other for one, other in zip(times, without, strict=True)]


def _environment(name: str, work: Path) -> dict[str, str]:
    home = work / name
    home.mkdir(exist_ok=True)
    return lab.environment(home, "http://127.0.0.1:9", PLUGINS[name])  # nothing is asked


def _importing(name: str, statement: str, work: Path) -> Callable[[], float]:
    env = _environment(name, work)
    command = [sys.executable, "-c", _TIMED.format(statement)]

    def importing() -> float:
        _, printed, _ = processes.run(command, env, work)
        return 1000 * float(printed)

    return importing


def _constructing(work: Path) -> dict[str, Callable[[], float]]:
    project = _project(work)
    return {
        NAMED: _executors(OURS, "named", work, work),
        PUBLIC: _executors(PUBLIC, "named", work, work),
        FROM_FILE: _executors(OURS, "samconfig", work, project),
    }


def _executors(name: str, names: str, work: Path, folder: Path) -> Callable[[], float]:
    command = [sys.executable, "-m", "benchmarks.clients.construct", str(EXECUTORS), names]
    env = _environment(name, work)

    def constructing() -> float:
        _, printed, _ = processes.run(command, env, folder)
        return float(json.loads(printed.splitlines()[-1]))

    return constructing


def _project(work: Path) -> Path:
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(work), str(ROOT)]
    processes.run(command, _environment(NONE, work), work)
    return next(work.glob("*/samconfig.toml")).parent


def _costs(name: str, work: Path) -> str:
    """The packages that are imported with the plugin and not without, dearest first."""
    without = {module for module, _ in _imported(NONE, work)}
    tries = [_by_package(_imported(name, work), without) for _ in range(TRIES)]
    packages = min(tries, key=Counter.total)
    dearest = ", ".join(f"{p} {micros / 1000:.1f} ms" for p, micros in packages.most_common(SHOWN))
    return (
        f"{dearest}; {packages.total() / 1000:.0f} ms in all (`python -X importtime`, without "
        f"garbage collection, the least of {TRIES})"
    )


def _by_package(imported: list[tuple[str, int]], without: set[str]) -> Counter[str]:
    packages: Counter[str] = Counter()
    for module, micros in imported:
        if module not in without:
            packages[module.partition(".")[0]] += micros
    return packages


def _imported(name: str, work: Path) -> list[tuple[str, int]]:
    command = [sys.executable, "-X", "importtime", "-c", _UNCOLLECTED]
    _, _, said = processes.run(command, _environment(name, work), work)
    return [(module, int(micros)) for micros, module in _IMPORTED.findall(said)]


def _collections(name: str, work: Path) -> str:
    command = [sys.executable, "-c", _COLLECTIONS]
    _, printed, _ = processes.run(command, _environment(name, work), work)
    return printed.strip()
