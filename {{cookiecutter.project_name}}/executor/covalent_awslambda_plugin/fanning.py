"""A fan-out electron: one node of Covalent's, an invocation for each item.

Spread (the function took the arguments apart) ─► Scatter ─► pickles of the values
                                                               │ never opened here
Result: a pickle that opens them when somebody opens it ◄──────┘
"""

import asyncio
import pickle
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from lambda_calls import messages, usage, wire
from lambda_calls.attempt import Limits
from lambda_calls.call import Call, Shared
from lambda_calls.cancellation import Cancellation
from lambda_calls.errors import LambdaCallError
from lambda_calls.lazy_list import pickled_list
from lambda_calls.run import Result, Spread
from lambda_calls.scatter import Ending, Invocation, Policy, Scatter, Task
from lambda_calls.session import Session

_PROGRESS_EVERY = 5.0  # seconds
_MOST_OUTPUT = 1_000_000  # characters that all items together may leave in a stream


class FanOut:
    """The items of one fan-out electron.

    The mutable state is what became of them so far.

    Args:
        session: function and bucket.
        spread: the items.
        call: the electron that they come from.
        limits: what each item may take, and how often it is tried.
        name: begins the names of requests in S3.
        used: told of what each invocation took.
        progress: told how far it is, in a line.
    """

    def __init__(
        self,
        session: Session,
        spread: Spread,
        call: Call,
        limits: Limits,
        *,
        name: str,
        used: Callable[[usage.Usage], object],
        progress: Callable[[str], None],
    ) -> None:
        self._session, self._spread, self._limits = session, spread, limits
        self._call, self._name, self._used, self._progress = call, name, used, progress
        self._endings: list[Ending | None] = [None] * len(spread.items)
        self._done = self._failed = 0
        self._changed = asyncio.Event()
        self._first_failure: int | None = None

    async def result(self, cancellation: Cancellation) -> Result:
        """Run all items; a result whose members nobody has opened.

        Raises:
            LambdaCallError: if an item failed, and its exceptions are not to be returned.
            CallCancelled: if the electron was cancelled; all items have been told to stop.
        """
        if self._call.after:
            raise messages.FAN_OUT_HOOKS(call="electron")
        scatter = self._scatter()

        async def stop() -> bool:
            await scatter.cancel_all()
            return True

        try:
            await cancellation.unless_requested(self._all(scatter), stop)
        finally:
            await scatter.cancel_all()
        return self._put_together()

    def streams(self) -> tuple[str, str]:
        """What the items wrote, each line after its item's number."""
        out = self._collected(lambda ending: ending.stdout)
        return out, self._collected(lambda ending: ending.stderr)

    def _scatter(self) -> Scatter:
        options = self._spread.options
        policy = Policy(parallel=options.get("max_workers"), processes=1, limits=self._limits)
        return Scatter(
            self._session,
            policy,
            name=self._name,
            noun="item",
            answered=self._answered,
        )

    def _answered(self, invocation: Invocation) -> None:
        self._used(invocation.used)

    async def _all(self, scatter: Scatter) -> None:
        """Wait until every item is settled, or the first one has failed."""
        shared = Shared(
            function=self._spread.function,
            keywords=self._spread.keywords,
            before=self._call.before,
            python=self._spread.python,
            cloudpickle=self._spread.cloudpickle,
        )
        tasks = [
            Task(
                data=item,
                shared=shared,
                begins=self._is_wanted,
                settle=partial(self._settle, number),
                size=self._spread.options.get("batch"),
                retries_left=self._limits.retries,
            )
            for number, item in enumerate(self._spread.items)
        ]
        scatter.add(tasks)
        told = time.monotonic()
        while self._done < len(tasks) and self._first_failure is None:
            self._changed.clear()
            timer = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({timer}, timeout=_PROGRESS_EVERY)
            timer.cancel()
            if time.monotonic() - told >= _PROGRESS_EVERY:
                told = time.monotonic()
                self._progress(self._line(scatter.running))
        if self._first_failure is not None:
            raise self._failure(self._first_failure)
        self._progress(self._line(0))

    def _is_wanted(self) -> bool:
        return self._first_failure is None  # an electron is cancelled as a whole

    def _settle(self, number: int, ending: Ending) -> None:
        self._endings[number] = ending
        self._done += 1
        if ending.value is None:
            self._failed += 1
            if not self._spread.options.get("return_exceptions") and self._first_failure is None:
                self._first_failure = number
        if self._done == len(self._endings) or self._first_failure is not None:
            self._changed.set()

    def _line(self, running: int) -> str:
        count = len(self._endings)
        share = 100 * self._done // count if count else 100
        return (
            f"[fan-out] {self._done} of {count} done ({share} %), {self._failed} failed, "
            f"{running} running"
        )

    def _failure(self, number: int) -> LambdaCallError:
        ending = self._endings[number]
        assert ending is not None
        values: dict[str, Any] = {"number": number, "count": len(self._endings)}
        if ending.raised is not None:
            raised = ending.raised
            said = f"{raised.type}: {raised.message}"
            failure = wire.Failure(kind=wire.EXCEPTION, type=raised.type, message=raised.message)
            return messages.ITEM_FAILED(
                said=said,
                type=raised.type,
                traceback=raised.traceback,
                hint=messages.hint(
                    failure, wire.Usage(), call="electron", advice=self._session.target.advice
                ),
                **values,
            )
        error = ending.error
        if isinstance(error, LambdaCallError):
            kind = type(error)
            made = messages.ITEM_FAILED(said=error.message, **values)
            return kind(made.message, hint=error.hint, type=error.type, traceback=error.traceback)
        return messages.ITEM_FAILED(said=str(error), **values)

    def _put_together(self) -> Result:
        pickled = pickled_list(_member(x) for x in self._endings if x is not None)
        failed = f", {self._failed} of them exceptions" if self._failed else ""
        return Result(
            pickled=wire.encode(pickled),
            text=f"[{len(self._endings)} values{failed}; open the result to see them]",
            attrs={},
            python=self._spread.python,
            cloudpickle=self._spread.cloudpickle,
        )

    def _collected(self, stream: Callable[[Ending], str]) -> str:
        lines: list[str] = []
        room = _MOST_OUTPUT
        for number, ending in enumerate(self._endings):
            for line in stream(ending).splitlines() if ending is not None else ():
                shown = f"[{number}] {line}"
                room -= len(shown) + 1
                if room < 0:
                    lines.append("[... the rest is cut; the function's log has it ...]")
                    return "\n".join(lines) + "\n"
                lines.append(shown)
        return "\n".join(lines) + "\n" if lines else ""


def _member(ending: Ending) -> bytes:
    """The pickle of an item's value, or of what it raised."""
    if ending.value is not None:
        return ending.value
    raised = ending.raised
    if raised is not None and raised.exception is not None:
        return wire.decode(raised.exception)
    error = ending.error
    said = f"{type(error).__name__}: {error}"
    if raised is not None:
        said = f"{raised.type}: {raised.message}\n{raised.traceback}"
    # A class that whoever opens the result has, whatever is installed there.
    return pickle.dumps(RuntimeError(said))
