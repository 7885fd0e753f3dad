"""100 electrons that share one array of 20 MB."""

from __future__ import annotations

from .. import lab, progress
from ..results import BOTO, LITHOPS, OURS, PUBLIC, Benchmark, Goal, Measure, ratio

COUNT = 100
SIZE = 20_000_000
WARM_UP = 8_000_000  # bytes: too many for an invocation, so that all use S3
REPEATS = 3
WALL = "wall time"
SENT = "bytes sent, in arrays"


def run() -> Benchmark:
    rows = {
        OURS: _contender(OURS, "ours", "ours", "plugin", "ours", REPEATS),
        BOTO: _contender(BOTO, "boto", "none", "boto", "", REPEATS),
        PUBLIC: _contender(PUBLIC, "stock", "public", "plugin", "stock", 1),
        LITHOPS: _contender(LITHOPS, "lithops", "lithops", "lithops_client", "", 1),
    }
    return Benchmark(
        name="shared",
        title=f"{COUNT} electrons sharing one {SIZE // 1_000_000} MB array",
        setup=(
            f"There are {COUNT} environments. Each had a turn before, with another array of "
            f"{WARM_UP // 1_000_000} MB (making the first S3 client of an environment takes 0.1 s "
            f"of CPU). Ours and bare boto3 run {REPEATS} times, each with environments of its "
            "own. With ours and the public plugin each electron has its own copy of the array, as "
            "in Covalent's server. Bare boto3 uploads once and downloads in each function. The "
            "bytes sent are the bodies of all requests to Lambda and S3."
            f" The environments' files lie {'in memory' if lab.in_memory() else 'on disk'}."
        ),
        measures=[measure for pair in rows.values() for measure in pair],
        goals=[
            Goal("no more than 1.1 arrays sent", rows[OURS][1].median, 1.1),
            Goal(
                "at least 10 × faster than the public plugin",
                ratio(rows[PUBLIC][0], rows[OURS][0]),
                10,
                at_least=True,
            ),
        ],
    )


def _contender(
    who: str, function: str, plugin: str, module: str, named: str, repeats: int
) -> tuple[Measure, Measure]:
    wall, sent = [], []
    for _ in progress.rounds(f"{who}, {COUNT} environments", repeats):
        with lab.endpoint() as at:
            at.prepare(function, COUNT)
            words = [named] if named else []
            lab.client(at, plugin, module, *words, "shared", COUNT, WARM_UP)
            at.clear()
            wall.append(lab.client(at, plugin, module, *words, "shared", COUNT, SIZE)["wall"])
            sent.append(at.counts()["received"] / SIZE)
    return Measure(who, WALL, "s", wall), Measure(who, SENT, "×", sent)
