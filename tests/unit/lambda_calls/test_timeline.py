"""The picture of a run says in words why it was slow."""

from typing import Any

from lambda_calls import timeline, usage
from lambda_calls.scatter import Invocation

BUSY = "ConcurrentInvocationLimitExceeded"


def ran(start: float, seconds: float, *, waited: float = 0.0, **fields: Any) -> Invocation:
    """A request that ran so long from `start` on."""
    cold = fields.pop("cold", 0.0)
    end = start + seconds
    used = usage.Usage("", seconds, seconds, 1769, 100, None, bool(cold), "x86_64")
    return Invocation(
        queued=start - cold - waited,
        sent=start - cold,
        started=start,
        ended=end,
        returned=end,
        calls=1,
        failed=0,
        environment=fields.pop("environment", "one"),
        used=used,
        **fields,
    )


def test_nothing_is_said_of_an_even_run() -> None:
    """Requests that are all alike need no explanation."""
    assert timeline.findings([ran(x % 5, 1.0) for x in range(20)]) == []


def test_cold_starts() -> None:
    """How many, how long, and when the last one was over."""
    drawn = [ran(2.0, 1.0, cold=2.0), ran(5.0, 1.0, cold=2.0), ran(6.0, 1.0)]
    assert timeline.findings(drawn) == ["cold starts: 2, 2.0 s each, the last over after 5.0 s"]


def test_throttling_is_told_apart_by_its_reason() -> None:
    """In Lambda's words, and what it cost."""
    refusals = ((1.0, BUSY), (1.5, BUSY), (2.0, "CallerRateLimitExceeded"))
    (said,) = timeline.findings([ran(3.0, 1.0, waited=2.5, refusals=refusals)])
    assert said.startswith(f"throttled: {BUSY} 2 ×, CallerRateLimitExceeded 1 ×")
    assert said.endswith("waited 2.5 s or more")


def test_stragglers_and_the_tail_that_they_leave() -> None:
    """Three times as long as three quarters of the others, and what ran beside them."""
    drawn = [ran(0.0, 1.0) for _ in range(9)] + [ran(0.0, 8.0)]
    stragglers, tail = timeline.findings(drawn)
    assert stragglers == "stragglers: 1, up to 8.0 s where half take 1.00 s or less"
    assert tail == "tail: in the last 7.0 s less than half of the most requests ran"


def test_each_kind_has_a_colour_of_its_own() -> None:
    """Rows by environment; what was throttled, straggled or was sent twice is to be seen."""
    drawn = [ran(x, 1.0, environment=str(x % 3)) for x in range(9)]
    drawn += [ran(1.0, 9.0), ran(2.0, 1.0, cold=1.0), ran(3.0, 1.0, refusals=((3.0, BUSY),))]
    drawn += [ran(4.0, 1.0, tried_again=True)]
    upper, lower = timeline.figure(drawn, "title").axes
    shown = [x.get_text() for x in upper.get_legend().get_texts()]
    assert shown == ["on its way", "cold start", "running", "straggler", "sent twice"]
    below = [x.get_text() for x in lower.get_legend().get_texts()]
    assert below[-1] == "throttled: 1 ×"
    assert upper.get_ylabel() == "environments: 4"
