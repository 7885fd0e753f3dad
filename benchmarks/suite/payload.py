"""One argument of 200 MB, and one result of 200 MB."""

from __future__ import annotations

from collections import defaultdict

from .. import lab, progress
from ..results import BOTO, OURS, PUBLIC, Benchmark, Goal, Measure, ratio

SIZE = 200_000_000
REPEATS = 5
MB = 1e6
WAYS = ("argument", "result")

Samples = dict[str, list[float]]


def run() -> Benchmark:
    ours: Samples = defaultdict(list)
    bare: Samples = defaultdict(list)
    public: Samples = defaultdict(list)
    for _ in progress.rounds(f"{OURS} and {BOTO}", REPEATS):
        _executor(ours, "ours", "ours")
        _boto(bare)
    progress.say(PUBLIC)
    _executor(public, "public", "stock")
    of = {who: _measures(who, found) for who, found in ((OURS, ours), (BOTO, bare))}
    rows = [*of[OURS].values(), *of[BOTO].values(), *_measures(PUBLIC, public).values()]
    return Benchmark(
        name="payload",
        title=f"One argument, and one result, of {SIZE // 1_000_000} MB",
        setup=(
            f"Ours and bare boto3 run {REPEATS} times, by turns; the public plugin runs once. "
            "Each run has a new process and a new environment, which do the same once before it "
            "is timed. The time is that of the whole electron: on both sides, and the invocation. "
            "Bare boto3 uploads, invokes, and downloads at the other end with its multipart "
            "transfer. It pickles and verifies nothing. The memory is the peak above what was in "
            "use before Covalent's own base64 copy of the argument, or before the electron."
            f" The environments' files lie {'in memory' if lab.in_memory() else 'on disk'}."
        ),
        measures=rows,
        goals=[goal for way in WAYS for goal in _goals(way, of[OURS], of[BOTO])],
    )


def _executor(found: Samples, plugin: str, function: str) -> None:
    for way in WAYS:
        with lab.endpoint() as at:
            at.prepare(function, 1)
            lab.client(at, plugin, "plugin", function, way, 1)
            idle = at.reset_memory(function)
            one = lab.client(at, plugin, "plugin", function, way, SIZE)
            found[way].append(SIZE / MB / one["seconds"])
            found[f"{way} client"].append(one["memory"] / SIZE)
            found[f"{way} function"].append((at.peak_memory(function) - idle) / SIZE)


def _boto(found: Samples) -> None:
    with lab.endpoint() as at:
        at.prepare("boto", 1)
        one = lab.client(at, "none", "boto", "payload", SIZE, 1)
        for way in WAYS:
            found[way].append(SIZE / MB / one[way][0])


def _measures(who: str, found: Samples) -> dict[str, Measure]:
    rows = {}
    for name, samples in found.items():
        way, _, side = name.partition(" ")
        what = f"{way}: {side}'s peak memory, in payloads" if side else f"{way}: throughput"
        rows[name] = Measure(who, what, "×" if side else "MB/s", samples)
    return rows


def _goals(way: str, ours: dict[str, Measure], bare: dict[str, Measure]) -> list[Goal]:
    return [
        Goal(
            f"{way}: at least 0.8 × the throughput of boto3's own transfer",
            ratio(ours[way], bare[way]),
            0.8,
            at_least=True,
        ),
        Goal(f"{way}: client's peak no more than 3 payloads", ours[f"{way} client"].median, 3),
        Goal(f"{way}: function's peak no more than 3 payloads", ours[f"{way} function"].median, 3),
    ]
