"""Decides who may send next while Lambda throttles: the oldest first, as many as were let in.

Retrying each electron on a timer of its own would cost a signed request per electron and second,
and luck would decide who gets through. Instead all electrons for one function share a window:
a throttled request closes it to the number that Lambda did accept, each one that ends opens it
by one, and those outside wait in the order of their age without using the CPU.
"""

import asyncio
import heapq
import itertools
import random

# Lambda's default quota of concurrent executions for an account and region:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
WIDEST = 1000
_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 5.0


class Gate:
    """A window of requests under way; for one event loop and one function."""

    def __init__(self) -> None:
        self._window, self._inside = WIDEST, 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._pause, self._resume_at = 0.0, 0.0

    async def enter(self, age: float, seconds: float) -> None:
        """Wait for a place.

        Args:
            age: when the electron began to want one (seconds, monotonic).
            seconds: how long to wait.

        Raises:
            TimeoutError: if it was not its turn within `seconds`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes in the
        # moment of admission.
        timer = loop.call_later(max(0.0, seconds), _time_out, future)
        heapq.heappush(self._waiting, (age, next(self._order), future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                # admitted in the same moment
                self._inside -= 1
                self._admit()
            raise
        finally:
            timer.cancel()

    def leave(self, *, throttled: bool = False) -> None:
        """Give the place back; `throttled` if Lambda refused the request for lack of capacity."""
        self._inside -= 1
        if throttled:
            self._close()
        else:
            self._window = min(WIDEST, self._window + 1)
            self._pause, self._resume_at = 0.0, 0.0
        self._admit()

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        self._window = max(1, self._inside)
        if loop.time() < self._resume_at:
            return  # one of many that were refused at once
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        delay = self._pause * random.uniform(0.5, 1.0)
        self._resume_at = loop.time() + delay
        loop.call_at(self._resume_at, self._admit)

    def _admit(self) -> None:
        # A timer may fire a clock tick early.
        if asyncio.get_running_loop().time() < self._resume_at - 0.001:
            return
        while self._waiting and self._inside < self._window:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self._inside += 1
                future.set_result(None)


def _time_out(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
