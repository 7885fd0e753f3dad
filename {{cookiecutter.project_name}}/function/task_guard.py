"""Ends a task that has to end: at its deadline, or when its cancel mark appears in S3.

A small process beside the handler watches the clock and the mark. It is a process, not a thread,
because a long C call may hold the interpreter's lock, and then no thread of ours would run.

    handler (main thread)            watchdog (own process, forked once per environment)
      with watching(...)   ─order─►   sleep; from the 3rd second on look for the cancel mark
        the user's code    ◄signal─   1 ask: raise Stopped in the main thread
      done                 ─order─►     (most code ends here)
      listener thread      ◄─alarm─   2 it did not end: have the listener thread hand over
        last words         ─order─►     streams and stack, and store them in S3
                           ◄─kill──   3 SIGTERM, then SIGKILL
"""

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Callable, Dict, Iterator, Optional

CANCELLED, DEADLINE = "cancelled", "deadline"
_SIGNALS = {CANCELLED: signal.SIGUSR1, DEADLINE: signal.SIGUSR2}
_FIRST_LOOK = 2.0  # seconds: shorter tasks never cost a request to S3
_LOOK_EVERY = 1.0
_GRACE = 1.0  # seconds between the steps that end a task
MARGIN = 3 * _GRACE  # seconds that a task which resists may need to end
_TOLERATED_FAILURES = 5
# In the log of an invocation that had to be killed, so that it is not mistaken for one that ran
# out of memory; the executor looks for it.
KILLED_MARK = "the watchdog killed this process, its task being"


class Stopped(BaseException):
    """Raised in the main thread to end the user's code; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Orders:
    """The task being watched, as the watchdog is told of it.

    Args:
        seconds: from now to the deadline.
        bucket, cancel_key: where a cancel mark may appear; no bucket: none can.
        outcome_key: where the last words go if the task has to be killed.
        last_words: called in another thread when the task did not end by itself, with the
            reason and the main thread's stack; returns what to store (text as UTF-8).
    """

    def __init__(
        self,
        *,
        seconds: float,
        bucket: str,
        cancel_key: str,
        outcome_key: str,
        last_words: Callable[[str, Optional[FrameType]], bytes],
    ) -> None:
        self.seconds = seconds
        self.bucket, self.cancel_key, self.outcome_key = bucket, cancel_key, outcome_key
        self.last_words = last_words

    def to_json(self) -> Dict[str, Any]:
        """What the watchdog's process needs to know."""
        return {k: v for k, v in vars(self).items() if k != "last_words"}


_current: Optional[Orders] = None  # what the listener thread asks for last words
_dog: Optional["_Dog"] = None


@contextlib.contextmanager
def watching(orders: Orders) -> Iterator[None]:
    """Have the watchdog watch while the body runs.

    Raises:
        Stopped: in the body, when the deadline passed or the task was cancelled.
    """
    global _current
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a task can be watched in the main thread only: signals end it")
    armed = True

    def stop(number: int, _frame: Optional[FrameType]) -> None:
        if armed:
            raise Stopped(next(k for k, v in _SIGNALS.items() if v == number))

    before = {number: signal.signal(number, stop) for number in _SIGNALS.values()}
    _current = orders
    _tell({"watch": orders.to_json()})
    try:
        try:
            yield
        finally:
            armed = False
    finally:  # also if the signal arrived in the very step that disarms
        armed = False
        _tell({"done": True})
        _current = None
        for number, previous in before.items():
            signal.signal(number, previous)


def start() -> None:
    """Fork the watchdog if there is none, before descriptors are captured or user code runs."""
    global _dog
    if _dog is None or not _dog.alive():
        _dog = _Dog()


def _tell(order: Dict[str, Any]) -> None:
    if _dog is not None:
        _dog.tell(order)


