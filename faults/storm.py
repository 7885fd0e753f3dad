"""Many calls, while requests and environments are broken at random, and what became of each.

At least 5 % of all requests are broken, those of the function to S3 among them; and of at least
1 % of the invocations, which are those requests that Lambda lets in, the environment is killed or
frozen before its answer left. Both are counted where the harm is done. A few more are drawn, since
some draws hit nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import toxics, work
from .checking import class_of, is_explained, settled_state
from .lab import BUCKET, ROOT, Door, Lab
from .table import RESULT
from .toxics import Toxic
from .ways import SLACK, WAYS, Settled, Terms

# What part of the calls each way gets, and how many of them share an electron or a pool.
_SHARES: Mapping[str, float] = {"executor": 0.3, "fan-out": 0.2, "pool": 0.3, "pool.map": 0.2}
_TOGETHER: Mapping[str, int] = {"executor": 150, "fan-out": 200, "pool": 150, "pool.map": 500}
# One call of so many has an argument that travels through S3, a result that does, or takes so long
# that its function looks for orders there.
_LARGE_EACH, _LARGE_RESULT_EACH, _LONG_EACH = 200, 101, 40
_LARGE = 5_000_000  # bytes, characters
_LONG = 3.2  # seconds: two looks for orders
_FEW_TOGETHER = 5  # of those that are large, each with another argument
_LONG_TOGETHER = 10  # of those that are long: they may come in one request, one after the other
CALLS = 1000  # of a run, by default
SHARE, KILLS = 0.05, 0.01  # of requests and of invocations, at least
_DRAWN, _KILLS_DRAWN = 1.15 * SHARE, 2.5 * KILLS
_COUNTED_FROM = 5000  # calls: among fewer, chance may leave less than the shares
PROMISED = 0.999  # of the calls succeed with `retries`
ENVIRONMENTS = 24  # at a time
_AT_A_TIME = 12  # electrons and pools
_judging = threading.Lock()

# Before 3.11 these are three classes.
_HUNG = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)
_HTML = {"raw": "<html>Bad Gateway</html>"}
# Faults of the way to Lambda and of Lambda itself; each is as likely as the others.
_REQUESTS: Sequence[Mapping[str, Any]] = (
    {"kind": toxics.RESET_BEFORE},
    {"kind": toxics.RESET_DURING, "amount": 0.02},
    {"kind": toxics.RESET_AFTER},
    {"kind": toxics.RESET_IN_RESPONSE},
    {"kind": toxics.TRUNCATED},
    {"kind": toxics.TRUNCATED, "direction": toxics.UP},
    {"kind": toxics.DRIP, "direction": toxics.UP, "amount": 0.5},
    {"kind": toxics.LIMITED, "direction": toxics.UP, "amount": 50_000.0},
    {"kind": toxics.BLACK_HOLE},
    {"kind": toxics.SILENT},
    {"kind": toxics.LATENCY, "amount": 0.5},
    {"kind": toxics.DRIP, "amount": 0.5},
    {"kind": toxics.LIMITED, "amount": 5000.0},
    {"kind": toxics.DUPLICATED},
    {
        "kind": toxics.ANSWER,
        "status": 429,
        "code": "TooManyRequestsException",
        "said": {"Reason": "ConcurrentInvocationLimitExceeded"},
    },
    {
        "kind": toxics.ANSWER,
        "status": 429,
        "code": "TooManyRequestsException",
        "said": {"Reason": "CallerRateLimitExceeded"},
    },
    {"kind": toxics.ANSWER, "status": 409, "code": "CodeArtifactUserPendingException"},
    {"kind": toxics.ANSWER, "status": 502, "code": "EC2ThrottledException"},
    {"kind": toxics.ANSWER, "status": 500, "code": "ServiceException"},
    {"kind": toxics.ANSWER, "status": 502, "said": _HTML},
    {"kind": toxics.ANSWER_AFTER, "status": 500, "code": "ServiceException"},
)
_KILLS: Sequence[Mapping[str, Any]] = (
    {"kind": toxics.KILLED_BEFORE},
    {"kind": toxics.KILLED_DURING, "amount": 0.002},
    {"kind": toxics.KILLED_AFTER},
    {"kind": toxics.FROZEN, "amount": 1.0, "after": 0.002},
)
_STORAGE: Sequence[Mapping[str, Any]] = (
    {"kind": toxics.ANSWER, "status": 503, "code": "SlowDown"},
    {"kind": toxics.ANSWER, "status": 500, "code": "InternalError"},
    {"kind": toxics.ANSWER, "status": 404, "code": "NoSuchKey", "verb": "GET"},
    {"kind": toxics.RESET_BEFORE},
    {"kind": toxics.RESET_IN_RESPONSE, "verb": "GET"},
    {"kind": toxics.TRUNCATED, "verb": "GET"},
    {"kind": toxics.TRUNCATED, "direction": toxics.UP, "verb": "PUT"},
    {"kind": toxics.LIMITED, "direction": toxics.UP, "verb": "PUT", "amount": 2_000_000.0},
    {"kind": toxics.CORRUPTED, "verb": "GET"},
    {"kind": toxics.LATENCY, "amount": 0.5},
    {"kind": toxics.DUPLICATED},
)
_VERBS = ("GET", "HEAD", "PUT", "POST", "DELETE")


def broken(share: float, kills: float) -> list[Toxic]:
    """Toxics that together choose `share` of all requests, and `kills` of the invocations."""
    found = [Toxic(service="lambda", probability=kills / len(_KILLS), **x) for x in _KILLS]
    found += _each_as_likely(share, "lambda", "POST", _REQUESTS)
    for verb in _VERBS:
        apt = [x for x in _STORAGE if x.get("verb", verb) == verb]
        found += _each_as_likely(share, "s3", verb, apt)
    return found


def _each_as_likely(
    share: float, service: str, verb: str, kinds: Sequence[Mapping[str, Any]]
) -> Iterator[Toxic]:
    probability = share / len(kinds)
    for kind in kinds:
        yield Toxic(**{**kind, "service": service, "verb": verb, "probability": probability})


@dataclass(frozen=True)
class Part:
    """Calls that share an electron or a pool.

    Args:
        numbers: theirs.
        data: an argument of all of them.
        size: characters that each returns beside.
        seconds: that each takes.
    """

    numbers: Sequence[int]
    data: bytes = b""
    size: int = 0
    seconds: float = 0.0


@dataclass
class Way:
    """What became of the calls of one way.

    Attributes:
        calls: how many there were.
        ends: how many ended how: with a result, or by class of error.
        lost, hung, twice, wrong, untyped: numbers of calls for which a promise was broken.
        said: how often which sentence was said, by class.
        ran_twice: how many ran more than once where retries allow it.
        seconds: that all of it took.
    """

    calls: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[int] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    said: dict[str, Counter[str]] = field(default_factory=dict)
    ran_twice: int = 0
    seconds: float = 0.0

    @property
    def broken(self) -> list[str]:
        """The promises that were broken."""
        names = ("lost", "hung", "twice", "wrong", "untyped")
        return [f"{name}: {getattr(self, name)[:5]}" for name in names if getattr(self, name)]


@dataclass
class Storm:
    """A run.

    Attributes:
        seed, retries, timeout: as given.
        ways: what became of the calls.
        state: the door's counts at the end.
        left: keys of objects in the bucket at the end.
        leaked: those of them that no call may need any more, or that no rule of the bucket's
            would ever remove.
        leaks: threads of pools that were left; the soak looks at descriptors and memory.
    """

    seed: str
    retries: int
    timeout: float
    ways: dict[str, Way] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The promises that were broken, of all ways; and what it has not shown."""
        found = [f"{name}: {x}" for name, way in self.ways.items() for x in way.broken]
        found += [f"left in the bucket: {x}" for x in self.leaked] + self.leaks
        return found + self._failed + self._weak

    @property
    def calls(self) -> int:
        return sum(way.calls for way in self.ways.values())

    @property
    def succeeded(self) -> int:
        """How many calls have a result."""
        return sum(way.ends[RESULT] for way in self.ways.values())

    @property
    def _failed(self) -> list[str]:
        """With `retries`: that too many calls have no result. Of fewer than a thousand none may
        fail: with retries=3, four attempts in a row do so for one call of some ten thousand."""
        if not self.retries or self.succeeded >= PROMISED * self.calls:
            return []
        return [
            f"with retries={self.retries} only {self.succeeded:,} of {self.calls:,} calls "
            f"({100 * self.succeeded / self.calls:.2f} %) have a result; {100 * PROMISED} % are "
            "promised"
        ]

    @property
    def _weak(self) -> list[str]:
        """That too little was broken to show anything."""
        state = self.state
        shares = (
            ("requests were broken", requests_broken(state), requests(state), SHARE),
            (
                "environments were killed or frozen, by invocations,",
                state["environments_hit"],
                state["invocations"],
                KILLS,
            ),
        )
        return [
            f"{hit:,} of {count:,} {what} which is less than {100 * share:g} %"
            for what, hit, count, share in shares
            if self.calls >= _COUNTED_FROM and hit < share * count
        ]


