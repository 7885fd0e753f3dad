"""Decides who may send next: the oldest first, as many at a time as Lambda takes.

Retrying each call on a timer of its own would cost a signed request per call and second, and luck
would decide who gets through. Instead all calls of one function share a window, which grows by
each answer, and by time, and shrinks to what Lambda did accept when it refuses. Where it is known
what Lambda allows, neither calls at a time nor requests a second exceed that. Requests that come
too fast are spaced; while the network is away, one call at a time tries it, and the window grows
again from little. Those who wait do so in the order of their age, without the CPU.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Callable

from .aws.refusals import ConnectionLost, NoDescriptors, NotNow, TooLate, Unreachable

# Calls at a time to begin with: Lambda's default quota for an account and region, and what it
# starts for a function within ten seconds. More are let in as answers come.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
FIRST_WINDOW = 1000
_AFTER_OUTAGE = 8
# Seconds that everybody waits after a refusal; doubled while refusals go on.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LONGEST_ASKED = 30.0  # as Lambda asks for
_TRIES_EVERY = 2.0  # whether there are more places than the window has
# Seconds that a timer may come late in a program that has time for more requests.
_LATE = 0.1
# What Lambda starts of a function in that time, until it has refused some: 1,000 in 10 s.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html#scaling-rate
_RAMP = 200
# Requests a second for each place; the documentation says ten at the most. As many as there are
# places may go at once, so that no second has more than ten times as many.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html#concurrency-vs-requests-per-second
_RATE = 9
# Calls at a time that the smallest accounts (10) allow anyway, and seconds for which it holds what
# Lambda has said: quotas are raised, and Covalent's server runs for weeks.
_FEW, _HOLDS = 8, 600.0
_BETWEEN_TRIES = 1.0  # while the network is away
# Seconds without a try after which nobody knows whether the network was away all the time.
_KNOWN_FOR = 60.0
_TELLS_EVERY = 5.0
# Seconds between two requests where Lambda says that they come too fast; doubled each time, and
# less by each answer.
_FIRST_SPACING = 0.001
_WIDEST_SPACING = 1.0
_RECOVERY = 0.95


class ConcurrencyLimiter:
    """A window of requests under way; for one event loop and one function.

    The mutable state is the window, who is inside, who waits, and until when everybody pauses.

    Args:
        most: how many more connections this process may open.
        ask: called when many want to go; has Lambda asked how many may, for `allow`.
    """

    def __init__(
        self,
        most: Callable[[], int] = lambda: FIRST_WINDOW,
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        self._window, self._inside = FIRST_WINDOW, 0
        self._ask, self._asks_at = ask, 0.0
        self.allowed: int | None = None  # calls at a time; None: Lambda has not said
        self._between, self._due = 0.0, 0.0  # seconds between two requests; when one is due
        self._was_refused = False
        self._most, self._ceiling = most, 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._pause, self._resume_at, self._timer_at = 0.0, 0.0, 0.0
        self._spacing = 0.0
        self._trying: asyncio.TimerHandle | None = None
        self._try_at = 0.0
        self._out_since: float | None = None  # since when no connection has come about
        self._failed_at = 0.0  # when the latest try had no connection
        self._let_in_at = 0.0  # when the latest try began
        self._told_at = -_TELLS_EVERY

    @contextlib.asynccontextmanager
    async def turn(self, age: float, seconds: float) -> AsyncIterator[None]:
        """Wait for a place, hold it while the body runs, and learn from how that ends.

        Args:
            age: when the call began to want one (seconds, monotonic).
            seconds: how long to wait.

        Raises:
            NotNow: if it was not its turn within `seconds`.
            Unreachable: if it waited while nobody could connect for too long (`give_up`).
        """
        await self._enter(age, seconds)
        try:
            yield
        except BaseException as error:
            self._leave(error)
            raise
        self._leave(None)

    def allow(self, concurrency: int) -> None:
        """Never let in more calls at a time, nor more than ten times as many in a second.

        Args:
            concurrency: what the account or the function has.
        """
        allowed = max(1, concurrency)  # 0: a function that is switched off says so itself
        if allowed != self.allowed:
            self._was_refused = False  # by what was allowed before
        self.allowed = allowed
        self._between = 1 / (_RATE * self.allowed)
        self._admit()

    @property
    def useful(self) -> int:
        """How many may be inside or wait, for the window to grow to what Lambda takes."""
        return self._window + _RAMP

    def outage(self) -> float:
        """Seconds for which no connection has come about; 0 if the last try did."""
        if self._out_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._out_since

    def tells_outage(self) -> bool:
        """Whether it is time to say that the network is away: at first, and every few seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._told_at + _TELLS_EVERY:
            return False
        self._told_at = now
        return True

    def give_up(self, cause: Unreachable) -> None:
        """Have all that wait fail: the network has been away for too long."""
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(Unreachable(str(cause)))

    async def pause(self, seconds: float) -> None:
        """Wait some, with jitter, for a reason that is this call's own."""
        await asyncio.sleep(seconds * random.uniform(0.5, 1.0))

    async def _enter(self, age: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._asks_at and self._inside + len(self._waiting) >= _FEW:
            self._asks_at = now + _HOLDS
            self._ask()
        if not self._waiting and self._inside < self._room() and not self._pauses(now):
            return self._let_in(now)  # nobody to be behind of, nothing to wait for
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

    def _let_in(self, now: float) -> None:
        self._inside += 1
        self._let_in_at = now
        if self._spacing:
            self._resume_at = now + self._spacing
        if self._between:
            self._due = max(self._due, now) + self._between

    def _leave(self, ending: BaseException | None) -> None:
        """Give the place back.

        Args:
            ending: what the request ended with instead of an answer.
        """
        self._inside -= 1
        if isinstance(ending, NoDescriptors):
            self._ceiling = max(1, self._inside)
            self._pause_all(_FIRST_PAUSE)
        elif isinstance(ending, Unreachable):
            now = asyncio.get_running_loop().time()
            if self._out_since is None or self._let_in_at - self._failed_at > _KNOWN_FOR:
                self._out_since = now
            self._failed_at = now
            self._pause_all(_BETWEEN_TRIES)
        elif not isinstance(ending, (asyncio.CancelledError, ConnectionLost, TooLate)):
            self._connected()  # whatever it said, the endpoint answered
        if ending is None:
            self._widen()
        elif isinstance(ending, NotNow) and not isinstance(ending, TooLate):
            self._refused(ending)
        self._admit()

    def _connected(self) -> None:
        if self._out_since is not None:
            self._out_since = None
            self._window = max(_AFTER_OUTAGE, self._inside)
            self._resume_at = 0.0

    def _widen(self) -> None:
        by_time = not self._was_refused and self._window >= FIRST_WINDOW  # see `_try_more`
        # Else nobody has tried how many there may be.
        if self._inside + 1 >= self._window and not by_time:
            self._window += 1
        self._pause, self._resume_at = 0.0, 0.0
        self._spacing *= _RECOVERY
        if self._spacing < _FIRST_SPACING / 2:
            self._spacing = 0.0

    def _refused(self, refusal: NotNow) -> None:
        now = asyncio.get_running_loop().time()
        if not refusal.too_fast:
            self._window = max(1, self._inside)
            self._was_refused = True
        if now < self._resume_at:
            return  # one of many that were refused at once
        if refusal.too_fast:
            self._spacing = min(_WIDEST_SPACING, max(_FIRST_SPACING, 2 * self._spacing))
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        self._pause_all(max(self._pause, min(refusal.retry_after, _LONGEST_ASKED)))

    def _pause_all(self, seconds: float) -> None:
        delay = seconds * random.uniform(0.5, 1.0)
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + delay)

    def _room(self) -> int:
        """How many may be inside."""
        if self._out_since is not None:
            return 1
        if self._inside >= self._ceiling:  # looked at again only when it would matter
            self._ceiling = max(1, self._inside + self._most())
        return min(self._window, self._ceiling, self.allowed or self._ceiling)

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._inside < self._room():
            now = loop.time()
            if self._pauses(now):
                return self._call_again(max(self._resume_at, self._in_rate_at()))
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self._let_in(now)
                future.set_result(None)
        if self._waiting and self._trying is None:
            self._try_at = loop.time() + _TRIES_EVERY
            self._trying = loop.call_at(self._try_at, self._try_more)

    def _try_more(self) -> None:
        """Let more in although none has come out: those inside may take long, or be silent,
        while Lambda has had places for others for some time. A program that is late already
        would only wait for its own answers with more of them."""
        self._trying = None
        late = asyncio.get_running_loop().time() - self._try_at > _LATE
        if (
            self._waiting
            and self._inside >= self._window
            and not (late and self._window >= FIRST_WINDOW)
        ):
            self._window = self._inside + (1 if self._was_refused else _RAMP)
        self._admit()

    def _pauses(self, now: float) -> bool:
        if now < self._resume_at - 0.001:  # a timer may fire a clock tick early
            return True
        return self._between > 0 and now < self._in_rate_at()

    def _in_rate_at(self) -> float:
        """When the next request keeps to the rate; as many as there are places may be ahead."""
        return self._due - ((self.allowed or 1) - 1) * self._between

    def _call_again(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._timer_at <= when:
            return  # a timer is set that will set the next one
        self._timer_at = when
        loop.call_at(when, self._timed)

    def _timed(self) -> None:
        self._timer_at = 0.0
        self._admit()


def _time_out(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_exception(NotNow("none: it was never its turn"))
