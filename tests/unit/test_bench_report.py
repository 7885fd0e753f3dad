"""What `make bench` makes of its samples: medians, goals, results.json and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import comparing, processes, progress, report
from benchmarks.names import NAMES
from benchmarks.results import BOTO, OURS, PUBLIC, Benchmark, Goal, Measure, ratio


def measure(contender: str, *samples: float, what: str = "one electron") -> Measure:
    return Measure(contender, what, "ms", samples)


def benchmark(name: str = "latency", **parts: object) -> Benchmark:
    given = {"title": "a title", "setup": "a setup", "measures": [measure(OURS, 1.0)], **parts}
    return Benchmark(name=name, **given)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_kept", {})


class Files:
    """A page with markers, and where results and plot go."""

    def __init__(self, folder: Path) -> None:
        self.results, self.page = folder / "results.json", folder / "page.md"
        self.plot = folder / "plot"
        self.page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")

    def write(self) -> None:
        report.write(self.results, self.page, self.plot)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """With a drawing of one byte: matplotlib is in the benchmarks' own venv only."""
    drawing = type("plot", (), {"draw": staticmethod(lambda parts: {"png": b"p", "svg": b"s"})})
    monkeypatch.setitem(sys.modules, "benchmarks.plot", drawing)
    return Files(tmp_path)


def test_median_and_quartiles() -> None:
    """Medians and quartiles are those of the samples."""
    found = measure(OURS, 5, 1, 2, 3, 4)
    assert (found.median, found.spread) == (3, (1.5, 4.5))


def test_spread_of_few() -> None:
    """Too few samples for quartiles are spread from the least to the most."""
    assert measure(OURS, 3, 1, 2).spread == (1, 3)


def test_ratio() -> None:
    """A ratio compares medians."""
    assert ratio(measure(PUBLIC, 10, 20, 30), measure(OURS, 4, 5, 6)) == 4


@pytest.mark.parametrize(
    ("found", "at_least", "met"),
    [(1.3, False, True), (1.31, False, False), (1.3, True, True), (1.29, True, False)],
)
def test_goals(found: float, at_least: bool, met: bool) -> None:
    """A goal is met at its limit, and missed beyond it."""
    assert Goal("a goal", found, 1.3, at_least).met is met


def test_rows_are_grouped_with_ours_first() -> None:
    """Contenders of one quantity stand together, as so many times ours."""
    found = report.part(
        benchmark(
            measures=[
                measure(PUBLIC, 30.0),
                measure(OURS, 7.0, what="memory"),
                measure(OURS, 3.0),
                measure(BOTO, 1.5),
            ]
        )
    )
    rows = [(row[0], row[1], row[5]) for row in report.measure_rows(found["measures"])]
    assert rows == [
        ("one electron", OURS, ""),
        ("one electron", PUBLIC, "10"),
        ("one electron", BOTO, "0.5"),
        ("memory", OURS, ""),
    ]


@pytest.mark.parametrize("ours", [[], [0.0]])
def test_no_ratio_to_nothing(ours: list[float]) -> None:
    """Nothing is so many times what was not measured, or was nothing."""
    found = report.part(benchmark(measures=[measure(OURS, *ours), measure(PUBLIC, 3.0)]))
    assert [row[5] for row in report.measure_rows(found["measures"])] == ["", ""]


def test_missing_samples_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A contender without samples has a dash for a number."""
    report.show(benchmark(measures=[measure(PUBLIC)]), seconds=1)
    assert f"public plugin       {comparing.NOTHING}" in capsys.readouterr().out


def test_missed_goals_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A missed goal says so, on the terminal and on the page."""
    missed = benchmark(goals=[Goal("fast", 2.5, 2)], notes=["half of it is pickling"])
    report.show(missed, seconds=1)
    shown = capsys.readouterr().out
    assert "MISSED" in shown and "- half of it is pickling" in shown
    assert "| latency | fast | 2.50 | ≤ 2 | **missed** |" in report.rendered(
        {"latency": report.part(missed)}
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, comparing.NOTHING),
        (0, "0"),
        (0.01234, "0.0123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (20_000_000.0, "20,000,000"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    """Numbers have three digits that count."""
    assert comparing.number(value) == text


def test_one_alone_leaves_the_others(files: Files) -> None:
    """A benchmark that ran alone replaces its own part, in the order of the suite."""
    report.keep(benchmark(NAMES[1], title="kept"))
    report.keep(benchmark(NAMES[0], title="old"))
    files.write()
    report._kept.clear()
    report.keep(benchmark(NAMES[0], title="new"))
    files.write()
    parts = json.loads(files.results.read_text())
    assert [(name, part["title"]) for name, part in parts.items()] == [
        (NAMES[0], "new"),
        (NAMES[1], "kept"),
    ]


def test_parts_that_are_gone_are_dropped() -> None:
    """A benchmark that is no longer in the suite leaves the results."""
    assert report.merged({"removed": {}}, {NAMES[0]: {}}) == {NAMES[0]: {}}


def test_each_part_says_what_it_ran_on(files: Files) -> None:
    """Date, cores, Python and versions go with each part."""
    report.keep(benchmark())
    files.write()
    measured = json.loads(files.results.read_text())["latency"]["measured"]
    assert {"date", "cores", "cpu", "python", "versions"} <= measured.keys()
    assert "covalent 0." in measured["versions"]


def test_only_what_is_between_the_markers_changes(files: Files) -> None:
    """What is written by hand around the markers stays; what is between them is made anew."""
    report.keep(benchmark())
    files.write()
    once = files.page.read_text()
    files.write()
    assert files.page.read_text() == once
    assert once.startswith(f"before\n{report.BEGIN}\n") and once.endswith(f"{report.END}\nafter\n")
    assert "old" not in once and "### latency: a title" in once


@pytest.mark.parametrize(
    "page", ["no markers", report.BEGIN, f"{report.END}\n{report.BEGIN}", f"{report.BEGIN * 2}"]
)
def test_a_page_without_markers_is_refused(files: Files, page: str) -> None:
    """A page that has not both markers, in order, is left alone, and so are the results."""
    files.page.write_text(page)
    report.keep(benchmark())
    with pytest.raises(ValueError, match="needs these two lines"):
        files.write()
    assert (files.page.read_text(), files.results.exists()) == (page, False)


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose writing fails keeps what it had, and nothing is left beside it."""
    path = tmp_path / "out" / "results.json"
    report.replace(path, b"before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(report.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.replace(path, b"after")
    assert [(found.name, found.read_bytes()) for found in path.parent.iterdir()] == [
        ("results.json", b"before")
    ]


def test_samples_take_one_line() -> None:
    """results.json keeps each list of samples on one line, for readable differences."""
    text = report.as_json({"latency": report.part(benchmark(measures=[measure(OURS, 1, 2.5)]))})
    assert '"samples": [1.0, 2.5]' in text
    assert json.loads(text)["latency"]["measures"][0]["samples"] == [1.0, 2.5]


def test_the_page_has_its_markers() -> None:
    """docs/performance.md can be written into."""
    report.between_markers(report.PAGE.read_text("utf-8"), "", report.PAGE)


def test_turns_alternate() -> None:
    """Every other round goes backwards, and rounds of warm-up do not count."""
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = processes.in_turns("runs", {name: lambda n=name: run(n) for name in "ab"}, 2, 1)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_whoever_waits_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is being done is said at once, and again every few seconds."""
    seconds = iter(range(0, 100, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    processes.in_turns("scaffolding", {"ours": lambda: 1.0}, 6, warmups=1)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "   scaffolding: round 1 of 7"
    assert 1 < len(said) < 7
