"""Workflows through the real Covalent server, beside Covalent's own local executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from sandbox import SandboxError, running_covalent

from .. import lab, processes, progress
from ..results import OURS, PUBLIC, Benchmark, Goal, Measure

REPEATS = 7
FEW = 3  # of those that take tens of seconds
WIDTH = 50
LIMIT = 1.1
LOCAL = "Covalent's local executor"

CONTENDERS = {"ours": OURS, "local": LOCAL, "public": PUBLIC}
WORKFLOWS = {"hello": "hello", "fanout": f"fan-out of {WIDTH}"}
SPANS = {"client": "dispatch to result", "server": "first to last moment in the server"}
SETUP = (
    "Covalent's own server (without Dask) runs on this machine, and a script dispatches the "
    f"workflows. hello: two electrons, one after the other; fan-out: {WIDTH} trivial electrons, "
    "one that Covalent adds to put their results into a list, and one that sums them. Ours and "
    f"Covalent's `local` executor run on one server, by turns, {REPEATS} times after 1 to warm "
    f"up. Then the public plugin runs on a server of its own, {FEW} times after 1. "
    "`ct.get_result(wait=True)` looks once a second, so the table also has the time that the "
    "server itself took. The environments are warm. The endpoint adds "
    f"{lab.LATENCY_MS:.0f} ms to each request."
)

Times = dict[str, dict[str, list[dict[str, float]]]]


def run() -> Benchmark:
    with lab.endpoint() as at:
        at.prepare("ours", WIDTH)
        side_by_side = _served(at, "ours", REPEATS, ["ours", "local"])
    with lab.endpoint() as at:
        at.prepare("stock", WIDTH)
        public = _served(at, "public", FEW, ["public"])
    measures = [
        Measure(CONTENDERS[name], f"{label}, {span}", "s", [taken[key] for taken in times])
        for workflow, label in WORKFLOWS.items()
        for key, span in SPANS.items()
        for name, times in (side_by_side[workflow] | public[workflow]).items()
    ]
    return Benchmark(
        name="workflow",
        title="workflows through Covalent's server",
        setup=SETUP,
        measures=measures,
        goals=list(_goals(measures)),
        notes=[_floor(measures)],
    )


def _served(at: lab.Endpoint, plugin: str, repeats: int, contenders: Sequence[str]) -> Times:
    """The times of contenders that one server, with one of the plugins, runs by turns."""
    names = " and ".join(CONTENDERS[name] for name in contenders)
    progress.say(f"{names}, through a server: {1 + repeats} rounds take minutes")
    with lab.folder() as work:
        env = lab.environment(work, at.url, lab.PLUGINS[plugin])
        own = {name: value for name, value in env.items() if name not in ("PATH", "HOME")}
        words = [str(repeats), str(WIDTH), str(work), *contenders]
        command = [sys.executable, "-m", "benchmarks.clients.workflow", *words]
        try:
            with running_covalent(work / "server", own) as server:
                _, printed, _ = processes.run(command, {**env, **server.env}, work, lab.SECONDS)
        except SandboxError as error:
            raise lab.BenchmarkError(str(error)) from error
    _check_that_all_ran(at, 1 + repeats)
    found: Times = json.loads(printed.splitlines()[-1])
    return found


def _check_that_all_ran(at: lab.Endpoint, rounds: int) -> None:
    """The results were right; they also have to come from the endpoint's function."""
    # hello's electrons; the fan-out's, the last two of which make a list and sum it.
    expected = rounds * (2 + WIDTH + 2)
    invocations = at.counts()["requests"].get("lambda POST", 0)
    if invocations != expected:
        raise lab.BenchmarkError(f"{invocations} invocations of {expected} electrons")


def _goals(measures: Sequence[Measure]) -> list[Goal]:
    median = {(one.contender, one.what): one.median for one in measures}
    return [
        Goal(f"{what}: at most {LIMIT} × Covalent's local", found / median[LOCAL, what], LIMIT)
        for (contender, what), found in median.items()
        if contender == OURS
    ]


def _floor(measures: Sequence[Measure]) -> str:
    what = f"{WORKFLOWS['fanout']}, {SPANS['server']}"
    median = {one.contender: one.median for one in measures if one.what == what}
    electrons = WIDTH + 2
    each = {name: f"{1000 * median[name] / electrons:.0f} ms" for name in (OURS, LOCAL)}
    return (
        f"Each of the fan-out's {electrons} electrons takes {each[LOCAL]} with Covalent's local "
        f"executor and {each[OURS]} with ours. With either executor the server starts them one by "
        "one and writes each step of each into its database."
    )