class _Dog:
    """The handler's end of the watchdog: two pipes and a listener thread."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._alarms, alarms = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _become_watchdog(orders, alarms)
        os.close(orders)
        os.close(alarms)
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="watchdog", daemon=True).start()

    def alive(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False

    def tell(self, order: Dict[str, Any]) -> None:
        """Send one order; a dead watchdog is replaced at the next task."""
        data = json.dumps(order).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._orders, data) :]

    def _listen(self) -> None:
        while True:
            alarm = os.read(self._alarms, 1)
            if not alarm:
                return
            orders, reason = _current, CANCELLED if alarm == b"c" else DEADLINE
            if orders is not None:
                stack = sys._current_frames().get(threading.main_thread().ident or 0)
                words = orders.last_words(reason, stack).decode()
                self.tell({"last_words": words})


# -- from here on: what runs in the watchdog's own process ---------------------------------------


def _become_watchdog(orders: int, alarms: int) -> None:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, *_SIGNALS.values()):
            signal.signal(number, signal.SIG_DFL)
        # Keep nothing of the handler's open: a held pipe or socket would outlive it.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = sorted({2, orders, alarms})
        for low, high in zip([1, *kept], [*kept, os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, min(high, 65536))
        _Watcher(orders, alarms).serve()
    finally:
        os._exit(0)


class _Watcher:
    """Reads orders, watches one task at a time."""

    def __init__(self, orders: int, alarms: int) -> None:
        self._orders, self._alarms = orders, alarms
        self._handler = os.getppid()
        self._unread = b""
        self._s3: Any = None
        self._failures = 0

    def serve(self) -> None:
        while True:
            order = self._order()
            if "watch" in order:
                self._watch(order["watch"])

    def _watch(self, task: Dict[str, Any]) -> None:
        now = time.monotonic()
        deadline, look = now + task["seconds"], now + _FIRST_LOOK
        self._failures = 0
        while True:
            looks = task["bucket"] and self._failures < _TOLERATED_FAILURES
            until = min(deadline, look) if looks else deadline
            if self._order(until - time.monotonic()):
                return  # done
            if time.monotonic() >= deadline:
                return self._end(task, DEADLINE)
            if self._marked(task):
                return self._end(task, CANCELLED)
            look = time.monotonic() + _LOOK_EVERY

    def _end(self, task: Dict[str, Any], reason: str) -> None:
        self._kill(_SIGNALS[reason])
        if self._order(_GRACE):
            return
        os.write(self._alarms, reason[:1].encode())
        order = self._order(_GRACE)
        if "done" in order:
            return
        if "last_words" in order and task["bucket"]:
            self._store(task, order["last_words"])
        _log(f"{KILLED_MARK} {reason}")
        self._kill(signal.SIGTERM)
        self._order(_GRACE / 2)
        self._kill(signal.SIGKILL)

    def _kill(self, number: int) -> None:
        if os.getppid() == self._handler:  # else it has ended, and the id may be another's
            os.kill(self._handler, number)

    def _order(self, timeout: Optional[float] = None) -> Dict[str, Any]:
        """The next order; empty after `timeout` seconds. Ends this process with the handler's."""
        end = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._unread:
            wait = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._orders], [], [], wait)[0]:
                return {}
            chunk = os.read(self._orders, 65536)
            if not chunk:
                os._exit(0)
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        order: Dict[str, Any] = json.loads(line)
        return order

    def _marked(self, task: Dict[str, Any]) -> bool:
        try:
            self._client().head_object(Bucket=task["bucket"], Key=task["cancel_key"])
            return True
        except Exception as error:
            response: Any = getattr(error, "response", None) or {}
            if response.get("Error", {}).get("Code") not in ("404", "NoSuchKey"):
                self._failures += 1
                _log(f"cannot look for a cancel mark in bucket {task['bucket']}: {error}")
            return False

    def _store(self, task: Dict[str, Any], words: str) -> None:
        try:
            self._client().put_object(
                Bucket=task["bucket"], Key=task["outcome_key"], Body=words.encode()
            )
        except Exception as error:
            _log(f"cannot store the last words in bucket {task['bucket']}: {error}")

    def _client(self) -> Any:
        if self._s3 is None:
            from task_storage import client

            self._s3 = client()
        return self._s3


def _log(message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"[covalent] {message}\n".encode())
