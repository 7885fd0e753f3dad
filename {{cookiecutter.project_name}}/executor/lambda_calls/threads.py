"""Blocking calls awaited in a bounded pool of daemon threads.

asyncio's own pool is of no use here: it has 6 threads on a machine of 2 cores, and its threads are
joined at the interpreter's exit, so that a server could not stop before its last request ended.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from . import messages

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Threads:
    """Runs blocking calls, no more than `most` at a time; others wait in order.

    The mutable state is the queue, how many threads there are, and how much work is not done.

    Args:
        most: threads.
        name: of the threads, for those who look at a process.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._unfinished = 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `call(*args, **kwargs)` in a thread.

        If the awaiting task is cancelled, a call that has begun goes on and its result is
        dropped; one that has not begun never does.

        Raises:
            ResourceLimitError: if the system gives this process no thread at all.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            if future.done():  # cancelled while it waited
                return
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                _hand_over(loop, future, error=error)
            else:
                _hand_over(loop, future, result=result)

        self.begin(work)
        return await future

    def begin(self, work: Callable[[], None]) -> None:
        """Have a thread run `work`, for whose end nobody waits; returns at once.

        Raises:
            ResourceLimitError: if the system gives this process no thread at all.
        """
        with self._lock:
            self._work.put(work)
            self._unfinished += 1
            # Not by how many threads wait: one that has its work may not have woken up yet.
            if self._unfinished <= self._started or self._started >= self._most:
                return
            self._started += 1
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError as error:  # "can't start new thread"
            with self._lock:
                self._started -= 1
                others = self._started
            if not others:
                raise messages.NO_THREAD(said=error) from error

    def close(self) -> None:
        """Have the threads end once what they do and what waits is done."""
        with self._lock:
            for _ in range(self._started):
                self._work.put(None)
            self._started = 0  # whoever begins something now needs another one

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            try:
                work()
            except Exception as error:  # a defect of ours must not cost all others a thread
                _log.error("work that nobody waits for has failed: %s", type(error).__name__)
            del work  # what it holds may be large, and the next may be long in coming
            with self._lock:
                self._unfinished -= 1


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[T]",
    *,
    result: T | None = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if future.done():  # cancelled meanwhile
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more
