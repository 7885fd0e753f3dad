"""What is done when this process ends, in parallel and within some seconds.

A server ends in three ways. Its loop cancels its tasks (Ctrl-C): whoever runs a call notices by
itself. The interpreter exits: `atexit`. SIGTERM: uvicorn, which runs Covalent's server, ends its
process by that same signal in the end, and then nothing is cancelled and no exit handler runs.

Python 3.12 starts no thread any more when the interpreter exits: there it is done one by one.
"""

import atexit
import contextlib
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

    The mutable state is that work, and whether SIGTERM is watched.
    """

    def __init__(self) -> None:
        self._work: set[Callable[[], None]] = set()
        self._process = os.getpid()
        self._watching = self._registered = False

    def add(self, work: Callable[[], None]) -> None:
        """Have `work`, which may block, done at the end."""
        self._watch()
        self._work.add(work)

    def discard(self, work: Callable[[], None]) -> None:
        """Take `work` back: it is done, or needed no more."""
        self._work.discard(work)

    def run(self) -> None:
        """Do all of it, as far as it can be done in some seconds."""
        if os.getpid() != self._process:
            return  # a fork of the process that has it to do
        waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for work in list(self._work):
            self._work.discard(work)
            waiting.put(work)
        threads = []
        with contextlib.suppress(RuntimeError):  # late at exit, or for want of threads
            for _ in range(min(_THREADS, waiting.qsize()) - 1):
                thread = threading.Thread(target=_empty, args=(waiting,), daemon=True)
                thread.start()
                threads.append(thread)
        end = time.monotonic() + _SECONDS
        _empty(waiting, end)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Forget everything, and watch nothing any more."""
        self._work.clear()
        atexit.unregister(self.run)
        self._registered = False

    def _watch(self) -> None:
        if not self._registered:
            self._registered = True
            atexit.register(self.run)
        if not self._watching and threading.current_thread() is threading.main_thread():
            self._watching = True
            self._watch_for_sigterm()

    def _watch_for_sigterm(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_IGN:
            return

        def ended(number: int, frame: Any) -> None:
            # In a thread: this one may hold a lock of a client that is being used.
            ending = threading.Thread(target=self.run, daemon=True)
            ending.start()
            ending.join(_SECONDS)
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        signal.signal(signal.SIGTERM, ended)


def _empty(waiting: "SimpleQueue[Callable[[], None]]", end: float | None = None) -> None:
    while end is None or time.monotonic() < end:
        try:
            work = waiting.get_nowait()
        except Empty:
            return
        with contextlib.suppress(Exception):
            work()
