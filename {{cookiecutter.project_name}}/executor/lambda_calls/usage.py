"""What a call took and about what it cost, from the function's own account and Lambda's log.

Lambda ends each invocation's log with a line that holds what is billed; the executor asks for the
log's end with each answer. Where there is no such line (`sam local`), the handler's own figures
are used, rounded up to the millisecond as Lambda bills them.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from types import MappingProxyType

from . import wire

# US dollars in us-east-1, as of November 2026: https://aws.amazon.com/lambda/pricing/
# Other regions, savings plans and the free tier differ: pass `prices=` to the executor.
PRICES: Mapping[str, float] = MappingProxyType(
    {
        "gb_second_x86_64": 0.0000166667,
        "gb_second_arm64": 0.0000133334,
        "request": 0.0000002,
    }
)

_FIELDS = MappingProxyType(
    {
        "duration": r"\bDuration: ([\d.]+) ms",
        "billed": r"Billed Duration: ([\d.]+) ms",
        "memory_mb": r"Memory Size: (\d+) MB",
        "max_memory_mb": r"Max Memory Used: (\d+) MB",
        "init": r"Init Duration: ([\d.]+) ms",
    }
)
_KEPT_GROUPS = 1000


@dataclass(frozen=True)
class Usage:
    """One invocation's use.

    Args:
        request_id: Lambda's name for it.
        duration, billed: seconds it ran, and seconds that are billed.
        memory_mb, max_memory_mb: MB configured, and MB used at the most.
        init: seconds that starting the environment took; None if it was warm or is not known.
        cold: whether this was its environment's first invocation.
        architecture: `x86_64` or `arm64`.
    """

    request_id: str
    duration: float
    billed: float
    memory_mb: int
    max_memory_mb: int
    init: float | None
    cold: bool
    architecture: str

    @property
    def gb_seconds(self) -> float:
        """GB-seconds that are billed."""
        return self.billed * self.memory_mb / 1024

    def cost(self, prices: Mapping[str, float]) -> float:
        """US dollars by the table `prices`; entries that it lacks are those of `PRICES`."""
        table = {**PRICES, **prices}
        return table["request"] + self.gb_seconds * table[f"gb_second_{self.architecture}"]

    def __str__(self) -> str:
        init = ", cold start" if self.cold else ""
        init += "" if self.init is None else f", init {self.init:.3f} s"
        return (
            f"{self.duration:.3f} s, billed {self.billed:.3f} s, memory {self.max_memory_mb} of "
            f"{self.memory_mb} MB{init}, request {self.request_id}"
        )


def of(own: wire.Usage, log_tail: str) -> Usage:
    """Combine the function's own account with the last lines of Lambda's log.

    Args:
        own: the function's account.
        log_tail: the end of the invocation's log as Lambda wrote it; empty where an emulator did,
            which bills nothing and repeats the limit of memory as the memory used.
    """
    report = _report(log_tail, own.request_id)
    found = {name: re.search(pattern, report) for name, pattern in _FIELDS.items()}
    said = {name: float(match[1]) for name, match in found.items() if match}
    duration = said["duration"] / 1000 if "duration" in said else own.duration
    return Usage(
        request_id=own.request_id,
        duration=duration,
        billed=said["billed"] / 1000 if "billed" in said else ceil(1000 * duration) / 1000,
        memory_mb=int(said.get("memory_mb", own.memory_mb)),
        max_memory_mb=int(said.get("max_memory_mb", own.max_memory_mb)),
        init=said["init"] / 1000 if "init" in said else None,
        cold=own.cold,
        architecture="arm64" if own.architecture in ("arm64", "aarch64") else "x86_64",
    )


def _report(log_tail: str, request_id: str) -> str:
    """Lambda's last line on an invocation: what the invocation itself has written never is last,
    however much it looks like one. Only X-Ray's line may follow."""
    lines = log_tail.rstrip().splitlines()
    while lines and lines[-1].startswith("XRAY TraceId:"):
        lines.pop()
    begins = f"REPORT RequestId: {request_id}"
    return lines[-1] if lines and lines[-1].startswith(begins) else ""


@dataclass
class Total:
    """The sum of a group so far."""

    invocations: int = 0
    gb_seconds: float = 0.0
    dollars: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.invocations} invocation(s), {self.gb_seconds:.3f} GB-s, about "
            f"${self.dollars:.6f}"
        )


class Totals:
    """Sums by group (a dispatch): the latest thousand of them, which is its mutable state."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, Total] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, group: str) -> Total:
        """A group's sum so far."""
        with self._lock:
            return replace(self._totals.get(group) or Total())

    def add(self, group: str, usage: Usage, prices: Mapping[str, float]) -> Total:
        """Add one invocation to its group's sum, and return the sum."""
        with self._lock:
            total = self._totals.pop(group, None) or Total()
            self._totals[group] = total  # the latest last
            while len(self._totals) > _KEPT_GROUPS:
                self._totals.popitem(last=False)
            total.invocations += 1
            total.gb_seconds += usage.gb_seconds
            total.dollars += usage.cost(prices)
            return replace(total)