def requests(state: Mapping[str, Any]) -> int:
    """How many requests there were, the function's own to S3 among them."""
    return int(state["seen"] + state["function_seen"])


def requests_broken(state: Mapping[str, Any]) -> int:
    """How many of them were really broken."""
    hits = sum(state["hits"]) + sum(state["function_hits"])
    return int(hits - state["environments_hit"])


def run(
    lab: Lab,
    calls: int,
    *,
    seed: str,
    retries: int = 0,
    timeout: float = 60.0,
    door: Door | None = None,
) -> Storm:
    """Run `calls` calls through all ways.

    Args:
        seed: decides which requests are hit.
        retries: how often a failed call may be run again.
        timeout: seconds for each call.
        door: through which they go, as those before them; None: a new one.
    """
    if door is None:
        with lab.door(concurrency=ENVIRONMENTS) as door:
            return run(lab, calls, seed=seed, retries=retries, timeout=timeout, door=door)
    storm = Storm(seed, retries, timeout)
    lab.empty()
    made = broken(_DRAWN, _KILLS_DRAWN)
    function = [x for x in made if x.service == "s3"]
    storm.ways = {name: Way() for name in _SHARES}
    before = {x.ident for x in threading.enumerate()}
    door.poison(made, seed)
    with (
        lab.function(function, seed=f"{seed} function"),
        ThreadPoolExecutor(_AT_A_TIME) as threads,
    ):
        jobs = [
            threads.submit(_some, lab, name, door, part, storm)
            for name, share in _SHARES.items()
            for part in parted(name, round(calls * share))
        ]
        for job in jobs:
            job.result()
        storm.state = settled_state(door, BUCKET)
        storm.left = storm.state.pop("objects")
        storm.leaked = storm.state.pop("leaked")
        storm.leaked += [
            x for x in storm.left if not x.startswith(expiring()) and x not in storm.leaked
        ]
    storm.leaks = left_since(before)
    return storm


