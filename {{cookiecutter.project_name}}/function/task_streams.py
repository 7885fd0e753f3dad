"""Capture of all that a task writes to file descriptors 1 and 2.

    fd 1 ──pipe──┐                 ┌──► Clipped (head and tail, for the response)
                 ├── pump thread ──┤
    fd 2 ──pipe──┘                 └──► the log (CloudWatch), whole

Capturing at the level of descriptors also takes what C extensions and subprocesses write. One
thread serves all tasks, and sleeps through those that write nothing.
"""

import io
import os
import selectors
import sys
import threading
from types import TracebackType
from typing import Dict, List, Optional, TextIO, Type

HEAD = 64 * 1024  # bytes kept from the start of each stream
TAIL = 192 * 1024  # and from its end
_CHUNK = 64 * 1024
_LAST_CHUNKS = 16  # of a pipe at the end: Linux lets none hold more than 1 MB


class Clipped:
    """The head and the tail of a stream of bytes, in bounded memory."""

    def __init__(self, head: int = HEAD, tail: int = TAIL) -> None:
        self._head_size, self._tail_size = head, tail
        self._head, self._tail = bytearray(), bytearray()
        self._dropped = 0

    def add(self, chunk: bytes) -> None:
        """Append `chunk`; bytes between head and tail are counted and let go."""
        room = self._head_size - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        # Cut in large steps: deleting from the front of a bytearray moves the rest.
        if len(self._tail) > 2 * self._tail_size:
            self._cut()

    def text(self) -> str:
        """What was kept, as text, with a mark where something was cut."""
        self._cut()
        head, tail = (x.decode("utf-8", "replace") for x in (self._head, self._tail))
        if not self._dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        mark = f"\n[... {self._dropped} bytes cut here; the function's log has them all ...]\n"
        return head + mark + tail

    def _cut(self) -> None:
        excess = max(0, len(self._tail) - self._tail_size)
        del self._tail[:excess]
        self._dropped += excess


def _writer(fd: int) -> TextIO:
    # Made once for the life of the process: a logging handler that keeps sys.stderr from one
    # task goes on working in the next, because the descriptor's number stays the same.
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


_WRITERS: Dict[int, TextIO] = {}


def _own_writers() -> List[TextIO]:
    for fd in (1, 2):
        if fd not in _WRITERS or _WRITERS[fd].closed:
            _WRITERS[fd] = _writer(fd)
    return [_WRITERS[1], _WRITERS[2]]


class _Pump:
    """A thread that empties pipes, for the life of the process: to start and to join one for each
    task would take longer than all else that is done around a short one."""

    def __init__(self) -> None:
        # Unlike poll's, what these wait for may be changed while another thread waits.
        self.pipes = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            for key, _ in self.pipes.select():
                key.data(key.fd)


_pump: Optional[_Pump] = None


def _running_pump() -> _Pump:
    global _pump
    if _pump is None or not _pump.alive():  # a task that forks leaves its child without one
        _pump = _Pump()
    return _pump


class Capture:
    """Context manager: takes over descriptors 1 and 2 and gives them back.

    `stdout` and `stderr` may be read at any time, also from another thread.
    """

    def __init__(self) -> None:
        self._kept = {1: Clipped(), 2: Clipped()}
        self._lock = threading.Lock()  # of what is kept
        self._reading = threading.Lock()  # of the pipes' reading ends
        self._readers: Dict[int, Clipped] = {}
        self._saved: Dict[int, int] = {}
        self._python: List[TextIO] = []

    @property
    def stdout(self) -> str:
        """What descriptor 1 took so far."""
        return self._text(1)

    @property
    def stderr(self) -> str:
        """What descriptor 2 took so far."""
        return self._text(2)

    def __enter__(self) -> "Capture":
        self._python = [sys.stdout, sys.stderr]
        _flush(*self._python)
        self._pump = _running_pump()
        for fd in (1, 2):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            self._saved[fd] = os.dup(fd)
            os.dup2(writer, fd)
            os.close(writer)
            self._readers[reader] = self._kept[fd]
        for reader in self._readers:
            self._pump.pipes.register(reader, selectors.EVENT_READ, self._pumped)
        sys.stdout, sys.stderr = _own_writers()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        _flush(sys.stdout, sys.stderr, *_WRITERS.values())
        sys.stdout, sys.stderr = self._python
        with self._reading:
            for reader in self._readers:
                self._forget(reader)
            for fd in (1, 2):
                os.dup2(self._saved[fd], fd)
            # A process that the task left behind may hold the other end for ever: take what is
            # there, and no more.
            for reader in self._readers:
                for _ in range(_LAST_CHUNKS):
                    if not self._take(reader):
                        break
                os.close(reader)
            self._readers.clear()
        for fd in self._saved.values():
            os.close(fd)

    def _text(self, fd: int) -> str:
        with self._lock:
            return self._kept[fd].text()

    def _pumped(self, reader: int) -> None:
        """Called in the pump's thread, when there is something to read."""
        with self._reading:
            if reader in self._readers:  # else the task ended meanwhile
                self._take(reader)

    def _take(self, reader: int) -> bool:
        """Copy one chunk; whether there was one."""
        try:
            chunk = os.read(reader, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._forget(reader)  # every writer has closed it: it would be ready for ever
            return False
        with self._lock:
            self._readers[reader].add(chunk)
        # Both streams go to the log: that is where Lambda sends both, and descriptor 1 may be
        # the channel by which a local worker answers.
        _write_all(self._saved[2], chunk)
        return True

    def _forget(self, reader: int) -> None:
        try:
            self._pump.pipes.unregister(reader)
        except KeyError:
            pass  # done before


def _flush(*files: Optional[TextIO]) -> None:
    for file in files:
        try:
            if file is not None:
                file.flush()
        except (OSError, ValueError):
            pass  # the task closed it


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        pass  # a log that cannot be written must not stop the task
