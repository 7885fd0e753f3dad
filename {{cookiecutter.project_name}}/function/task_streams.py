"""What a task writes to file descriptors 1 and 2, as the parent reads it from two pipes.

fd 1 of the task ──pipe──┐           ┌──► Clipped (head and tail, for the response)
                         ├── Stream ─┤
fd 2 of the task ──pipe──┘           └──► the log (CloudWatch), whole
"""

import contextlib
import os
import re
from typing import Dict, Optional

import task_channel as channels

HEAD = 64 * 1024  # bytes kept from the start of each stream
TAIL = 192 * 1024  # and from its end
LOG = 2  # Lambda sends both streams there; descriptor 1 is a local worker's way to answer
_CALL_HEAD, _CALL_TAIL = 4 * 1024, 12 * 1024  # of each call of a batch
_ALL_CALLS = 512 * 1024  # bytes of all of them together
_CHUNK = 64 * 1024
_DIGITS = 11  # bytes of a call's number in a mark, with its colon
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
        if not self._dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        head, tail = (x.decode("utf-8", "replace") for x in (self._head, self._tail))
        mark = f"\n[... {self._dropped} bytes cut here; the function's log has them all ...]\n"
        return head + mark + tail

    def _cut(self) -> None:
        excess = max(0, len(self._tail) - self._tail_size)
        del self._tail[:excess]
        self._dropped += excess


class Split:
    """The output of a batch's calls, told apart by the marks that are written between them.

    Args:
        mark: is part of each; a call of the batch can know it.
        count: of the calls.
    """

    def __init__(self, mark: str, count: int) -> None:
        self._start, self._count = b"\0" + mark.encode(), count
        self._mark = re.compile(re.escape(self._start) + rb":(\d{1,10})\x00")
        self._unread = b""
        self._kept: Dict[int, Clipped] = {}
        self._current = -1
        self._room = _ALL_CALLS

    def add(self, chunk: bytes) -> bytes:
        """Take a chunk in; what of it is for the log, which needs no marks."""
        text, self._unread = self._unread + chunk, b""
        pieces = self._mark.split(text)
        last = pieces[-1]
        begun = last.rfind(b"\0")
        rest = last[begun:] if begun >= 0 else b" "
        # The rest of a mark may be in the next chunk. A call may write what is none, without end.
        may_be_one = self._start.startswith(rest) or rest.startswith(self._start)
        if may_be_one and len(rest) <= len(self._start) + _DIGITS:
            pieces[-1], self._unread = last[:begun], rest
        for number, piece in enumerate(pieces):
            if number % 2:
                self._current = int(piece)
            else:
                self._keep(piece)
        return b"".join(pieces[::2])

    def texts(self) -> Dict[int, str]:
        """What each call wrote, as far as it wrote anything."""
        return {number: kept.text() for number, kept in self._kept.items()}

    def _keep(self, piece: bytes) -> None:
        if piece and self._room > 0 and self._current < self._count:
            self._room -= len(piece)
            kept = self._kept.setdefault(self._current, Clipped(_CALL_HEAD, _CALL_TAIL))
            kept.add(piece)


class Stream:
    """The reading end of one pipe, and what came out of it."""

    def __init__(self) -> None:
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)
        self._kept = Clipped()
        self._split: Optional[Split] = None

    def split_at(self, mark: str, count: int) -> Split:
        """Tell the output of a batch's calls apart from now on; see `Split`."""
        self._split = Split(mark, count)
        return self._split

    @property
    def text(self) -> str:
        """What was read so far."""
        return self._kept.text()

    def take(self) -> bool:
        """Read one chunk; whether there was one."""
        try:
            chunk = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return False
        read = len(chunk)
        if self._split is not None:
            chunk = self._split.add(chunk)
        self._kept.add(chunk)
        with contextlib.suppress(OSError):  # a log that cannot be written must not stop the task
            channels.write_all(LOG, chunk)
        return read > 0

    def drain(self) -> None:
        """Read what is there, and no more: somebody may go on writing for ever."""
        for _ in range(_LAST_CHUNKS):
            if not self.take():
                return

    def close(self) -> None:
        """Close the reading end."""
        os.close(self.fd)
