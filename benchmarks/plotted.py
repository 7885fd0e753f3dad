"""What the plot of docs/performance.md shows: its lines, bars and footnotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .comparing import times_ours
from .results import OURS

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """One quantity: its label, how many times ours each contender takes, and what differs."""

    benchmark: str
    label: str
    times: Mapping[str, float]
    notes: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """One goal: its label and the share of what was allowed that was needed."""

    benchmark: str
    label: str
    share: float
    met: bool


def lines(parts: Mapping[str, Any]) -> Iterator[Line]:
    for name, part in parts.items():
        measures = part["measures"]
        for what in dict.fromkeys(one["what"] for one in measures):
            of_it = [m for m in measures if m["what"] == what and m["contender"] != OURS]
            found = {m["contender"]: times_ours(m, measures) for m in of_it}
            times = {contender: x for contender, x in found.items() if x and x > 0}
            shown = [m for m in of_it if m["contender"] in times and m["note"]]
            if times:
                yield Line(name, what, times, [f"{m['contender']}: {m['note']}" for m in shown])


def bars(parts: Mapping[str, Any]) -> Iterator[Bar]:
    for name, part in parts.items():
        for goal in part["goals"]:
            above, below = goal["found"], goal["limit"]
            if goal["at_least"]:
                above, below = below, above
            if below:  # nothing is a share of a limit of nothing
                yield Bar(name, goal["text"], above / below, goal["met"])


def footnotes(of: Iterable[Line]) -> dict[str, str]:
    """The mark of each note, in the order of the lines that have them."""
    notes = dict.fromkeys(note for line in of for note in line.notes)
    return {note: str(place).translate(RAISED) for place, note in enumerate(notes, 1)}


def marked(line: Line, marks: Mapping[str, str]) -> str:
    """The line's label with the marks of its notes."""
    return " ".join([line.label, *(marks[note] for note in line.notes)])
