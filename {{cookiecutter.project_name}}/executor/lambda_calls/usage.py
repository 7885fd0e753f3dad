"""What a call took and about what it cost, from the function's own account and Lambda's log.

Lambda ends each invocation's log with a line that holds what is billed; the executor asks for the
log's end with each answer. Where there is no such line (`sam local`), the handler's own figures
are used, rounded up to the millisecond as Lambda bills them.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
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

# "Billed Duration: 2 ms" and the like, in Lambda's line on an invocation.
_FIGURE = re.compile(r"\t([A-Z][A-Za-z ]+): ([0-9]+(?:\.[0-9]+)?) (?:ms|MB)\b")
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

    def cost(self, prices: Mapping[str, float], architecture: str = "") -> float:
        """US dollars by the table `prices`; entries that it lacks are those of `PRICES`.

        Args:
            prices: where they differ from `PRICES`.
            architecture: what it would have cost on another one; empty: on its own.
        """
        table = {**PRICES, **prices}
        of_architecture = table[f"gb_second_{architecture or self.architecture}"]
        return table["request"] + self.gb_seconds * of_architecture

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
    figures = _FIGURE.findall(_report(log_tail, own.request_id))
    said = {name: float(figure) for name, figure in figures}
    duration = said["Duration"] / 1000 if "Duration" in said else own.duration
    return Usage(
        request_id=own.request_id,
        duration=duration,
        billed=said.get("Billed Duration", ceil(1000 * duration)) / 1000,
        memory_mb=int(said.get("Memory Size", own.memory_mb)),
        max_memory_mb=int(said.get("Max Memory Used", own.max_memory_mb)),
        init=said["Init Duration"] / 1000 if "Init Duration" in said else None,
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


@dataclass(frozen=True)
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
            return self._totals.get(group) or Total()

    def add(self, group: str, usage: Usage, prices: Mapping[str, float]) -> Total:
        """Add one invocation to its group's sum, and return the sum."""
        with self._lock:
            before = self._totals.pop(group, None) or Total()
            total = self._totals[group] = Total(  # the latest last
                before.invocations + 1,
                before.gb_seconds + usage.gb_seconds,
                before.dollars + usage.cost(prices),
            )
            while len(self._totals) > _KEPT_GROUPS:
                self._totals.popitem(last=False)
            return total
