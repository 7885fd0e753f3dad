"""Runs many calls, some of them packed into one request; for one event loop.

    add(Task) ─► waiting, by what they share ─► Packed ─► Attempt ─► frames ─► Task.settle
                     ▲      size: Pace                                 │
                     └── not begun, or to be tried again ◄─────────────┘

A call that fails does not hurt its neighbours. When the process of a request dies, the results of
calls that had ended are kept; those that had begun failed; those that had not are sent again,
since they certainly did not run.
"""

import asyncio
import contextlib
import math
import random
import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import quantiles

from . import messages, usage, wire
from .attempt import Attempt, Limits, StockImage
from .call import Packed, Shared
from .cancellation import Cancellation
from .errors import FINAL, CallCancelled, LambdaCallError, ResourceLimitError
from .pace import Pace
from .session import Session

# Bytes of pickled arguments in one request; more would not fit into it beside the rest.
_MOST_BYTES = 3 * 1024 * 1024
_LONGEST_BACKOFF = 60.0  # seconds
# A request is a straggler when so many are known, half of all are done, and it takes so many times
# as long as three quarters of them did.
_STRAGGLES, _KNOWN = 3.0, 10
_LOOKS_EVERY = 0.5  # seconds
# Seconds between two looks whether more may be under way: Lambda has said so, or refused none.
_LOOKS_AT_ROOM_EVERY = 1.0
# Environments that a call may meet which cannot run anything; nothing of it ran there.
_TRIES_ELSEWHERE = 4


@dataclass(frozen=True)
class Ending:
    """What became of a call: one of the first three.

    Args:
        value: its pickled return value.
        raised: what it raised.
        error: why it has neither.
        stdout, stderr: what it wrote.
    """

    value: bytes | None = None
    raised: wire.Raised | None = None
    error: LambdaCallError | CallCancelled | None = None
    stdout: str = ""
    stderr: str = ""


@dataclass(eq=False)
class Task:
    """One call on its way.

    Args:
        data: its pickled `(args, kwargs)`.
        shared: what it has in common with others.
        begins: called when it is sent for the first time; whether it still is wanted.
        settle: called once, with what became of it.
        size: how many of its kind go into one request; None: learnt from how long they take.
        retries_left: how often it may be tried again.
    """

    data: bytes
    shared: Shared
    begins: Callable[[], bool]
    settle: Callable[[Ending], None]
    size: int | None = None
    retries_left: int = 0
    tries: int = 0
    settled: bool = False
    sendings: "set[_Sending]" = field(default_factory=set)

    def end(self, ending: Ending) -> None:
        """Settle it, and let go of whoever waited: its request may be told of later."""
        settle, self.settled = self.settle, True
        self.settle, self.begins = _nobody_waits, _is_unwanted
        settle(ending)


def _nobody_waits(ending: Ending) -> None:
    pass


def _is_unwanted() -> bool:
    return False


@dataclass(frozen=True)
class Invocation:
    """One request that was answered, for statistics.

    Args:
        queued: when it waited for its turn, in seconds since 1970, as all of these.
        sent, returned: when it was sent at last, and answered.
        started, ended: in the function, as far as its clock agrees with ours.
        calls: how many ended in it.
        moments: of each of them, in order, when it began and when it ended, in seconds since
            `started`; empty where the function's image does not say.
        failed: how many of those raised, or ended with its process.
        environment: names the function's environment.
        used: what it took.
        tried_again: whether it was a copy of a straggler.
        refusals: when Lambda did not take it, and why, in Lambda's word.
    """

    queued: float
    sent: float
    started: float
    ended: float
    returned: float
    calls: int
    failed: int
    environment: str
    used: usage.Usage
    tried_again: bool = False
    refusals: tuple[tuple[float, str], ...] = ()
    moments: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class Policy:
    """How calls are packed and repeated.

    Args:
        parallel: requests under way at a time; None: as many as Lambda takes.
        processes: calls of a request that run at a time.
        limits: what a request may take, from its turn on.
        backoff: seconds before the first repetition of a call; doubled each time.
        again: whether a failed call is worth another try, where it has tries left.
        speculate: whether stragglers are sent a second time.
    """

    parallel: int | None
    processes: int
    limits: Limits
    backoff: float = 0.5
    again: Callable[[Ending], bool] = lambda ending: True
    speculate: bool = False


# Requests at a time to begin with, where nobody says how many: what Lambda starts within ten
# seconds.
PARALLEL = 1000


