"""1,000 electrons of one second at once: what the client's side takes beyond that second."""

from __future__ import annotations

from typing import Any

from .. import lab, progress
from ..results import BOTO, LITHOPS, OURS, PUBLIC, Benchmark, Goal, Measure, ratio

COUNT = 1000
SECONDS = 1.0
REPEATS = 3  # in a process
ROUNDS = 3
# Handlers as they are take more memory and CPU than a machine has for a thousand at once.
LIGHT, LITHOPS_LIGHT = "ours-light", "lithops-light"
FEW = 20  # electrons of the public plugin, which takes most of a second of CPU for each

ALONE = "recorded answers"
REAL = "handlers run"
# What is measured, its unit, and the factor from the client's numbers.
QUANTITIES = {
    "beyond": ("time beyond the 1 s", "s", 1.0),
    "cpu": ("client's CPU per electron", "ms", 1e3),
    "memory": ("client's memory above import", "MB", 1e-6),
}


def run() -> Benchmark:
    with lab.endpoint() as at:
        at.prepare("ours", 1)
        lab.client(at, "ours", "boto", "fanout", "ours@0", 1, SECONDS, 1)  # records the answer
        alone = _by_turns(at, f"ours@{1000 * SECONDS:.0f}", ALONE)
        progress.say(f"starting {COUNT:,} environments")
        at.prepare(LIGHT, COUNT)
        lab.client(at, "ours", "boto", "fanout", LIGHT, COUNT, SECONDS, 1)  # the first is slower
        real = _by_turns(at, LIGHT, REAL)
    with lab.endpoint() as at:
        progress.say(f"{PUBLIC}, {FEW} electrons")
        at.prepare("stock", FEW)
        found = lab.client(at, "public", "plugin", "stock", "fanout", FEW, SECONDS, 1)
        public = _measures(PUBLIC, REAL, found, f"{FEW} electrons, not {COUNT}")
    with lab.endpoint() as at:
        progress.say(f"{LITHOPS}, {COUNT:,} environments")
        at.prepare(LITHOPS_LIGHT, COUNT)
        words = ("--function", LITHOPS_LIGHT, "fanout", COUNT, SECONDS, REPEATS)
        found = lab.client(at, "lithops", "lithops_client", *words)
        lithops = _measures(LITHOPS, REAL, found, "a lighter handler than its own")
    rows = [*alone.values(), *real.values(), *public.values(), *lithops.values()]
    return Benchmark(
        name="fanout",
        title=f"{COUNT:,} electrons of {SECONDS:.0f} s at once, client side",
        setup=(
            f"Ours and bare boto3 ({COUNT:,} threads) run by turns, in {ROUNDS} processes each, "
            f"with {REPEATS} fan-outs in each process. The first of them makes the connections. "
            "Bare boto3 starts its threads within each fan-out. Lithops: one process, a whole "
            f"fan-out to warm up, then {REPEATS}. The public plugin: one fan-out of {FEW}. "
            f"“{REAL}”: {COUNT:,} warm environments share this machine's cores with the client. "
            f"“{ALONE}”: after the second, the endpoint gives the answer that the handler once "
            "gave, so only the client is measured. Lithops' handler, which starts a process and "
            "two S3 clients for each task, was made lighter "
            "([how](../benchmarks/environment.py)), because a thousand of them need more memory "
            "than there is. Our handler was made to look for orders late, for the same reason."
        ),
        measures=rows,
        goals=[*_goals(alone, ALONE), *_goals(real, REAL)],
    )


def _by_turns(at: lab.Endpoint, function: str, how: str) -> dict[str, Measure]:
    found: dict[str, dict[str, Any]] = {OURS: {}, BOTO: {}}
    for _ in progress.rounds(f"{OURS} and {BOTO}, {how}", ROUNDS):
        words = (COUNT, SECONDS, REPEATS)
        _add(found[OURS], lab.client(at, "ours", "plugin", function, "fanout", *words))
        _add(found[BOTO], lab.client(at, "ours", "boto", "fanout", function, *words))
    return {**_measures(OURS, how, found[OURS]), **_measures(BOTO, how, found[BOTO])}


def _add(to: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in found.items():
        to.setdefault(name, []).extend(value if isinstance(value, list) else [value])


def _measures(who: str, how: str, found: dict[str, Any], note: str = "") -> dict[str, Measure]:
    rows = {}
    for name, (what, unit, factor) in QUANTITIES.items():
        values = found[name] if isinstance(found[name], list) else [found[name]]
        samples = [factor * value for value in values]
        rows[f"{who} {name}"] = Measure(who, f"{what}, {how}", unit, samples, note)
    return rows


def _goals(rows: dict[str, Measure], how: str) -> list[Goal]:
    beyond = ratio(rows[f"{OURS} beyond"], rows[f"{BOTO} beyond"])
    cpu = ratio(rows[f"{OURS} cpu"], rows[f"{BOTO} cpu"])
    memory = rows[f"{OURS} memory"].median
    goals = [
        Goal(f"time beyond the 1 s no more than 1.15 × bare boto3 ({how})", beyond, 1.15),
        Goal(f"CPU per electron no more than 1.15 × bare boto3 ({how})", cpu, 1.15),
        Goal(f"memory no more than 150 MB above import ({how})", memory, 150),
    ]
    if how == ALONE:
        goals += [
            Goal("stretch: half of bare boto3's time beyond the 1 s", beyond, 0.5),
            Goal("stretch: half of bare boto3's CPU per electron", cpu, 0.5),
        ]
    return goals
