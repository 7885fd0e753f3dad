"""When `speculate` takes a request for a straggler."""

from __future__ import annotations

import pytest
from lambda_calls.scatter import straggles_after


@pytest.mark.parametrize(
    ("done", "under_way", "known"),
    [(9, 1, False), (10, 1, True), (10, 10, True), (10, 11, False), (500, 501, False)],
)
def test_half_of_all_and_at_least_ten_are_done(done: int, under_way: int, known: bool) -> None:
    """Before that, nobody knows what is slow."""
    assert (straggles_after([1.0] * done, under_way) is not None) == known


def test_three_times_as_long_as_three_quarters_took() -> None:
    """What is slow itself does not move the limit: it is among the last quarter."""
    assert straggles_after([1.0] * 15 + [2.0] + [1000.0] * 4, 1) == pytest.approx(3 * 1.75)
    assert straggles_after([2.0] * 16 + [1000.0] * 4, 1) == 6.0
