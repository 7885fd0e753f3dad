"""What the plot shows of results.json: whole labels, a footnote where a contender differs."""

from __future__ import annotations

import json

from benchmarks import plotted, report
from benchmarks.results import BOTO, LITHOPS, OURS, PUBLIC, Benchmark, Goal, Measure

RESULTS = json.loads(report.RESULTS.read_text("utf-8"))


def test_the_plot_has_every_text_whole() -> None:
    """No goal's text is cut, and what differs for a contender stands below: 20 electrons, say."""
    # Its letters are drawn; beside them is a comment with the text.
    drawn = report.PLOT.with_suffix(".svg").read_text("utf-8")
    lines = list(plotted.lines(RESULTS))
    marks = plotted.footnotes(lines)
    texts = [
        *(f"{bar.benchmark}: {bar.label} " for bar in plotted.bars(RESULTS)),
        *(f"{mark} {note} " for note, mark in marks.items()),
        *(f"{line.benchmark}: {plotted.marked(line, marks)} " for line in lines if line.notes),
    ]
    assert [text for text in texts if f"<!-- {text}-->" not in drawn] == []


def test_each_note_has_one_mark() -> None:
    """Notes are numbered as they appear; the same one has the same number everywhere."""
    measures = [
        Measure(who, what, "s", [1.0], note)
        for what in ("time", "memory")
        for who, note in ((OURS, ""), (PUBLIC, "fewer"), (BOTO, ""), (LITHOPS, "lighter"))
    ]
    part = report.part(Benchmark("fanout", "a title", "a setup", measures))
    lines = list(plotted.lines({"fanout": part}))
    marks = plotted.footnotes(lines)
    assert marks == {f"{PUBLIC}: fewer": "¹", f"{LITHOPS}: lighter": "²"}
    assert [plotted.marked(line, marks) for line in lines] == ["time ¹ ²", "memory ¹ ²"]


def test_contenders_that_are_not_shown_have_no_footnote() -> None:
    """A note about a quantity that ours does not have is about no point of the plot."""
    measures = [Measure(PUBLIC, "time", "s", [1.0], "fewer")]
    part = report.part(Benchmark("fanout", "a title", "a setup", measures))
    assert list(plotted.lines({"fanout": part})) == []


def test_goals_keep_their_whole_text() -> None:
    """However long a goal's text, nothing of it is cut; its bar is what it needed of its limit."""
    text = "at least 50 × faster than the public plugin, " * 3
    goals = [Goal(text, 100, 50, at_least=True), Goal("no more than 2 s", 3, 2)]
    part = report.part(Benchmark("latency", "a title", "a setup", [], goals))
    assert list(plotted.bars({"latency": part})) == [
        plotted.Bar("latency", text, 0.5, True),
        plotted.Bar("latency", "no more than 2 s", 1.5, False),
    ]
