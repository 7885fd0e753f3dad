"""What is done when this process ends, in parallel and within some seconds.

A server ends in three ways. Its loop cancels its tasks (Ctrl-C): whoever runs a call notices by
itself. The interpreter exits: `atexit`. SIGTERM: uvicorn, which runs Covalent's server, ends its
process by that same signal in the end, and then nothing is cancelled and no exit handler runs.

Python 3.12 starts no thread any more when the interpreter exits: there it is done one by one.
"""

import atexit
import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

_SECONDS = 10.0  # for all of it together
_THREADS = 32


class AtExit:
    """Work to be done if the process ends.

    The mutable state is that work, in the order in which it came, and whether the interpreter's
    end is watched.
    """

    def __init__(self) -> None:
        self._work: dict[Callable[[], None], None] = {}
        self._process = os.getpid()
        self._registered = self._watching = False

    def add(self, work: Callable[[], None]) -> None:
        """Have `work`, which may block, done at the end."""
        self.watch()
        self._work[work] = None

    def discard(self, work: Callable[[], None]) -> None:
        """Take `work` back: it is done, or needed no more."""
        self._work.pop(work, None)

    def run(self) -> None:
        """Do all of it, as far as it can be done in some seconds."""
        _do(self.taken(), time.monotonic() + _SECONDS)

    def taken(self) -> list[Callable[[], None]]:
        """All of it, for whoever does it now."""
        if os.getpid() != self._process:
            return []  # a fork of the process that has it to do
        work = list(self._work)
        for one in work:
            self.discard(one)
        return work

    def close(self) -> None:
        """Forget everything, and watch nothing any more."""
        self._work.clear()
        _at_sigterm().watched.discard(self)
        atexit.unregister(self.run)
        self._registered = False

    def watch(self) -> None:
        """Notice the end of the process. SIGTERM is noticed from the first call on that was made
        in the main thread: no other may set a handler."""
        if not self._registered:
            self._registered = True
            atexit.register(self.run)
            _at_sigterm().watched.add(self)
        if not self._watching and threading.current_thread() is threading.main_thread():
            self._watching = True
            _at_sigterm().watch()


class _AtSigterm:
    """One handler of the signal for all that have work: each pool has some of its own.

    The mutable state is who may have work, and the handler that was set last.
    """

    def __init__(self) -> None:
        self.watched: set[AtExit] = set()
        self._handler: Any = None

    def watch(self) -> None:
        """Set the handler, unless it is there, or the signal is ignored."""
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_IGN or (before is self._handler and before is not None):
            return

        def ended(number: int, frame: Any) -> None:
            self._run()
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        self._handler = ended
        signal.signal(signal.SIGTERM, ended)

    def _run(self) -> None:
        """Do all the work, and what comes up meanwhile.

        In threads alone: this one may hold a lock of a client that is being used.
        """
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            work = [work for one in list(self.watched) for work in one.taken()]
            if not work:
                return
            _do(work, end, here=False)


@functools.cache
def _at_sigterm() -> _AtSigterm:
    """The process's own."""
    return _AtSigterm()


def _do(work: list[Callable[[], None]], end: float, *, here: bool = True) -> None:
    """Do all of it in parallel, no longer than until `end`, if there are threads.

    Args:
        work: what is to be done; what is first begins first.
        end: seconds, monotonic.
        here: whether this thread does it if none can be started.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    for one in work:
        waiting.put(one)
    threads = []
    with contextlib.suppress(RuntimeError):  # late at exit, or for want of threads
        for _ in range(min(_THREADS, len(work))):
            thread = threading.Thread(target=_empty, args=(waiting, end), daemon=True)
            thread.start()
            threads.append(thread)
    if here and not threads:
        _empty(waiting, end)
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _empty(waiting: "SimpleQueue[Callable[[], None]]", end: float) -> None:
    while time.monotonic() < end:
        try:
            work = waiting.get_nowait()
        except Empty:
            return
        with contextlib.suppress(Exception):
            work()
