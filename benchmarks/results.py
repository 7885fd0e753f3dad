"""What a benchmark found: samples, their medians and spread, and whether the goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

OURS, PUBLIC, BOTO, LITHOPS = "ours", "public plugin", "bare boto3", "Lithops"


@dataclass(frozen=True)
class Measure:
    """One quantity of one contender.

    Args:
        contender: whose; OURS, PUBLIC, BOTO, LITHOPS, or another name that says what it is.
        what: the quantity, in words; the same words for all contenders that are compared.
        unit: "s", "ms", "MB", …
        samples: one number for each repeat, in that unit.
        note: what differs for this contender (fewer repeats, say).
    """

    contender: str
    what: str
    unit: str
    samples: Sequence[float]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """Lower and upper quartile; least and most where there are too few for quartiles."""
        if len(self.samples) < 4:
            return min(self.samples), max(self.samples)
        low, _, high = statistics.quantiles(self.samples, n=4)
        return low, high


@dataclass(frozen=True)
class Goal:
    """A number that was set before, and what was found.

    Args:
        text: the goal in words, with its number.
        found: the number that was measured.
        limit: the number that was set.
        at_least: whether `found` must reach the limit; else it must not exceed it.
    """

    text: str
    found: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark found.

    Args:
        name: as in `make bench ONLY=name`.
        title: what is measured, in one line.
        setup: sizes, repeats, warm-ups, what each contender does.
        measures: the table's rows.
        goals: what was aimed at.
        notes: where the time goes; what was not measured, and why.
    """

    name: str
    title: str
    setup: str
    measures: Sequence[Measure]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = field(default=())


def ratio(one: Measure, other: Measure) -> float:
    """How many times `other` the first is, by their medians."""
    return one.median / other.median
