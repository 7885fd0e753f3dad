"""Shows and keeps what the benchmarks found.

    Benchmark ─► show: tables on the terminal
              ─► keep ─► write: results.json ─► docs/performance.md, between its two markers
                                             └► plot (benchmarks.plot)

Only results.json holds numbers; the page and the plot are made from it. A benchmark that ran
alone replaces its own part and leaves the others as they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import machine
from .comparing import NOTHING, number, times_ours
from .names import NAMES
from .paths import ROOT
from .results import OURS, Benchmark, Goal, Measure

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance"  # .png and .svg
BEGIN = "<!-- Results: from here to the end marker `make bench` writes; edit outside. -->"
END = "<!-- End of results. -->"

DIGITS = 6  # more would be noise

Part = dict[str, Any]
Row = tuple[str, ...]

_kept: dict[str, Part] = {}


def keep(benchmark: Benchmark) -> None:
    """Have `write` write this one."""
    _kept[benchmark.name] = part(benchmark)


def show(benchmark: Benchmark, seconds: float) -> None:
    """Print one benchmark's tables."""
    found = part(benchmark)
    print(f"\n{found['title']}\n{found['setup']}\n")
    print(aligned([MEASURES, *measure_rows(found["measures"])], right=(2, 3, 4, 5)))
    if found["goals"]:
        print("\n" + aligned([GOALS, *goal_rows(found["goals"])], right=(1, 2)))
    for note in found["notes"]:
        print(f"\n- {note}")
    print(f"\n({seconds:.0f} s)", flush=True)


def write(results: Path = RESULTS, page: Path = PAGE, plot: Path = PLOT) -> None:
    """Merge what was kept into the results, then renew the page and the plot from them."""
    parts = merged(_read(results), _kept)
    # Rendered before anything is written: a page without markers leaves all as it was.
    text = between_markers(page.read_text("utf-8"), rendered(parts), page)
    replace(results, as_json(parts).encode())
    replace(page, text.encode())
    from .plot import draw  # matplotlib is not there where the unit tests run

    for kind, image in draw(parts).items():
        replace(plot.with_suffix(f".{kind}"), image)
    print(f"\nwritten: {', '.join(_relative(p) for p in (results, page, plot))}.png and .svg")


# -- parts of results.json ---------------------------------------------------------------------


def part(benchmark: Benchmark) -> Part:
    """One benchmark as results.json holds it."""
    return {
        "title": benchmark.title,
        "setup": benchmark.setup,
        "measured": machine.facts(),
        "measures": [_measure(one) for one in benchmark.measures],
        "goals": [_goal(one) for one in benchmark.goals],
        "notes": list(benchmark.notes),
    }


def _measure(one: Measure) -> Part:
    known = bool(one.samples)
    return {
        "contender": one.contender,
        "what": one.what,
        "unit": one.unit,
        "median": _rounded(one.median) if known else None,
        "spread": [_rounded(x) for x in one.spread] if known else None,
        "samples": [_rounded(x) for x in one.samples],
        "note": one.note,
    }


def _goal(one: Goal) -> Part:
    return {
        "text": one.text,
        "found": _rounded(one.found),
        "limit": one.limit,
        "at_least": one.at_least,
        "met": one.met,
    }


def merged(old: Mapping[str, Part], new: Mapping[str, Part]) -> dict[str, Part]:
    """New parts in place of old ones of the same name, in the order of the suite.

    Parts of benchmarks that are no longer there are dropped.
    """
    both = {**old, **new}
    return {name: both[name] for name in NAMES if name in both}


def as_json(parts: Mapping[str, Part]) -> str:
    """Indented, but each list of numbers on one line."""
    text = json.dumps(parts, indent=1, ensure_ascii=False)
    flat = re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return flat + "\n"


