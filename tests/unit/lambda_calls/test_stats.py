"""What a pool's figures are made of."""

import math
import threading
import time
from array import array
from collections.abc import Sequence

import pytest
from lambda_calls import stats as module
from lambda_calls import usage, wire
from lambda_calls.scatter import Ending as End
from lambda_calls.scatter import Invocation, _Found
from lambda_calls.stats import Stats


def invocation(moments: Sequence[float] = ()) -> Invocation:
    used = usage.of(wire.Usage(duration=1.0, memory_mb=1024), "")
    return Invocation(
        queued=0.5,
        sent=1.0,
        started=2.0,
        ended=3.0,
        returned=4.0,
        calls=2,
        failed=0,
        environment="e",
        used=used,
        moments=array("d", moments),
    )


class Watched:
    """A lock that counts who wants it."""

    def __init__(self) -> None:
        self.lock, self.wanted = threading.Lock(), 0

    def __enter__(self) -> None:
        self.wanted += 1
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_nothing_is_lost_when_two_threads_add() -> None:
    """A sum is read and written under one lock."""
    stats, lock = Stats({}), Watched()
    stats._lock = lock  # type: ignore[assignment]
    threads = [threading.Thread(target=stats.add, args=(invocation(),)) for _ in range(2)]
    with lock:
        for thread in threads:
            thread.start()
        while lock.wanted < 3:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert (stats.summary.requests, stats.summary.calls) == (2, 4)


def test_what_a_request_takes_is_shared_out_by_time() -> None:
    """A call that ran three times as long has three times the bill."""
    stats = Stats({})
    stats.add(invocation([0.0, 0.2, 0.2, 0.8]))
    first, second = stats.calls
    assert (first.started, first.ended) == (second.started - 0.2, second.started) == (2.0, 2.2)
    assert (first.billed, second.billed) == pytest.approx((0.25, 0.75))
    assert first.dollars + second.dollars == pytest.approx(stats.summary.dollars)


def test_calls_of_an_image_that_does_not_tell_share_alike() -> None:
    """An image of an earlier version says only when its request ran."""
    stats = Stats({})
    stats.add(invocation())
    assert [(x.started, x.ended, x.billed) for x in stats.calls] == [(2.0, 3.0, 0.5)] * 2


def test_calls_that_took_no_time_share_alike() -> None:
    stats = Stats({})
    stats.add(invocation([0.5, 0.5, 0.5, 0.5]))
    assert [x.billed for x in stats.calls] == [0.5, 0.5]


def test_the_times_of_a_hundred_thousand_calls_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of millions needs no more memory for them."""
    monkeypatch.setattr(module, "_KEPT", 3)
    stats = Stats({})
    for _ in range(3):
        stats.add(invocation([0.0, 0.2, 0.2, 0.8]))
    assert [len(x.moments) for x in stats.invocations] == [4, 4, 0]
    assert [round(x.ended - x.started, 1) for x in stats.calls] == [0.2, 0.6, 0.2]
    assert stats.summary.calls == 6


@pytest.mark.parametrize(
    ("begun", "over", "found"),
    [
        (wire.moment(100.25), wire.moment(100.5), [0.25, 0.5]),
        (wire.moment(0.0), wire.moment(1e300), [0.0, 1.0]),
        (wire.moment(100.5), wire.moment(100.25), [0.5, 0.5]),
        (wire.moment(math.nan), wire.moment(100.5), []),
        (wire.moment(100.5), wire.moment(math.inf), []),
        (b"", b"", []),
        (b"123", wire.moment(100.5), []),
    ],
)
def test_what_a_call_says_stays_within_its_request(
    begun: bytes, over: bytes, found: list[float]
) -> None:
    """Its process may say anything; a request from 100 to 101 s."""
    said = _Found({0: End(value=b"")}, {0: wire.moment_of(begun)}, {0: wire.moment_of(over)})
    assert list(said.moments(100.0, 1.0)) == found
