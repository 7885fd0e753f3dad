"""Many calls, while requests and environments are broken at random, and what became of each.

The shares are those of requests and of invocations: 5 % and 1 % by default.
"""

from __future__ import annotations

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
from .checking import class_of
from .lab import ROOT, Door, Lab
from .table import RESULT
from .toxics import Toxic
from .ways import SLACK, WAYS, Settled, Terms

# What part of the calls each way gets, and how many of them share an electron or a pool.
_SHARES: Mapping[str, float] = {"executor": 0.3, "fan-out": 0.2, "pool": 0.3, "pool.map": 0.2}
_TOGETHER: Mapping[str, int] = {"executor": 150, "fan-out": 200, "pool": 150, "pool.map": 500}
_LARGE_EACH = 200  # one call of so many has an argument that travels through S3
_LARGE_RESULT_EACH = 401  # and one of so many a result that does
_LARGE = 5_000_000  # bytes, characters
ENVIRONMENTS = 24  # at a time
_AT_A_TIME = 6  # electrons and pools
_judging = threading.Lock()

_HTML = {"raw": "<html>Bad Gateway</html>"}
# Faults of the way to Lambda and of Lambda itself; each is as likely as the others.
_REQUESTS: Sequence[Mapping[str, Any]] = (
    {"kind": toxics.RESET_BEFORE},
    {"kind": toxics.RESET_DURING, "amount": 0.02},
    {"kind": toxics.RESET_AFTER},
    {"kind": toxics.RESET_IN_RESPONSE},
    {"kind": toxics.TRUNCATED},
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
    {"kind": toxics.KILLED_DURING, "amount": 0.01},
    {"kind": toxics.KILLED_AFTER},
    {"kind": toxics.FROZEN, "amount": 1.0, "after": 0.01},
)
_STORAGE: Sequence[Mapping[str, Any]] = (
    {"kind": toxics.ANSWER, "status": 503, "code": "SlowDown"},
    {"kind": toxics.ANSWER, "status": 500, "code": "InternalError"},
    {"kind": toxics.ANSWER, "status": 404, "code": "NoSuchKey", "verb": "GET"},
    {"kind": toxics.RESET_BEFORE},
    {"kind": toxics.RESET_IN_RESPONSE},
    {"kind": toxics.TRUNCATED},
    {"kind": toxics.TRUNCATED, "direction": toxics.UP, "verb": "PUT"},
    {"kind": toxics.LIMITED, "direction": toxics.UP, "verb": "PUT", "amount": 2_000_000.0},
    {"kind": toxics.CORRUPTED, "verb": "GET"},
    {"kind": toxics.LATENCY, "amount": 0.5},
    {"kind": toxics.DUPLICATED},
)


def broken(share: float, kills: float) -> list[Toxic]:
    """Toxics that together hit `share` of all requests, and `kills` of the environments."""
    found = [Toxic(service="lambda", probability=kills / len(_KILLS), **x) for x in _KILLS]
    for service, kinds in (("lambda", _REQUESTS), ("s3", _STORAGE)):
        found += [Toxic(service=service, probability=share / len(kinds), **x) for x in kinds]
    return found


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

    @property
    def succeeded(self) -> float:
        """The share of the calls that have a result."""
        return self.ends[RESULT] / max(1, self.calls)


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
        """The promises that were broken, of all ways."""
        found = [f"{name}: {x}" for name, way in self.ways.items() for x in way.broken]
        return found + [f"left in the bucket: {x}" for x in self.leaked] + self.leaks

    @property
    def calls(self) -> int:
        return sum(way.calls for way in self.ways.values())


