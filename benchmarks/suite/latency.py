"""One trivial electron at a time, through the executor's `_execute`, without a server."""

from __future__ import annotations

from .. import lab, progress
from ..results import BOTO, LITHOPS, OURS, PUBLIC, Benchmark, Goal, Measure, ratio

ROUNDS = 5
REPEATS = 100  # in each round
FEW = 5  # of those that take seconds


def run() -> Benchmark:
    bare, ours = _side_by_side(0.0)
    slow_bare, slow_ours = _side_by_side(lab.LATENCY_MS)
    public, lithops = _slow_ones(0.0)
    slow_public, slow_lithops = _slow_ones(lab.LATENCY_MS)
    text = "no more than 1.3 × a bare client.invoke"
    faster = "at least 50 × faster than the public plugin with its defaults"
    return Benchmark(
        name="latency",
        title="One trivial electron through the executor's `_execute`, no server",
        setup=(
            f"Ours and bare boto3 run by turns, in {ROUNDS} rounds of {REPEATS} electrons, each "
            f"after 20 to warm up. The public plugin runs {FEW} electrons after 1, Lithops {FEW} "
            "after 3. The environments are warm. The endpoint adds nothing, or "
            f"{lab.LATENCY_MS:.0f} ms to each request."
        ),
        measures=[ours, bare, public, lithops, slow_ours, slow_bare, slow_public, slow_lithops],
        goals=[
            Goal(f"{text}, nothing added by the endpoint", ratio(ours, bare), 1.3),
            Goal(f"{text}, {lab.LATENCY_MS:.0f} ms added", ratio(slow_ours, slow_bare), 1.3),
            *(
                Goal(f"{faster}, {added_ms:.0f} ms added", ratio(*pair), 50, at_least=True)
                for added_ms, *pair in (
                    (0.0, public, ours),
                    (lab.LATENCY_MS, slow_public, slow_ours),
                )
            ),
        ],
        notes=[
            "An electron as short as this one has ended before the public plugin looks for its "
            "result the first time. So the plugin's time is that of making a client for each "
            "request. If an electron has not ended by then, the plugin sleeps before it looks "
            "again: `fanout` shows what it takes beyond an electron's second.",
        ],
    )


def _side_by_side(added_ms: float) -> tuple[Measure, Measure]:
    what = f"one electron, endpoint + {added_ms:.0f} ms"
    bare: list[float] = []
    ours: list[float] = []
    with lab.endpoint(added_ms) as at:
        at.prepare("ours", 1)
        for _ in progress.rounds(f"{OURS} and {BOTO}, {what}", ROUNDS):
            bare += lab.client(at, "ours", "boto", "latency", REPEATS)["seconds"]
            ours += lab.client(at, "ours", "plugin", "ours", "latency", REPEATS)["seconds"]
    return (
        Measure(BOTO, what, "ms", [1000 * x for x in bare]),
        Measure(OURS, what, "ms", [1000 * x for x in ours]),
    )


def _slow_ones(added_ms: float) -> tuple[Measure, Measure]:
    what = f"one electron, endpoint + {added_ms:.0f} ms"
    with lab.endpoint(added_ms) as at:
        progress.say(f"{PUBLIC}, {what}")
        at.prepare("stock", 1)
        public = lab.client(at, "public", "plugin", "stock", "latency", FEW)["seconds"]
        progress.say(f"{LITHOPS}, {what}")
        at.prepare("lithops", 1)
        lithops = lab.client(at, "lithops", "lithops_client", "latency", FEW)["seconds"]
    return (
        Measure(PUBLIC, what, "ms", [1000 * x for x in public], "its polling's defaults"),
        Measure(LITHOPS, what, "ms", [1000 * x for x in lithops]),
    )
