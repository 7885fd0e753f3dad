"""A picture of a run that says why it was slow.

in words      what cold starts, throttling, stragglers and the tail cost
above         a row for each environment: starting, running, stragglers, failures
below         how many requests ran, were on their way, waited for a turn; throttling in red
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from statistics import median, quantiles
from types import MappingProxyType
from typing import Any

from .errors import ConfigurationError
from .scatter import Invocation

# A straggler takes so many times as long as three quarters of the requests did, and this long.
_STRAGGLES, _NOTABLE = 3.0, 0.1
_FEW = 4  # requests, of which nothing is said to be usual

_COLOURS = MappingProxyType(
    {
        "on its way": "#c9c9c9",
        "cold start": "#e8a33d",
        "running": "#2a7fb8",
        "straggler": "#12305c",
        "failed": "#c0392b",
        "sent twice": "#8e44ad",
    }
)
_WAITING, _THROTTLED = "#e6e6e6", "#c0392b"

Spans = list[tuple[float, float]]


def figure(drawn: Sequence[Invocation], title: str) -> Any:
    """The picture, a figure of matplotlib's.

    Args:
        drawn: the requests, one or more.
        title: stands on top.

    Raises:
        ConfigurationError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "A picture needs the package matplotlib: pip install matplotlib."
        ) from error
    rows = len({x.environment for x in drawn})
    height = min(4.5, 1.0 + 0.15 * rows)  # inches
    made = Figure(figsize=(10, height + 2.9), layout="constrained")
    FigureCanvasAgg(made)
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=[height, 1.7])
    begin = min(x.queued for x in drawn)
    _draw_environments(upper, drawn, begin)
    _draw_requests(lower, drawn, begin)
    made.suptitle("\n".join([title, *findings(drawn)]), fontsize=9)
    return made


def findings(drawn: Sequence[Invocation]) -> list[str]:
    """What made the run take as long as it did, in words; nothing where nothing stands out."""
    begin, end = min(x.queued for x in drawn), max(x.returned for x in drawn)
    found = []
    cold = [x.started - x.sent for x in drawn if x.used.cold]
    if cold:
        last = max(x.started for x in drawn if x.used.cold) - begin
        found.append(
            f"cold starts: {len(cold):,}, {median(cold):.1f} s each, the last over after "
            f"{last:.1f} s"
        )
    refusals = Counter(reason for x in drawn for _, reason in x.refusals)
    if refusals:
        told = ", ".join(f"{reason} {count:,} ×" for reason, count in refusals.most_common())
        waited = median(x.sent - x.queued for x in drawn)
        found.append(f"throttled: {told}; half of the requests waited {waited:.1f} s or more")
    limit = _straggles_from(drawn)
    slow = [x.ended - x.started for x in drawn if x.ended - x.started > limit]
    if slow:
        usual = median(x.ended - x.started for x in drawn)
        found.append(
            f"stragglers: {len(slow):,}, up to {max(slow):.1f} s where half take {usual:.2f} s "
            "or less"
        )
    tail = _tail(drawn)
    if tail > 0.25 * (end - begin) and len(drawn) > _FEW:
        found.append(f"tail: in the last {tail:.1f} s less than half of the most requests ran")
    return found


def _straggles_from(drawn: Sequence[Invocation]) -> float:
    """Seconds from which on a request is a straggler."""
    if len(drawn) <= _FEW:
        return float("inf")
    return max(_NOTABLE, _STRAGGLES * quantiles([x.ended - x.started for x in drawn], n=4)[2])


def _tail(drawn: Sequence[Invocation]) -> float:
    """Seconds at the end in which less than half of the most requests were running."""
    times, counts = _steps([(x.started, x.ended) for x in drawn], 0.0)
    busy = [time for time, count in zip(times, counts, strict=True) if 2 * count >= max(counts)]
    return times[-1] - max(busy)


def _draw_environments(axes: Any, drawn: Sequence[Invocation], begin: float) -> None:
    """Each environment's requests: on their way or starting it, then running."""
    from matplotlib.collections import LineCollection

    straggles = _straggles_from(drawn)
    rows: dict[str, int] = {}
    lines: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in _COLOURS}
    for x in sorted(drawn, key=lambda x: (x.started, x.sent)):
        row = rows.setdefault(x.environment or str(len(rows)), len(rows))
        sent, started, ended = (time - begin for time in (x.sent, x.started, x.ended))
        lines["cold start" if x.used.cold else "on its way"].append([(sent, row), (started, row)])
        lines[_kind(x, straggles)].append([(started, row), (ended, row)])
    width = max(0.4, min(6.0, 260 / max(1, len(rows))))
    for name, segments in lines.items():
        if segments:
            shown = LineCollection(segments, colors=_COLOURS[name], linewidths=width, label=name)
            shown.set_capstyle("butt")
            axes.add_collection(shown)
    axes.autoscale()
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(f"environments: {len(rows):,}")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(lines), fontsize=8)
    axes.margins(x=0.01)


def _kind(x: Invocation, straggles: float) -> str:
    if x.tried_again:
        return "sent twice"
    if x.failed:
        return "failed"
    return "straggler" if x.ended - x.started > straggles else "running"


def _draw_requests(axes: Any, drawn: Sequence[Invocation], begin: float) -> None:
    """How many requests waited, were on their way and ran, one upon the other."""
    for name, spans, colour in (
        ("waiting for a turn", [(x.queued, x.returned) for x in drawn], _WAITING),
        ("on their way, or starting", [(x.sent, x.returned) for x in drawn], "#f0c27b"),
        ("running", [(x.started, x.ended) for x in drawn], _COLOURS["running"]),
    ):
        times, counts = _steps(spans, begin)
        axes.fill_between(times, counts, step="post", color=colour, linewidth=0, label=name)
    refused = [time - begin for x in drawn for time, _ in x.refusals]
    if refused:
        label = f"throttled: {len(refused):,} ×"
        axes.plot(refused, [0.0] * len(refused), "|", color=_THROTTLED, ms=9, label=label)
    axes.set_xlabel("seconds since the first request")
    axes.set_ylabel("requests")
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=8)


def _steps(spans: Spans, begin: float) -> tuple[list[float], list[int]]:
    """How many spans there are at a time: moments, since `begin`, and counts from each on."""
    changes: Iterable[tuple[float, int]]
    changes = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
    times = [when - begin for when, _ in changes]
    return times, list(accumulate(change for _, change in changes))