def _read(results: Path) -> dict[str, Part]:
    try:
        found: dict[str, Part] = json.loads(results.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found


# -- rows of tables ----------------------------------------------------------------------------

MEASURES: Row = ("quantity", "contender", "median", "spread", "repeats", "× ours", "")
GOALS: Row = ("goal", "found", "limit", "")


def measure_rows(measures: Sequence[Part]) -> list[Row]:
    """Grouped by quantity, ours first; each as so many times ours."""
    ordered = sorted(measures, key=lambda one: (_first(measures, one), one["contender"] != OURS))
    return [_measure_row(one, times_ours(one, measures)) for one in ordered]


def _first(measures: Sequence[Part], wanted: Part) -> int:
    quantities = [(one["what"], one["unit"]) for one in measures]
    return quantities.index((wanted["what"], wanted["unit"]))


def _measure_row(one: Part, times: float | None) -> Row:
    unit = one["unit"]
    low, high = one["spread"] or (None, None)
    between = NOTHING if low is None else f"{number(low)} to {number(high)}"
    median = NOTHING if one["median"] is None else f"{number(one['median'])} {unit}".strip()
    return (
        one["what"],
        one["contender"],
        median,
        between,
        str(len(one["samples"])),
        "" if one["contender"] == OURS or times is None else number(times),
        one["note"],
    )


def goal_rows(goals: Sequence[Part]) -> list[Row]:
    return [_goal_row(one) for one in goals]


def _goal_row(one: Part) -> Row:
    relation = "≥" if one["at_least"] else "≤"
    verdict = "met" if one["met"] else "MISSED"
    return one["text"], number(one["found"]), f"{relation} {number(one['limit'])}", verdict


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


# -- text --------------------------------------------------------------------------------------


def aligned(rows: Sequence[Row], right: Sequence[int] = ()) -> str:
    """Rows as columns of even width; those in `right` end at the same place."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def rendered(parts: Mapping[str, Part]) -> str:
    """The generated part of the page."""
    shared = _shared(parts)
    blocks = [
        "![How many times ours each contender takes](performance.png)",
        *([_measured(shared)] if shared else []),
        "### Goals",
        _all_goals(parts),
        *(_section(name, found, shared is None) for name, found in parts.items()),
    ]
    return "\n\n".join(blocks)


def _shared(parts: Mapping[str, Part]) -> Part | None:
    """What all parts were measured on, if they all were in one sitting."""
    different = {json.dumps(found["measured"]) for found in parts.values()}
    return json.loads(different.pop()) if len(different) == 1 else None


def _measured(on: Part) -> str:
    commit = f", commit {on['commit']}" if on.get("commit") else ""
    return (
        f"Measured {on['date']} on {on['cores']} cores ({on['cpu']}), Python {on['python']}"
        f"{commit}; {on['versions']}."
    )


def _all_goals(parts: Mapping[str, Part]) -> str:
    rows = [
        (name, *_goal_row(goal)[:3], _verdict(goal))
        for name, found in parts.items()
        for goal in found["goals"]
    ]
    return _markdown([("benchmark", *GOALS), *rows], right=(2, 3))


def _verdict(goal: Part) -> str:
    return "met" if goal["met"] else "**missed**"


def _section(name: str, found: Part, with_machine: bool) -> str:
    rows = measure_rows(found["measures"])
    notes = any(row[-1] for row in rows)
    table = [MEASURES, *rows] if notes else [row[:-1] for row in (MEASURES, *rows)]
    blocks = [f"### {name}: {found['title']}", found["setup"]]
    blocks += [_measured(found["measured"])] if with_machine else []
    blocks += [_markdown(table, right=(2, 3, 4, 5))]
    blocks += ["\n".join(f"- {note}" for note in found["notes"])] if found["notes"] else []
    return "\n\n".join(blocks)


def _markdown(rows: Sequence[Row], right: Sequence[int]) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(rows[0]))]
    lines = [rows[0], rule, *rows[1:]]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)


def between_markers(text: str, generated: str, page: Path) -> str:
    """The page with what is between its markers replaced.

    Raises:
        ValueError: when the page does not have each marker once, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"{page} needs these two lines, once each:\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


def replace(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _relative(path: Path) -> str:
    return os.path.relpath(path, ROOT)
