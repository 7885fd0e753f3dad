"""What a pool's calls took: every request, its environment, its cost; and a picture of it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import html
from .errors import ConfigurationError
from .scatter import Invocation

# Requests that are kept for `invocations` and `plot`; sums go on beyond.
_KEPT = 100_000


@dataclass(frozen=True)
class Summary:
    """Sums over a pool's requests so far.

    Args:
        requests: that were answered.
        calls: that ended in them.
        failed: of those.
        cold: requests that started an environment.
        environments: that answered.
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
    seconds: float = 0.0
    billed: float = 0.0
    gb_seconds: float = 0.0
    dollars: float = 0.0
    wall: float = 0.0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.calls} calls{failed} in {self.requests} requests, {self.environments} "
            f"environments ({self.cold} cold starts), {self.wall:.1f} s; {self.gb_seconds:.1f} "
            f"GB-s, about ${self.dollars:.2g}"
        )


class Stats:
    """What a pool did.

    The mutable state is the sums, and the first hundred thousand requests.

    Args:
        prices: US dollars, where they differ from `lambda_calls.usage.PRICES`.
    """

    def __init__(self, prices: Mapping[str, float]) -> None:
        self._prices = prices
        self._lock = threading.Lock()
        self._sum = Summary()
        self._environments: set[str] = set()
        self._first = self._last = 0.0
        self._invocations: list[Invocation] = []

    def add(self, invocation: Invocation) -> None:
        """Add one request that was answered."""
        used = invocation.used
        with self._lock:
            total = self._sum
            self._environments.add(invocation.environment)
            self._first = min(self._first or invocation.sent, invocation.sent)
            self._last = max(self._last, invocation.returned)
            if len(self._invocations) < _KEPT:
                self._invocations.append(invocation)
            self._sum = Summary(
                requests=total.requests + 1,
                calls=total.calls + invocation.calls,
                failed=total.failed + invocation.failed,
                cold=total.cold + used.cold,
                environments=len(self._environments),
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

    def __repr__(self) -> str:
        return f"Stats({self.summary})"

    def _repr_html_(self) -> str:
        shown = self.summary
        rows = [
            ("calls", f"{shown.calls:,}, {shown.failed:,} of them failed"),
            ("requests", f"{shown.requests:,}"),
            ("environments", f"{shown.environments:,}, {shown.cold:,} cold starts"),
            ("time", f"{shown.wall:.1f} s from the first request to the last answer"),
            ("billed", f"{shown.billed:.1f} s, {shown.gb_seconds:.1f} GB-s"),
            ("cost", f"about ${shown.dollars:.4f}"),
        ]
        return html.table("What the pool did", ("", ""), rows)

    def plot(self, path: str | Path) -> Path:
        """Draw a timeline: each request a line in the row of its environment.

        Args:
            path: of the picture; its ending says the format (.svg, .png).

        Raises:
            ConfigurationError: if matplotlib is not installed, or there is nothing to draw.
        """
        drawn = self.invocations
        if not drawn:
            raise ConfigurationError("There is nothing to draw: no request was answered yet.")
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ConfigurationError(
                "A picture needs the package matplotlib: pip install matplotlib."
            ) from error
        rows = len({x.environment for x in drawn})
        height = min(4.5, 1.0 + 0.15 * rows)  # inches
        figure = Figure(figsize=(10, height + 2.2), layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[height, 1.5])
        _draw_rows(upper, drawn)
        _draw_running(lower, drawn)
        figure.suptitle(str(self.summary), fontsize=10)
        path = Path(path)
        figure.savefig(path)
        return path


_COLOURS = MappingProxyType(
    {
        "waiting": "#c9c9c9",
        "cold start": "#e8a33d",
        "running": "#2a7fb8",
        "failed": "#c0392b",
        "sent twice": "#8e44ad",
    }
)


def _draw_rows(axes: Any, drawn: list[Invocation]) -> None:
    """Each environment's requests: waiting for a turn or an environment, then running."""
    begin = min(x.sent for x in drawn)
    order = sorted(drawn, key=lambda x: (x.started, x.sent))
    rows: dict[str, int] = {}
    lines: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in _COLOURS}
    for invocation in order:
        row = rows.setdefault(invocation.environment or str(len(rows)), len(rows))
        waited = (invocation.sent - begin, max(invocation.sent, invocation.started) - begin)
        ran = (waited[1], max(waited[1], invocation.ended - begin))
        kind = "cold start" if invocation.used.cold else "waiting"
        lines[kind].append([(waited[0], row), (waited[1], row)])
        kind = "failed" if invocation.failed else "running"
        kind = "sent twice" if invocation.tried_again else kind
        lines[kind].append([(ran[0], row), (ran[1], row)])
    from matplotlib.collections import LineCollection

    width = max(0.4, min(6.0, 260 / max(1, len(rows))))
    for name, segments in lines.items():
        if segments:
            shown = LineCollection(segments, colors=_COLOURS[name], linewidths=width, label=name)
            axes.add_collection(shown)
    axes.autoscale()
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(f"environments: {len(rows)}")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(lines), fontsize=8)
    axes.margins(x=0.01)


def _draw_running(axes: Any, drawn: list[Invocation]) -> None:
    """How many requests were under way, and how many of them ran in the function."""
    begin = min(x.sent for x in drawn)
    for name, spans, colour in (
        ("sent", [(x.sent, x.returned) for x in drawn], _COLOURS["waiting"]),
        ("running", [(x.started, x.ended) for x in drawn], _COLOURS["running"]),
    ):
        changes = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
        times, counts, count = [0.0], [0], 0
        for when, change in changes:
            count += change
            times.append(when - begin)
            counts.append(count)
        axes.fill_between(times, counts, step="post", color=colour, alpha=0.7, label=name)
    axes.set_xlabel("seconds since the first request")
    axes.set_ylabel("requests")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper right", fontsize=8)
