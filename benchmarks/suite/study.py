"""A thousand items through Covalent's server: as one fan-out electron, and as electrons."""

from __future__ import annotations

import json
import sys

from sandbox import SandboxError, running_covalent

from .. import lab, processes, progress
from ..results import BOTO, Benchmark, Goal, Measure

FUNCTION = "ours"
REPEATS = 3
ITEMS, ELECTRONS, SECONDS = 1000, 100, 1.0
WHAT = f"{ITEMS:,} items of {SECONDS:.0f} s, beyond that"
AS_ELECTRONS = "ours, an electron for each item"


def run() -> Benchmark:
    with lab.endpoint() as at, lab.folder() as work:
        progress.say(f"bare boto3, {ITEMS:,} invocations")
        at.prepare(FUNCTION, 1)
        lab.client(at, "ours", "boto", "fanout", f"{FUNCTION}@0", 1, 0.0, 1)  # records the answer
        words = (f"{FUNCTION}@{1000 * SECONDS:.0f}", ITEMS, SECONDS, 1 + REPEATS)
        bare = lab.client(at, "ours", "boto", "fanout", *words)["beyond"][1:]
        env = lab.environment(work, at.url, lab.PLUGINS["ours"])
        own = {name: value for name, value in env.items() if name not in ("PATH", "HOME")}
        said = [FUNCTION, *map(str, (ITEMS, ELECTRONS, SECONDS, REPEATS))]
        command = [sys.executable, "-m", "benchmarks.clients.study", *said]
        progress.say(f"{ITEMS:,} items in one electron, and {ELECTRONS} electrons")
        try:
            with running_covalent(work / "server", own) as server:
                _, printed, _ = processes.run(command, {**env, **server.env}, work, lab.SECONDS)
        except SandboxError as error:
            raise lab.BenchmarkError(str(error)) from error
    found: dict[str, list[float]] = json.loads(printed.splitlines()[-1])
    scale = ITEMS / ELECTRONS
    rows = [
        Measure("ours, a fan-out electron", WHAT, "s", found["fan_out"]),
        Measure(
            AS_ELECTRONS,
            WHAT,
            "s",
            [scale * x for x in found["electrons"]],
            f"measured on {ELECTRONS}, times {scale:.0f}",
        ),
        Measure(BOTO, WHAT, "s", bare, "without Covalent's server"),
    ]
    return Benchmark(
        name="study",
        title=f"a study of {ITEMS:,} items through Covalent's server",
        setup=(
            "Covalent's own server on this machine; the time from the first to the last moment of "
            "a dispatch in the server, less the second that each item takes. A fan-out electron, "
            f"{REPEATS} times after a small one; {ELECTRONS} electrons, once, and the figure "
            f"scaled to {ITEMS:,}. The endpoint gives, after the second, the answer that the "
            f"handler once gave, since {ITEMS:,} environments would share this machine's cores. "
            "What takes the fan-out's argument apart is run by the handler."
        ),
        measures=rows,
        goals=[Goal("no more than 5 s beyond the second", rows[0].median, 5)],
    )