class Scatter:
    """Sends calls, packed, and settles them.

    The mutable state is what waits, what is under way, and how long calls took.

    Args:
        session: function and bucket.
        policy: how calls are packed and repeated.
        name: begins the names of its requests in S3.
        noun: what a call is for its caller, for messages.
        answered: told of each request that was answered.
    """

    def __init__(
        self,
        session: Session,
        policy: Policy,
        *,
        name: str,
        noun: str,
        answered: Callable[[Invocation], None] = lambda invocation: None,
    ) -> None:
        self._session, self._policy = session, policy
        self._limits = replace(policy.limits, waits_apart=True)
        self._answered_at = -math.inf  # seconds, monotonic: the latest answer
        self._name, self._noun, self._answered = name, noun, answered
        # By the identity of what is shared, and how many calls go into a request.
        self._waiting: dict[tuple[int, int | None], _Queue] = {}
        self._sendings: set[_Sending] = set()
        self._later: dict[Task, asyncio.TimerHandle] = {}  # until they are tried again
        self._durations: list[float] = []
        self._cancelled = self._looks_again = False
        self.broken: LambdaCallError | None = None  # why no call can run
        self._watching: asyncio.Task[None] | None = None

    def add(self, tasks: Iterable[Task]) -> None:
        """Have calls run."""
        for task in tasks:
            if self._cancelled:
                self._drop(task)
            else:
                self._queue(task).tasks.append(task)
        if self.broken is not None:
            self._break(self.broken)
        self._pump()

    def cancel(self, task: Task) -> bool:
        """Stop a call that waits, or runs alone in its request; whether that could be done."""
        if task.settled:
            return False
        if not task.sendings:
            self._drop(task)
            return True
        alone = [x for x in task.sendings if len(x.tasks) == 1]
        for sending in alone:
            sending.cancellation.request()
        return bool(alone)

    async def cancel_all(self) -> None:
        """Stop every call, also those that run; they are settled as cancelled."""
        self.send_no_more()
        for sending in self._sendings:
            sending.cancellation.request()
        await self.idle()

    def send_no_more(self) -> None:
        """Stop every call that does not run yet, and those that come."""
        self._cancelled = True
        for task in list(self._later):
            self._drop(task)
        for queue in self._waiting.values():
            while queue.tasks:
                self._drop(queue.tasks.popleft())
        for sending in self._sendings:
            if sending.attempt is None or not sending.attempt.sent:
                sending.cancellation.request()

    @property
    def running(self) -> int:
        """The calls that are in a request under way, those that wait for a turn left out."""
        return sum(len(x.tasks) for x in self._sendings if x.attempt and x.attempt.sent)

    async def idle(self) -> None:
        """Wait until no request is under way."""
        while self._sendings:
            await asyncio.wait({x.job for x in self._sendings if x.job})

    def _break(self, error: LambdaCallError) -> None:
        """What waits would fail as well, one environment after the other."""
        self.broken = self.broken or error
        for queue in self._waiting.values():
            while queue.tasks:
                task = queue.tasks.popleft()
                if not task.settled and (task.tries or task.begins()):
                    task.end(Ending(error=error))

    def _drop(self, task: Task) -> None:
        """Settle a call that is not under way as cancelled."""
        timer = self._later.pop(task, None)
        if timer is not None:
            timer.cancel()
        if not task.settled:
            task.end(Ending(error=CallCancelled("cancelled before it was sent")))

    def _queue(self, task: Task) -> "_Queue":
        key = id(task.shared), task.size
        queue = self._waiting.get(key)
        if queue is None:
            pace = Pace(task.size, lambda: self._parallel)
            queue = self._waiting[key] = _Queue(task.shared, pace)
        return queue

    # -- sending ---------------------------------------------------------------------------------

    @property
    def _parallel(self) -> int:
        """Requests that may be under way or wait for their turn. Where nobody knows how many
        Lambda takes, that grows until it refuses some."""
        limiter = self._session.limiter
        return self._policy.parallel or limiter.allowed or max(PARALLEL, limiter.useful)

    def _pump(self) -> None:
        """Send what may be sent now."""
        if self._cancelled:
            return
        parallel = self._parallel
        for key, queue in list(self._waiting.items()):
            if len(self._sendings) >= parallel:
                break
            while queue.tasks and len(self._sendings) < parallel:
                tasks = self._next(queue)
                if not tasks:
                    break
                self._begin(queue, tasks)
            if not queue.tasks and not queue.under_way:
                del self._waiting[key]
        if any(queue.tasks for queue in self._waiting.values()):
            self._look_again()

    def _look_again(self) -> None:
        """Have more sent once more may be under way, however long those take that are."""
        if self._looks_again or self._policy.parallel or self._session.limiter.allowed:
            return
        self._looks_again = True

        def look() -> None:
            self._looks_again = False
            self._pump()

        asyncio.get_running_loop().call_later(_LOOKS_AT_ROOM_EVERY, look)

    def _next(self, queue: "_Queue") -> list[Task]:
        """The calls of the next request; none: it is too early, or nobody wants them."""
        loop = asyncio.get_running_loop()
        size = queue.pace.size(len(queue.tasks), loop.time())
        if not size:
            if not queue.waits:
                queue.waits = True
                loop.call_later(queue.pace.pause, self._go_on, queue)
            return []
        tasks: list[Task] = []
        room = _MOST_BYTES
        while queue.tasks and len(tasks) < size:
            if tasks and len(queue.tasks[0].data) > room:
                break
            task = queue.tasks.popleft()
            if not task.settled and (task.tries or task.begins()):
                task.tries += 1
                tasks.append(task)
                room -= len(task.data)
        return tasks

    def _go_on(self, queue: "_Queue") -> None:
        queue.waits = False
        self._pump()

    def _begin(self, queue: "_Queue", tasks: list[Task], *, copy: bool = False) -> None:
        sending = _Sending(tasks, Cancellation(self._noun), is_copy=copy)
        for task in tasks:
            task.sendings.add(sending)
        queue.under_way += 1
        self._sendings.add(sending)
        sending.job = asyncio.ensure_future(self._send(sending, queue))
        if self._policy.speculate and self._watching is None:
            self._watching = asyncio.ensure_future(self._watch_stragglers())

    async def _send(self, sending: "_Sending", queue: "_Queue") -> None:
        try:
            await self._sent(sending, queue)
        except Exception as error:  # nobody else would notice, and wait for ever
            self._fail(sending, self._as_ours(error))
        finally:
            queue.under_way -= 1
            self._sendings.discard(sending)
            for task in sending.tasks:
                task.sendings.discard(sending)
            self._pump()

    async def _sent(self, sending: "_Sending", queue: "_Queue") -> None:
        frames = (wire.Frame(wire.ITEM, i, x.data) for i, x in enumerate(sending.tasks))
        packed = Packed(
            queue.shared,
            wire.encode(b"".join(frame.to_bytes() for frame in frames)),
            count=len(sending.tasks),
            processes=self._policy.processes,
            has_bucket=self._session.target.bucket is not None,
        )
        attempt = Attempt(
            self._session,
            packed,
            self._limits,
            task_id=f"{self._name}-{secrets.token_hex(8)}",
            noun=self._noun,
        )
        sending.attempt = attempt
        began = time.monotonic()
        try:
            response = await sending.cancellation.unless_requested(
                attempt.run(), lambda: self._told(attempt)
            )
            found = await self._found(sending, attempt, response)
        except ResourceLimitError:
            goes_on = self.running or self._answered_at >= began
            if attempt.sent or self._cancelled or not goes_on:
                raise
            return self._again(sending.tasks)  # others have their turns, so this one's will come
        finally:
            attempt.clean_up()
        self._answered_at = time.monotonic()
        if response.failure and response.failure.kind == wire.SETUP_FAILED:
            self._break(attempt.error_of(response))
        try:  # before the results: who has them may ask for the figures
            self._note(sending, attempt, queue, response, found)
        except Exception as error:  # the results are worth more
            self._log_defect("a request's figures are lost", error)
        self._settle_all(sending, attempt, response, found)

    def _fail(self, sending: "_Sending", error: LambdaCallError | CallCancelled) -> None:
        for task in sending.tasks:
            self._settle(sending, task, Ending(error=error))

    def _as_ours(self, error: Exception) -> LambdaCallError | CallCancelled:
        """What went wrong with a request, as an error of this package."""
        if isinstance(error, (LambdaCallError, CallCancelled)):
            return error
        if isinstance(error, StockImage):
            return messages.STOCK_IMAGE(
                call=self._noun, function=self._function, option=self._option
            )
        if isinstance(error, wire.EnvelopeError):
            return self._not_understood(error)
        return messages.defect(error, call=self._noun, sent=True)

    @staticmethod
    async def _told(attempt: Attempt) -> bool:
        if not attempt.sent:
            return False
        try:
            await attempt.cancel()
        except LambdaCallError:
            return False
        return True

    # -- settling --------------------------------------------------------------------------------

    async def _found(
        self, sending: "_Sending", attempt: Attempt, response: wire.Response
    ) -> "_Found":
        """What the answer tells of the calls that were sent; a call can have written to it."""
        result = response.result
        if result is not None and not isinstance(result, str):
            result = await attempt.fetch(result)
        values: dict[int, dict[str, object]] = {}
        begun: dict[int, float | None] = {}
        over: dict[int, float | None] = {}
        for frame in wire.frames_of(result or ""):
            # More than it should: what goes again must get less each time.
            if frame.number >= len(sending.tasks):
                continue
            found = values.setdefault(frame.number, {})
            if frame.kind == wire.BEGUN:
                begun[frame.number] = wire.moment_of(frame.data)
            elif frame.kind == wire.ENDED:
                over[frame.number] = wire.moment_of(frame.data)
            elif frame.kind == wire.VALUE:
                found["value"] = frame.data
            elif frame.kind == wire.RAISED:
                found["raised"] = wire.Raised.from_bytes(frame.data)
            elif frame.kind in (wire.STDOUT, wire.STDERR):
                name = "stdout" if frame.kind == wire.STDOUT else "stderr"
                found[name] = frame.data.decode("utf-8", "replace")
        ended = {n: x for n, x in values.items() if "value" in x or "raised" in x}
        endings = {n: Ending(**x) for n, x in ended.items()}  # type: ignore[arg-type]
        return _Found(endings, begun, over)

    def _settle_all(
        self,
        sending: "_Sending",
        attempt: Attempt,
        response: wire.Response,
        found: "_Found",
    ) -> None:
        failure = response.failure
        failed: Ending | None = None
        if failure and failure.kind == wire.CANCELLED:
            failed = Ending(error=CallCancelled("cancelled while it ran"))
        elif failure:
            error = attempt.error_of(response)
            failed = Ending(error=error, stdout=response.stdout, stderr=response.stderr)
        unfit = failure is not None and failure.kind == wire.ENVIRONMENT
        begun = found.begun
        unbegun: list[Task] = []
        for number, task in enumerate(sending.tasks):
            if number in found.endings:
                self._settle(sending, task, found.endings[number])
            elif self._cancelled or number in begun or not failure:
                self._settle(sending, task, failed or self._missing())
            elif begun or (unfit and task.tries < _TRIES_ELSEWHERE):
                unbegun.append(task)  # its neighbour, or the environment, is to blame
            else:
                self._settle(sending, task, failed or self._missing())
        self._again(unbegun)

    def _again(self, tasks: list[Task]) -> None:
        """Have calls that did not run wait at the head of the queue: they came before the rest."""
        wanted = [x for x in tasks if not x.settled]
        if wanted:
            self._queue(wanted[0]).tasks.extendleft(reversed(wanted))

    def _log_defect(self, what: str, error: Exception) -> None:
        self._session.process.log.error("%s: %s: %s", what, type(error).__name__, error)

    def _missing(self) -> Ending:
        return Ending(error=self._not_understood("a call of the batch has no ending"))

    def _not_understood(self, said: object) -> LambdaCallError:
        return self._session.not_understood(said, call=self._noun)

    @property
    def _function(self) -> str:
        return self._session.target.function

    @property
    def _option(self) -> str:
        return self._session.target.advice.option

    def _settle(self, sending: "_Sending", task: Task, ending: Ending) -> None:
        """Settle a call, or have it tried again.

        What goes wrong with that costs this call alone: the others have results, too.
        """
        try:
            self._settle_or_retry(sending, task, ending)
        except Exception as error:
            self._log_defect("a call could not be settled as usual", error)
            if not task.settled and task not in self._later:
                with contextlib.suppress(Exception):
                    task.end(Ending(error=messages.defect(error, call=self._noun, sent=True)))

    def _settle_or_retry(self, sending: "_Sending", task: Task, ending: Ending) -> None:
        elsewhere = [x for x in task.sendings if x is not sending]
        if task.settled or (ending.error is not None and elsewhere):
            return  # a copy of it was faster, or still runs
        final = isinstance(ending.error, (*FINAL, CallCancelled))
        failed = ending.value is None and not final
        if failed and task.retries_left and not self._cancelled and self._policy.again(ending):
            task.retries_left -= 1
            wait = backed_off(self._policy.backoff, task.tries)
            self._add_later(task, wait * random.uniform(0.5, 1.0))
            return
        task.end(ending)
        for copy in elsewhere:
            if all(x.settled for x in copy.tasks):
                copy.cancellation.request()

    def _add_later(self, task: Task, seconds: float) -> None:
        def go() -> None:
            del self._later[task]
            self.add([task])

        self._later[task] = asyncio.get_running_loop().call_later(seconds, go)

    # -- what it learns --------------------------------------------------------------------------

    def _note(
        self,
        sending: "_Sending",
        attempt: Attempt,
        queue: "_Queue",
        response: wire.Response,
        found: "_Found",
    ) -> None:
        used, returned, endings = response.usage, time.time(), found.endings
        queue.pace.measured(used.duration, len(endings))
        if endings and self._policy.speculate:
            self._durations.append(returned - attempt.sent_at)
        latest = returned - used.duration
        started = max(attempt.sent_at, min(used.started or latest, latest))
        failed = sum(x.value is None for x in endings.values())
        self._answered(
            Invocation(
                queued=sending.queued,
                sent=attempt.sent_at,
                started=started,
                ended=started + used.duration,
                returned=returned,
                calls=len(endings),
                failed=failed + (len(sending.tasks) - len(endings) if response.failure else 0),
                environment=used.environment,
                used=usage.of(used, attempt.log_tail),
                tried_again=sending.is_copy,
                refusals=tuple(attempt.refusals),
                moments=found.moments(used.started, used.duration),
            )
        )

    async def _watch_stragglers(self) -> None:
        """Send a second time what takes much longer than the others did."""
        while self._sendings and not self._cancelled:
            await asyncio.sleep(_LOOKS_EVERY)
            waiting = any(queue.tasks for queue in self._waiting.values())
            limit = None if waiting else straggles_after(self._durations, len(self._sendings))
            if limit is None:
                continue
            for sending in list(self._sendings):
                attempt = sending.attempt
                if attempt is None or not attempt.sent:
                    continue  # it waits for its turn, as a copy would
                slow = time.time() - attempt.sent_at > limit
                unsettled = [x for x in sending.tasks if not x.settled]
                if slow and unsettled and not sending.is_copy and not sending.has_copy:
                    sending.has_copy = True
                    self._begin(self._queue(unsettled[0]), unsettled, copy=True)
        self._watching = None


