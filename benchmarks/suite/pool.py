"""LambdaPoolExecutor beside pools on this machine, bare boto3 and Lithops' own."""

from __future__ import annotations

from typing import Any

from .. import lab, progress
from ..results import BOTO, LITHOPS, OURS, Benchmark, Goal, Measure, ratio

COUNT, SINGLE = 10_000, 2_000
LITHOPS_SINGLE = 400  # of more than 500 with recorded answers, it never sees the end here
WORKERS = 4
ABREAST = 32  # requests under way, where each takes a call: the way there and back takes 10 ms
REPEATS = 5
AT_ONCE, SECONDS = 1000, 1.0
LOCAL = {"process": "ProcessPoolExecutor", "loky": "loky", "dask": "Dask (local cluster)"}
MANY, CHUNKED = 100_000, 1_000_000
MB = 1e6

PACKED = f"calls a second, {COUNT:,} trivial ones, packed"
ALONE = "calls a second, a request each"
ALONE_RECORDED = "the same, the handlers' answers recorded"
BEYOND = f"{AT_ONCE:,} calls of {SECONDS:.0f} s, beyond that"
CPU = "client's CPU per call of these"
PEAK = f"memory for {MANY:,} inputs of a generator"
PEAK_CHUNKED = f"the same for {CHUNKED:,}, 1,000 in a request"


def run() -> Benchmark:
    rows = [*_throughput(), *_client_alone(), *_at_once(), *_memory()]
    return Benchmark(
        name="pool",
        title="LambdaPoolExecutor: calls a second, a thousand at once, memory",
        setup=(
            f"Trivial calls by `map`, {WORKERS} environments and as many workers, this machine's "
            f"cores shared with the endpoint and the handlers; {REPEATS} times after a short "
            f"`map`; {ABREAST} where each call is a request. Packed: {COUNT:,} calls, of our pool "
            "with automatic chunks, of the local pools in chunks of 100."
            f" A request each: {SINGLE:,} calls of ours, {LITHOPS_SINGLE} "
            "of `lithops.concurrent.futures` (one `map`, and the handler that was made lighter). "
            "Recorded: the endpoint answers as the handler once did, and what Lithops' handler "
            "had stored is there at once. "
            f"{AT_ONCE:,} calls at once: the endpoint gives, after the second, the answer that "
            "the handler once gave, so that the client is what is measured; ours and bare boto3 "
            "by turns. Memory: the client's process with its imports."
        ),
        measures=rows,
        goals=_goals({(row.contender, row.what): row for row in rows}),
    )


def _throughput() -> list[Measure]:
    rows = []
    with lab.endpoint() as at:
        at.prepare("ours", WORKERS)
        progress.say(f"{OURS}, {COUNT:,} calls packed, {SINGLE:,} alone")
        packed = _pool(at, "calls", COUNT, 0, WORKERS, REPEATS)
        at.prepare("ours", ABREAST)
        single = _pool(at, "calls", SINGLE, 1, ABREAST, REPEATS)
        rows += [Measure(OURS, PACKED, "calls/s", packed["rates"])]
        rows += [Measure(OURS, ALONE, "calls/s", single["rates"])]
        for word, name in LOCAL.items():
            progress.say(f"{name}, {COUNT:,} calls")
            rates = lab.client(at, "none", "local_pools", word, COUNT, WORKERS, REPEATS)["rates"]
            rows.append(Measure(name, PACKED, "calls/s", rates))
    with lab.endpoint() as at:
        progress.say(f"{LITHOPS}, {LITHOPS_SINGLE} calls")
        at.prepare("lithops-light", ABREAST)
        words = ("--function", "lithops-light", "futures", LITHOPS_SINGLE, REPEATS)
        rates = lab.client(at, "lithops", "lithops_client", *words)["rates"]
        rows.append(Measure(LITHOPS, ALONE, "calls/s", rates, f"{LITHOPS_SINGLE} calls"))
    return rows