def run(
    lab: Lab,
    calls: int,
    *,
    seed: str,
    retries: int = 0,
    share: float = 0.05,
    kills: float = 0.01,
    way: str = "",
    timeout: float = 60.0,
    door: Door | None = None,
) -> Storm:
    """Run `calls` calls through all ways, or through one.

    Args:
        seed: decides which requests are hit.
        retries: how often a failed call may be run again.
        share: of the requests that are broken.
        kills: share of the invocations whose environment is killed or frozen.
        way: one of `WAYS`; empty: all.
        timeout: seconds for each call.
        door: through which they go, as those before them; None: a new one.
    """
    if door is None:
        with lab.door(concurrency=ENVIRONMENTS) as door:
            return run(
                lab,
                calls,
                seed=seed,
                retries=retries,
                share=share,
                kills=kills,
                way=way,
                timeout=timeout,
                door=door,
            )
    storm = Storm(seed, retries, timeout)
    lab.empty()
    made = broken(share, kills)
    function = [x for x in made if x.service == "s3"]
    names = [way] if way else list(_SHARES)
    storm.ways = {name: Way() for name in names}
    before = {x.ident for x in threading.enumerate()}
    door.poison(made, seed)
    with (
        lab.function(function, seed=f"{seed} function"),
        ThreadPoolExecutor(_AT_A_TIME) as threads,
    ):
        jobs = [
            threads.submit(_some, lab, name, door, numbers, data, size, storm)
            for name in names
            for numbers, data, size in _parted(
                name, calls if way else round(calls * _SHARES[name])
            )
        ]
        for job in jobs:
            job.result()
        storm.state = door.state()
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


def _parted(name: str, count: int) -> Iterator[tuple[list[int], bytes, int]]:
    """The calls of one way, in parts that share an electron or a pool; some with a large
    argument, some with a large result."""
    argument = set(range(0, count, _LARGE_EACH))
    result = set(range(1, count, _LARGE_RESULT_EACH)) - argument
    small = [n for n in range(count) if n not in argument | result]
    for start in range(0, len(small), _TOGETHER[name]):
        yield small[start : start + _TOGETHER[name]], b"", 0
    if argument:
        yield sorted(argument), os.urandom(_LARGE), 0
    if result:
        yield sorted(result), b"", _LARGE


def _some(
    lab: Lab, name: str, door: Door, numbers: list[int], data: bytes, size: int, storm: Storm
) -> None:
    made = f"storm-{time.monotonic_ns()}-{numbers[0]}-{len(data)}-{size}"
    ledger = work.Ledger(lab.shared / made)
    terms = Terms(
        door.url,
        ledger.path,
        timeout=storm.timeout,
        retries=storm.retries,
        data=data,
        size=size,
        name=f"storm-{name}-{numbers[0]}",
    )
    began = time.monotonic()
    settled = WAYS[name](terms, numbers)
    way = storm.ways[name]
    with _judging:
        way.seconds = max(way.seconds, time.monotonic() - began)
        _judge(way, numbers, settled, ledger.begun(), terms)


def _judge(
    way: Way,
    numbers: Sequence[int],
    settled: Sequence[Settled],
    begun: Counter[int],
    terms: Terms,
) -> None:
    way.calls += len(numbers)
    way.lost += sorted(set(numbers) - {x.number for x in settled if x.times == 1})
    limit = (terms.retries + 1) * (terms.timeout + SLACK)
    for one in settled:
        kind = RESULT if one.error is None else class_of(one.error)
        way.ends[kind] += 1
        if one.error is not None:
            way.said.setdefault(kind, Counter())[_gist(one.error)] += 1
        if one.seconds > limit or isinstance(one.error, TimeoutError):
            way.hung.append(one.number)
        if one.error is None and one.value != work.expected(one.number, terms.data, terms.size):
            way.wrong.append(one.number)
        if one.error is not None and not _is_typed(one):
            way.untyped.append(repr(one.error)[:300])
    again = [n for n in numbers if begun[n] > 1]
    way.ran_twice += len(again)
    if not terms.retries:
        way.twice += again


def _gist(error: BaseException) -> str:
    """The beginning of what an error says, without its names and numbers."""
    words = re.sub(r"\d+", "n", str(error).partition("\n")[0])
    return re.sub(r"(s3://|call |electron )\S+", r"\1…", words)[:160]


def _is_typed(one: Settled) -> bool:
    """Whether a failure is explained; a fan-out's member is a RuntimeError that begins with the
    name of the class, since whoever opens it may lack the project's classes."""
    named = class_of(one.error) if one.error is not None else ""
    return one.is_typed or (
        type(one.error) is RuntimeError and named != "RuntimeError" and len(str(one.error)) > 20
    )


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