def backed_off(seconds: float, tries: int) -> float:
    """Seconds before the next try of a call: doubled with each that there was, but bounded."""
    return min(_LONGEST_BACKOFF, seconds * 2.0 ** min(tries - 1, 64))


def straggles_after(durations: list[float], under_way: int) -> float | None:
    """How long a request takes that is a straggler; None as long as that cannot be told.

    Args:
        durations: of the requests that are done, in seconds.
        under_way: how many are not done.
    """
    if len(durations) < max(_KNOWN, under_way):
        return None
    return _STRAGGLES * quantiles(durations, n=4)[2]


@dataclass(frozen=True)
class _Found:
    """What a response tells of its calls, by their numbers.

    Args:
        endings: what became of those that ended.
        begun: when each began, if it is told; those that did not begin are not in it.
        over: when each ended, if it is told.
    """

    endings: dict[int, Ending]
    begun: dict[int, float | None]
    over: dict[int, float | None]

    def moments(self, started: float, duration: float) -> "array[float]":
        """See `Invocation`; a call's process says them, so each is held within its request."""
        found = array("d")
        for number in sorted(self.endings):
            begun, over = self.begun.get(number), self.over.get(number)
            if begun is None or over is None:
                return array("d")
            begins = min(max(0.0, begun - started), duration)
            found.extend((begins, min(max(begins, over - started), duration)))
        return found


class _Queue:
    """Calls that wait, of one function with one set of shared arguments."""

    def __init__(self, shared: Shared, pace: Pace) -> None:
        self.shared, self.pace = shared, pace
        self.tasks: deque[Task] = deque()
        self.under_way = 0
        self.waits = False  # for a timer


class _Sending:
    """One request on its way."""

    def __init__(self, tasks: list[Task], cancellation: Cancellation, *, is_copy: bool) -> None:
        self.tasks, self.cancellation, self.is_copy = tasks, cancellation, is_copy
        self.queued, self.has_copy = time.time(), False
        self.attempt: Attempt | None = None
        self.job: asyncio.Task[None] | None = None
