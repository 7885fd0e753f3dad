"""What a pool's calls took: every request, its environment, its cost; and a picture of it."""

import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from . import html, timeline
from .errors import ConfigurationError
from .scatter import Invocation

# Requests that are kept for `invocations` and `plot`, and calls for `calls`; sums go on beyond.
_KEPT = 100_000


@dataclass(frozen=True)
class Run:
    """One call that ended.

    What its request took is shared out among the request's calls, by the time that each ran.

    Args:
        sent, returned: when its request was sent, and answered, in seconds since 1970.
        started, ended: when the call itself ran, by our clock as well as can be told; of its
            request where the function's image does not tell a call's.
        environment: names the function's environment.
        cold: whether its request started that environment.
        billed: seconds.
        dollars: about.
    """

    sent: float
    started: float
    ended: float
    returned: float
    environment: str
    cold: bool
    billed: float
    dollars: float


@dataclass(frozen=True)
class Summary:
    """Sums over a pool's requests so far.

    Args:
        requests: that were answered.
        calls: that ended in them.
        failed: of those.
        cold: requests that started an environment.
        environments: that answered.
        throttled: requests that Lambda did not take at once, each time counted.
        seconds: that the function ran.
        billed: seconds that are billed.
        gb_seconds: that are billed.
        dollars: about.
        wall: seconds from the first request to the last answer.
    """

    requests: int = 0
    calls: int = 0
    failed: int = 0
    cold: int = 0
    environments: int = 0
    throttled: int = 0
    seconds: float = 0.0
    billed: float = 0.0
    gb_seconds: float = 0.0
    dollars: float = 0.0
    wall: float = 0.0

    def __str__(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        throttled = f", throttled {self.throttled:,} times" if self.throttled else ""
        return (
            f"{self.calls:,} calls{failed} in {self.requests:,} requests, "
            f"{self.environments:,} environments ({self.cold:,} cold starts){throttled}, "
            f"{self.wall:.1f} s; {self.gb_seconds:.1f} GB-s, about ${self.dollars:.2g}"
        )


class Stats:
    """What a pool did.

    The mutable state is the sums, and the first hundred thousand requests and calls.

    Args:
        prices: US dollars, where they differ from `lambda_calls.usage.PRICES`.
    """

    def __init__(self, prices: Mapping[str, float]) -> None:
        self._prices = prices
        self._lock = threading.Lock()
        self._sum = Summary()
        self._environments: set[str] = set()
        self._throttled: Counter[str] = Counter()
        self._first = self._last = 0.0
        self._invocations: list[Invocation] = []

    def add(self, invocation: Invocation) -> None:
        """Add one request that was answered."""
        used = invocation.used
        with self._lock:
            total = self._sum
            self._environments.add(invocation.environment)
            self._throttled.update(reason for _, reason in invocation.refusals)
            self._first = min(self._first or invocation.queued, invocation.queued)
            self._last = max(self._last, invocation.returned)
            if len(self._invocations) < _KEPT:
                if total.calls >= _KEPT:  # no call of it is shown
                    invocation = replace(invocation, moments=array("d"))
                self._invocations.append(invocation)
            self._sum = Summary(
                requests=total.requests + 1,
                calls=total.calls + invocation.calls,
                failed=total.failed + invocation.failed,
                cold=total.cold + used.cold,
                environments=len(self._environments),
                throttled=total.throttled + len(invocation.refusals),
                seconds=total.seconds + used.duration,
                billed=total.billed + used.billed,
                gb_seconds=total.gb_seconds + used.gb_seconds,
                dollars=total.dollars + used.cost(self._prices),
                wall=self._last - self._first,
            )

    @property
    def summary(self) -> Summary:
        """The sums so far."""
        with self._lock:
            return self._sum

    @property
    def invocations(self) -> list[Invocation]:
        """The requests that were answered, the first hundred thousand of them."""
        with self._lock:
            return list(self._invocations)

    @property
    def calls(self) -> list[Run]:
        """The calls that ended, request by request, the first hundred thousand of them."""
        runs = (run for invocation in self.invocations for run in self._runs(invocation))
        return list(islice(runs, _KEPT))

    def _runs(self, invocation: Invocation) -> Iterator[Run]:
        used, told = invocation.used, invocation.moments
        pairs = list(zip(told[::2], told[1::2], strict=True))
        pairs = pairs or [(0.0, invocation.ended - invocation.started)] * invocation.calls
        ran = sum(ended - began for began, ended in pairs)
        dollars = used.cost(self._prices)
        for began, ended in pairs:
            share = (ended - began) / ran if ran else 1 / len(pairs)
            yield Run(
                sent=invocation.sent,
                started=invocation.started + began,
                ended=invocation.started + ended,
                returned=invocation.returned,
                environment=invocation.environment,
                cold=used.cold,
                billed=share * used.billed,
                dollars=share * dollars,
            )

    @property
    def throttled(self) -> dict[str, int]:
        """How often Lambda did not take a request at once, by its reason: too many at a time
        (`ConcurrentInvocationLimitExceeded`), too many a second (`CallerRateLimitExceeded`), …"""
        with self._lock:
            return dict(self._throttled)

    def __repr__(self) -> str:
        return f"Stats({self.summary})"

    def _repr_html_(self) -> str:
        shown = self.summary
        rows = [
            ("calls", f"{shown.calls:,}, {shown.failed:,} of them failed"),
            ("requests", f"{shown.requests:,}"),
            ("environments", f"{shown.environments:,}, {shown.cold:,} cold starts"),
            ("throttled", _counted(self.throttled)),
            ("time", f"{shown.wall:.1f} s from the first request to the last answer"),
            ("billed", f"{shown.billed:.1f} s, {shown.gb_seconds:.1f} GB-s"),
            ("cost", f"about ${shown.dollars:.4f}"),
        ]
        return html.table("What the pool did", ("", ""), rows)

    def plot(self, path: str | Path) -> Path:
        """Draw a timeline: each request a line in the row of its environment; see `timeline`.

        Args:
            path: of the picture; its ending says the format (.svg, .png).

        Raises:
            ConfigurationError: if matplotlib is not installed, or there is nothing to draw.
        """
        drawn = self.invocations
        if not drawn:
            raise ConfigurationError("There is nothing to draw: no request was answered yet.")
        path = Path(path)
        timeline.figure(drawn, str(self.summary)).savefig(path)
        return path


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {reason}" for reason, count in reasons.items()) or "never"
