"""How contenders are compared with ours, and how numbers are shown: in tables and in the plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .results import OURS

NOTHING = "–"


def times_ours(one: Mapping[str, Any], measures: Iterable[Mapping[str, Any]]) -> float | None:
    """How many times our median this one's is; None where that says nothing."""
    ours = next((m for m in measures if m["contender"] == OURS and _same(m, one)), None)
    if ours is None or not ours["median"] or one["median"] is None:
        return None
    return float(one["median"]) / float(ours["median"])


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["what"], one["unit"]) == (other["what"], other["unit"])


def number(value: float | None) -> str:
    """Three significant digits, and no more than that of anything large."""
    if value is None:
        return NOTHING
    size = abs(value)
    if value == int(value) and size < 100_000:
        return f"{int(value):,}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"
