"""Tells, while a run goes on, how far it is."""

from __future__ import annotations

import threading
import time

_EVERY = 15.0  # seconds


class Progress:
    """Prints lines that begin with the time since the run began.

    The mutable state is how much of each part is done, and when that was last said.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._said: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def say(self, words: str) -> None:
        """Print a line."""
        with self._lock:
            self._print(words)

    def one_more(self, what: str, count: int) -> None:
        """One of `count` is done; says so now and then, and at the end."""
        with self._lock:
            done = self._done[what] = self._done.get(what, 0) + 1
            if done == count or self.seconds - self._said.get(what, 0.0) > _EVERY:
                self._said[what] = self.seconds
                self._print(f"{done} of {count} {what}")

    def _print(self, words: str) -> None:
        print(f"[{self.seconds:4.0f} s] {words}", flush=True)
