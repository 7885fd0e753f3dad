"""How many calls go into one request, learnt from how long they take.

A request costs its sender about a millisecond and Lambda a few; calls that take less belong
together. Calls that take a second do not: each could have an environment of its own.
"""

import math
from collections.abc import Callable

# Seconds of work that make a request worth its cost, and beyond which packing gains nothing.
_WORTH, _ENOUGH = 0.02, 0.5
# Seconds of an invocation that no call takes: the function's own.
_OVERHEAD = 0.003
_LEAST = 1e-5  # seconds, of a call
_MOST = 10_000  # calls in a request
# Requests that are sent before anything is known, and how that grows while nothing comes back:
# short calls must not go out one by one, long ones must not wait for one another.
_FIRST, _DOUBLED_EACH = 32, 0.05


class Pace:
    """The size of requests for one function's calls.

    The mutable state is what a call was found to take, and how many were sent before that.

    Args:
        size: calls in a request; None: learnt.
        parallel: how many requests may be under way, as far as is known by now.
    """

    def __init__(self, size: int | None, parallel: Callable[[], int]) -> None:
        self._size, self._parallel = size, parallel
        self._seconds: float | None = None  # of one call, as far as known
        self._unmeasured = 0
        self._first_at: float | None = None

    def size(self, waiting: int, now: float) -> int:
        """How many calls the next request takes; 0: wait for an answer, or `pause`.

        Args:
            waiting: calls that there are to send.
            now: seconds, monotonic.
        """
        if self._size is not None:
            return min(self._size, waiting)
        if self._seconds is None:
            return self._first(now)
        share = math.ceil(waiting / self._parallel())
        least, most = _WORTH / self._seconds, _ENOUGH / self._seconds
        return max(1, min(waiting, _MOST, int(max(least, min(share, most)))))

    def measured(self, seconds: float, calls: int) -> None:
        """Learn from an invocation.

        Args:
            seconds: that it took in the function.
            calls: that ended in it.
        """
        if calls < 1:
            return
        each = max(_LEAST, (seconds - _OVERHEAD) / calls)
        if self._seconds is None:
            self._seconds = each
        elif each < self._seconds:
            self._seconds = max(each, self._seconds / 16)
        else:
            self._seconds += (each - self._seconds) / 4

    @property
    def pause(self) -> float:
        """Seconds after which `size` may say something else although no answer came."""
        return _DOUBLED_EACH

    def _first(self, now: float) -> int:
        if self._first_at is None:
            self._first_at = now
        doubled = min(20.0, (now - self._first_at) / _DOUBLED_EACH)
        if self._unmeasured >= _FIRST * 2**doubled:
            return 0
        self._unmeasured += 1
        return 1