def expiring() -> tuple[str, ...]:
    """Prefixes of the keys that the bucket's own rules remove after some days, as the template
    says."""
    text = (ROOT / "{{cookiecutter.project_name}}" / "template.yaml").read_text("utf-8")
    return tuple(re.findall(r"Prefix: (\S+)\n\s+ExpirationInDays: \d+\n", text))


def parted(name: str, count: int) -> Iterator[Part]:
    """The calls of one way: most are small and short, some have a large argument, some a large
    result, and some take long."""
    argument = set(range(0, count, _LARGE_EACH))
    result = set(range(1, count, _LARGE_RESULT_EACH)) - argument
    long = set(range(2, count, _LONG_EACH)) - argument - result
    rest = set(range(count)) - argument - result - long
    yield from map(Part, _cut(rest, _TOGETHER[name]))
    for numbers in _cut(argument, _FEW_TOGETHER):
        yield Part(numbers, data=os.urandom(_LARGE))
    for numbers in _cut(result, _FEW_TOGETHER):
        yield Part(numbers, size=_LARGE)
    for numbers in _cut(long, _LONG_TOGETHER):
        yield Part(numbers, seconds=_LONG)


def _cut(numbers: set[int], together: int) -> Iterator[list[int]]:
    ordered = sorted(numbers)
    for start in range(0, len(ordered), together):
        yield ordered[start : start + together]


def _some(lab: Lab, name: str, door: Door, part: Part, storm: Storm) -> None:
    made = f"storm-{time.monotonic_ns()}-{name}-{part.numbers[0]}"
    ledger = work.Ledger(lab.shared / made)
    terms = Terms(
        door.url,
        ledger.path,
        timeout=storm.timeout,
        retries=storm.retries,
        seconds=part.seconds,
        data=part.data,
        size=part.size,
        name=f"storm-{name}-{part.numbers[0]}",
    )
    began = time.monotonic()
    settled = WAYS[name](terms, part.numbers)
    way = storm.ways[name]
    with _judging:
        way.seconds = max(way.seconds, time.monotonic() - began)
        judge(way, part.numbers, settled, ledger.begun(), terms)


def judge(
    way: Way,
    numbers: Sequence[int],
    settled: Sequence[Settled],
    begun: Counter[int],
    terms: Terms,
) -> None:
    """Note what became of some calls.

    Args:
        way: gets it.
        numbers: of the calls.
        settled: how they ended.
        begun: how often the code of each has begun.
        terms: how they were run.
    """
    way.calls += len(numbers)
    way.lost += sorted(set(numbers) - {x.number for x in settled if x.times == 1})
    limit = (terms.retries + 1) * (terms.timeout + SLACK)
    for one in settled:
        kind = RESULT if one.error is None else class_of(one.error)
        way.ends[kind] += 1
        if one.error is not None:
            way.said.setdefault(kind, Counter())[_gist(one.error)] += 1
        if one.seconds > limit or isinstance(one.error, _HUNG):
            way.hung.append(one.number)
        if one.error is None and one.value != work.expected(one.number, terms.data, terms.size):
            way.wrong.append(one.number)
        if one.error is not None and not is_explained(one.error):
            way.untyped.append(repr(one.error)[:300])
    again = [n for n in numbers if begun[n] > 1]
    way.ran_twice += len(again)
    if not terms.retries:
        way.twice += again


def _gist(error: BaseException) -> str:
    """The beginning of what an error says, without its names and numbers."""
    words = re.sub(r"\d+", "n", str(error).partition("\n")[0])
    return re.sub(r"(s3://|call |electron )\S+", r"\1…", words)[:160]


def left_since(before: set[int | None]) -> list[str]:
    """Threads of the pool's that were not there before.

    The executor's own threads and its clients' connections belong to the process: they serve the
    next electron. So do threads' names tell which must be gone.
    """
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        threads = [
            x.name
            for x in threading.enumerate()
            if x.ident not in before and x.name.startswith("lambda-pool")
        ]
        if not threads or time.monotonic() > deadline:
            return [f"thread {x}" for x in threads]
        time.sleep(0.1)