def _client_alone() -> list[Measure]:
    with lab.endpoint() as at:
        at.prepare("ours", 1)
        _pool(at, "rate", "ours@0", 1, 1, 1)  # records the answer
        progress.say(f"{OURS}, {SINGLE:,} calls alone, answers recorded")
        rates = _pool(at, "rate", "ours@0", SINGLE, ABREAST, REPEATS)["rates"]
        rows = [Measure(OURS, ALONE_RECORDED, "calls/s", rates)]
    rates = []
    for _ in progress.rounds(f"{LITHOPS}, {LITHOPS_SINGLE} calls alone, recorded", REPEATS):
        with lab.endpoint() as at:
            at.prepare("lithops-light", 1)
            words = ("--function", "lithops-light@0", "rate", LITHOPS_SINGLE, 1)
            rates += lab.client(at, "lithops", "lithops_client", *words)["rates"]
    rows.append(Measure(LITHOPS, ALONE_RECORDED, "calls/s", rates, f"{LITHOPS_SINGLE} calls"))
    return rows


def _at_once() -> list[Measure]:
    found: dict[str, dict[str, list[float]]] = {OURS: {}, BOTO: {}}
    recorded = f"ours@{1000 * SECONDS:.0f}"
    for _ in progress.rounds(f"{AT_ONCE:,} calls at once, {OURS} and {BOTO}", 3):
        for who, module in ((OURS, "pool"), (BOTO, "boto")):
            with lab.endpoint() as at:  # an answer is recorded for one of them
                at.prepare("ours", 1)
                lab.client(at, "ours", module, "fanout", "ours@0", 1, 0.0, 1)
                taken = lab.client(at, "ours", module, "fanout", recorded, AT_ONCE, SECONDS, 3)
            for name in ("beyond", "cpu"):
                found[who].setdefault(name, []).extend(taken[name])
    return [
        Measure(who, what, unit, [factor * x for x in found[who][name]])
        for name, what, unit, factor in (("beyond", BEYOND, "s", 1.0), ("cpu", CPU, "ms", 1e3))
        for who in (OURS, BOTO)
    ]


def _memory() -> list[Measure]:
    rows = []
    with lab.endpoint() as at:
        at.prepare("ours", WORKERS)
        for what, count, chunk in ((PEAK, MANY, 0), (PEAK_CHUNKED, CHUNKED, 1000)):
            progress.say(f"{OURS}, {what}")
            found = _pool(at, "memory", count, chunk, WORKERS)
            rows.append(Measure(OURS, what, "MB", [found["peak"] / MB]))
    return rows


def _pool(at: lab.Endpoint, *words: Any) -> dict[str, Any]:
    return lab.client(at, "ours", "pool", *words)


def _goals(rows: dict[tuple[str, str], Measure]) -> list[Goal]:
    packed, single = rows[OURS, PACKED].median, rows[OURS, ALONE_RECORDED].median
    times = ratio(rows[OURS, ALONE], rows[LITHOPS, ALONE])
    recorded = ratio(rows[OURS, ALONE_RECORDED], rows[LITHOPS, ALONE_RECORDED])
    beyond = ratio(rows[OURS, BEYOND], rows[BOTO, BEYOND])
    return [
        Goal("at least 5,000 packed calls a second", packed, 5000, at_least=True),
        Goal("stretch: 8,000 a second", packed, 8000, at_least=True),
        Goal("at least 1,000 requests a second (recorded)", single, 1000, at_least=True),
        Goal("at least 5 × Lithops' pool (recorded)", recorded, 5, at_least=True),
        Goal("the same with the handlers on these cores", times, 5, at_least=True),
        Goal("a thousand calls of 1 s: at most 1 s beyond it", rows[OURS, BEYOND].median, 1),
        Goal("the same: no more than half of bare boto3's", beyond, 0.5),
        Goal(f"no more than 300 MB for {MANY:,} inputs", rows[OURS, PEAK].median, 300),
        Goal(f"no more than 400 MB for {CHUNKED:,} inputs", rows[OURS, PEAK_CHUNKED].median, 400),
    ]
