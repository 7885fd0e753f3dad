"""Stops what runs in Lambda when this process ends: nobody would wait for it any more.

A server ends in three ways. Its loop cancels its tasks (Ctrl-C): `run` notices by itself. The
interpreter exits: `atexit`. SIGTERM: uvicorn, which runs Covalent's server, ends its process by
that same signal in the end, and then nothing is cancelled and no exit handler runs.
"""

import atexit
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_SECONDS = 10.0  # for all of them together

_stops: set[Callable[[], None]] = set()
_watching = False


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop`, which may block, if the process ends while the body runs."""
    _watch_for_sigterm()
    _stops.add(stop)
    try:
        yield
    finally:
        _stops.discard(stop)


@atexit.register
def stop_all() -> None:
    """Stop everything, as far as it can be done in some seconds."""
    end = time.monotonic() + _SECONDS
    for stop in list(_stops):
        if time.monotonic() > end:
            break
        with contextlib.suppress(Exception):
            stop()


def _watch_for_sigterm() -> None:
    global _watching
    if _watching or threading.current_thread() is not threading.main_thread():
        return
    _watching = True
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_IGN:
        return

    def ended(number: int, frame: Any) -> None:
        # In a thread: this one may hold a lock of a client that is being used.
        marking = threading.Thread(target=stop_all, daemon=True)
        marking.start()
        marking.join(_SECONDS)
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, ended)
