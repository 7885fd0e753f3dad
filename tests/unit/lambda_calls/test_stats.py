"""What a pool's figures are made of."""

import threading
import time

from lambda_calls import usage, wire
from lambda_calls.scatter import Invocation
from lambda_calls.stats import Stats


def invocation() -> Invocation:
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
