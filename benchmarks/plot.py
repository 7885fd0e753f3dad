"""The plot of docs/performance.md, made from results.json alone: same results, same bytes.

times ours │ each quantity a line, each contender a point on it, ours at 1; logarithmic
goals      │ each goal a bar: how much of what was allowed was needed
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "benchmarks",  # ids in the SVG are random otherwise
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
    }
)

from matplotlib import pyplot  # noqa: E402 - the backend is chosen first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402

from . import plotted  # noqa: E402
from .comparing import number  # noqa: E402
from .plotted import Bar, Line  # noqa: E402
from .results import BOTO, LITHOPS, PUBLIC  # noqa: E402

INK, FAINT, GOOD, BAD = "#222222", "#dddddd", "#2a7f3f", "#c0392b"
# Shapes besides colours, for those who cannot tell the colours apart.
STYLES = {PUBLIC: ("#c44e52", "o"), BOTO: ("#4c72b0", "D"), LITHOPS: ("#dd8452", "s")}
OTHERS = (
    ("#8172b3", "^"),
    ("#64b5cd", "v"),
    ("#937860", "P"),
    ("#55a868", "X"),
    ("#8c8c8c", "*"),
    ("#da8bc3", "<"),
    ("#b9a44c", ">"),
    ("#2f6f73", "p"),
    ("#a05195", "h"),
)
WIDTH, ROW, MARGINS = 11.5, 0.27, 2.3  # inches; the longest label takes half of the width
LONGEST_BAR = 1.6  # of what was allowed; beyond it only the number tells
ROOM = 6.0  # for the numbers beside the outermost points, as a factor


def draw(parts: Mapping[str, Any]) -> dict[str, bytes]:
    """The plot as "png" and "svg"."""
    lines, bars = list(plotted.lines(parts)), list(plotted.bars(parts))
    rows = (max(1, len(lines)), max(1, len(bars)))
    figure, (above, below) = pyplot.subplots(
        2,
        figsize=(WIDTH, ROW * sum(rows) + MARGINS),
        height_ratios=rows,
        layout="constrained",
    )
    _draw_lines(above, lines)
    _draw_bars(below, bars)
    try:
        # A date would make each file another one.
        return {
            "png": _saved(figure, "png", {"Software": None}),
            "svg": _saved(figure, "svg", {"Date": None, "Creator": None}),
        }
    finally:
        pyplot.close(figure)


def _saved(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=160, metadata=dict(metadata))
    return image.getvalue()


def _draw_lines(axes: Axes, lines: list[Line]) -> None:
    styles = _styles(lines)
    for row, line in enumerate(lines):
        ends = [1.0, *line.times.values()]
        axes.plot([min(ends), max(ends)], [row, row], color=FAINT, linewidth=2, zorder=1)
        for contender, times in line.times.items():
            colour, shape = styles[contender]
            axes.plot(times, row, shape, color=colour, markersize=6.5, zorder=3)
        _name_ends(axes, row, line)
    axes.axvline(1, color=INK, linewidth=1.4, zorder=2)
    axes.set_xscale("log")
    _widen(axes, [1.0, *(times for line in lines for times in line.times.values())])
    marks = plotted.footnotes(lines)
    _label_rows(axes, [(line.benchmark, plotted.marked(line, marks)) for line in lines])
    _explain(axes, marks)
    axes.set_title(
        "How many times ours (more is better of throughput, calls a second)",
        loc="left",
        fontsize=10.5,
    )
    handles = [
        axes.plot([], [], shape, color=colour, markersize=6.5, label=contender)[0]
        for contender, (colour, shape) in styles.items()
    ]
    ours = axes.plot([], [], color=INK, linewidth=1.4, label="ours (1)")
    axes.figure.legend(
        handles=[*ours, *handles], loc="outside upper left", ncols=6, frameon=False, fontsize=9
    )


def _explain(axes: Axes, marks: Mapping[str, str]) -> None:
    """What the marks beside the labels stand for."""
    notes = "\n".join(f"{mark} {note}" for note, mark in marks.items())
    axes.set_xlabel(notes, loc="left", fontsize=8, linespacing=1.5)


def _styles(lines: list[Line]) -> dict[str, tuple[str, str]]:
    others = iter(OTHERS * len(lines))
    found = dict.fromkeys(contender for line in lines for contender in line.times)
    return {contender: STYLES.get(contender) or next(others) for contender in found}


def _name_ends(axes: Axes, row: int, line: Line) -> None:
    """The numbers of the least and of the most, outside of all points."""
    least, most = min(line.times.values()), max(line.times.values())
    if most >= 1:
        _beside(axes, most, row, f"{_short(most)}×", right=True)
    if least < 1:
        _beside(axes, least, row, f"{_short(least)}×", right=False)


def _short(times: float) -> str:
    return f"{times:.2g}" if times < 99.5 else number(times)


def _beside(axes: Axes, x: float, row: int, text: str, *, right: bool) -> None:
    axes.annotate(
        text,
        (x, row),
        xytext=(7 if right else -7, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=8,
        color=INK,
    )


def _draw_bars(axes: Axes, bars: list[Bar]) -> None:
    for row, bar in enumerate(bars):
        colour = GOOD if bar.met else BAD
        axes.barh(row, bar.share, height=0.62, color=colour, alpha=0.75, zorder=2)
        verdict = "met" if bar.met else "MISSED"
        _verdict(axes, row, f"{100 * bar.share:,.0f} %  {verdict}", INK if bar.met else BAD)
    axes.axvline(1, color=INK, linewidth=1.4, zorder=3)
    axes.set_xlim(0, LONGEST_BAR)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    _label_rows(axes, [(bar.benchmark, bar.label) for bar in bars])
    axes.set_title("Goals: how much of what was allowed was needed", loc="left", fontsize=10.5)


def _verdict(axes: Axes, row: int, text: str, colour: str) -> None:
    """In a column of its own, right of the longest bar."""
    axes.annotate(
        text,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=colour,
        annotation_clip=False,
    )


def _widen(axes: Axes, values: list[float]) -> None:
    low, high = min(values), max(values)
    axes.set_xlim(low / ROOM, high * ROOM)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high / low < 80 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{number(x)}×"))


def _label_rows(axes: Axes, labels: list[tuple[str, str]]) -> None:
    """One row a label, the first on top; a faint line between two benchmarks."""
    axes.set_yticks(range(len(labels)), [f"{name}: {text}" for name, text in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for row in range(1, len(labels)):
        if labels[row][0] != labels[row - 1][0]:
            axes.axhline(row - 0.5, color=FAINT, linewidth=0.8, zorder=0)
