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

Orders and signals carry the task's number: what was meant for one task must not end the next.
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
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import wire

CANCELLED, DEADLINE = "cancelled", "deadline"
_SIGNAL = signal.SIGUSR1
_FIRST_LOOK = 2.0  # seconds: shorter tasks never cost a request to S3
_LOOK_EVERY = 1.0
# A look may take this long; none is begun so close to the deadline.
_LOOK_TAKES = 2.0
_GRACE = 1.0  # seconds between the steps that end a task
MARGIN = 3 * _GRACE  # seconds that a task which resists may need to end
_TOLERATED_FAILURES = 5


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
_number = 0  # of the current task
_dog: Optional["_Dog"] = None


@contextlib.contextmanager
def watching(orders: Orders) -> Iterator[None]:
    """Have the watchdog watch while the body runs.

    Raises:
        Stopped: in the body, when the deadline passed or the task was cancelled.
    """
    global _current, _number
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a task can be watched in the main thread only: signals end it")
    _number += 1
    number = _number
    armed = True

    def stop(_signal: int, _frame: Optional[FrameType]) -> None:
        asked, reason = _dog.asked() if _dog else (0, "")
        if armed and asked == number:
            raise Stopped(reason)

    before = signal.signal(_SIGNAL, stop)
    _current = orders
    _tell({"number": number, "watch": orders.to_json()})
    try:
        try:
            yield
        finally:
            armed = False
    finally:  # also if the signal arrived in the very step that disarms
        armed = False
        _tell({"number": number, "done": True})
        _current = None
        # A late signal must not meet the default, which would end the process.
        if before is not signal.SIG_DFL:
            signal.signal(_SIGNAL, before)


def start() -> None:
    """Fork the watchdog if there is none, before descriptors are captured or user code runs."""
    global _dog
    if _dog is not None and not _dog.alive():
        _dog.close()
        _dog = None
    if _dog is None:
        _dog = _Dog()


def _tell(order: Dict[str, Any]) -> None:
    if _dog is not None:
        _dog.tell(order)


class _Dog:
    """The handler's end of the watchdog: three pipes and a listener thread."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._alarms, alarms = os.pipe()
        self._asks, asks = os.pipe()
        os.set_blocking(self._asks, False)
        self._pid = os.fork()
        if self._pid == 0:
            _become_watchdog(orders, alarms, asks)
        for end in (orders, alarms, asks):
            os.close(end)
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="watchdog", daemon=True).start()

    def alive(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False

    def close(self) -> None:
        """Let go of a dead watchdog's pipes; the listener ends by itself."""
        os.close(self._orders)
        os.close(self._asks)

    def asked(self) -> Tuple[int, str]:
        """Which task the watchdog wants to end, and why; called when its signal came."""
        try:
            number, reason = os.read(self._asks, 4096).decode().split("\n")[-2].split()
        except (BlockingIOError, IndexError):
            return 0, ""  # somebody else's signal
        return int(number), reason

    def tell(self, order: Dict[str, Any]) -> None:
        """Send one order; a dead watchdog is replaced at the next task."""
        data = json.dumps(order).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._orders, data) :]

    def _listen(self) -> None:
        while True:
            alarm = os.read(self._alarms, 64)
            if not alarm:
                os.close(self._alarms)
                return
            number, reason = alarm.decode().split()
            orders = _current
            if orders is not None and int(number) == _number:
                stack = sys._current_frames().get(threading.main_thread().ident or 0)
                words = orders.last_words(reason, stack).decode()
                self.tell({"number": int(number), "last_words": words})


# -- from here on: what runs in the watchdog's own process ---------------------------------------


def _become_watchdog(orders: int, alarms: int, asks: int) -> None:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, _SIGNAL):
            signal.signal(number, signal.SIG_DFL)
        # Keep nothing of the handler's open: a held pipe or socket would outlive it.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = sorted({2, orders, alarms, asks})
        for low, high in zip([1, *kept], [*kept, os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, min(high, 65536))
        _Watcher(orders, alarms, asks).serve()
    finally:
        os._exit(0)


class _Watcher:
    """Reads orders, watches one task at a time."""

    def __init__(self, orders: int, alarms: int, asks: int) -> None:
        self._orders, self._alarms, self._asks = orders, alarms, asks
        self._handler = os.getppid()
        self._unread = b""
        self._s3: Any = None
        self._failures = 0
        self._number = 0

    def serve(self) -> None:
        while True:
            order = self._next_order(None)
            if "watch" in order:
                self._number = order["number"]
                self._watch(order["watch"])

    def _watch(self, task: Dict[str, Any]) -> None:
        now = time.monotonic()
        deadline, look = now + task["seconds"], now + _FIRST_LOOK
        self._failures = 0
        while True:
            looks = task["bucket"] and self._failures < _TOLERATED_FAILURES
            looks = looks and look < deadline - _LOOK_TAKES
            until = look if looks else deadline
            if self._order(until - time.monotonic()):
                return  # done
            if not looks:
                return self._end(task, DEADLINE)
            if self._marked(task):
                return self._end(task, CANCELLED)
            look = time.monotonic() + _LOOK_EVERY

    def _end(self, task: Dict[str, Any], reason: str) -> None:
        if self._order(0):  # it ended by itself meanwhile
            return
        about = f"{self._number} {reason}\n".encode()
        os.write(self._asks, about)
        self._kill(_SIGNAL)
        if self._order(_GRACE):
            return
        os.write(self._alarms, about)
        order = self._order(_GRACE)
        if "last_words" in order:
            if task["bucket"]:
                self._store(task, order["last_words"])
            order = self._order(0)
        if order:
            return
        _log(f"{wire.KILLED_MARK} {reason}")
        self._kill(signal.SIGTERM)
        if not self._order(_GRACE / 2):
            self._kill(signal.SIGKILL)

    def _kill(self, number: int) -> None:
        if os.getppid() == self._handler:  # else it has ended, and the id may be another's
            os.kill(self._handler, number)

    def _order(self, timeout: float) -> Dict[str, Any]:
        """The next order about the task being watched; empty after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            order = self._next_order(max(0.0, end - time.monotonic()))
            if not order or order["number"] == self._number:
                return order

    def _next_order(self, timeout: Optional[float]) -> Dict[str, Any]:
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

            # An S3 that does not answer must not keep this process from the deadline.
            self._s3 = client(connect_timeout=1, read_timeout=1, attempts=1)
        return self._s3


def _log(message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"[covalent] {message}\n".encode())
