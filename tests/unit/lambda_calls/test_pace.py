"""How many calls go into one request: none of it waits for real time."""

import pytest
from lambda_calls.pace import Pace


def learnt(seconds: float, parallel: int = 100) -> Pace:
    """A pace that has seen calls of so many seconds."""
    pace = Pace(None, lambda: parallel)
    for _ in range(20):
        pace.measured(seconds + 0.003, 1)
    return pace


def test_what_is_asked_for_is_kept() -> None:
    """A `chunksize` is not second-guessed; the last request takes what is left."""
    pace = Pace(7, lambda: 100)
    pace.measured(100.0, 7)
    assert (pace.size(100, 0.0), pace.size(3, 0.0)) == (7, 3)


def test_long_calls_go_alone() -> None:
    """A second of work is worth a request, and an environment of its own."""
    assert learnt(1.0).size(1000, 0.0) == 1


def test_short_calls_are_packed() -> None:
    """At least 20 ms of work in a request, at most half a second, and what the others leave."""
    assert learnt(0.001).size(10_000, 0.0) == pytest.approx(100, abs=5)
    assert learnt(0.001).size(1_000_000, 0.0) == pytest.approx(500, abs=25)
    assert learnt(0.001).size(100, 0.0) == pytest.approx(20, abs=2)


def test_before_anything_is_known_some_go_out_alone() -> None:
    """32 at first, twice as many with each 50 ms without an answer."""
    pace = Pace(None, lambda: 1000)
    assert [pace.size(1000, 0.0) for _ in range(33)] == [1] * 32 + [0]
    later = [pace.size(1000, 0.05) for _ in range(33)]
    assert later == [1] * 32 + [0]
    assert pace.size(1000, 60.0) == 1


def test_it_follows_calls_that_grow_longer() -> None:
    """After some long ones, requests are small again."""
    pace = learnt(0.001)
    for _ in range(20):
        pace.measured(2.0, 1)
    assert pace.size(10_000, 0.0) == 1


def test_an_answer_without_calls_teaches_nothing() -> None:
    """A request that failed as a whole says nothing of how long calls take."""
    pace = Pace(None, lambda: 10)
    pace.measured(5.0, 0)
    assert pace.size(10, 0.0) == 1
