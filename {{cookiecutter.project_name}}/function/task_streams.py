"""What a task writes to file descriptors 1 and 2, as the parent reads it from two pipes.

fd 1 of the task ──pipe──┐           ┌──► Clipped (head and tail, for the response)
                         ├── Stream ─┤
fd 2 of the task ──pipe──┘           └──► the log (CloudWatch), whole
"""

import contextlib
import os

import task_channel as channels

HEAD = 64 * 1024  # bytes kept from the start of each stream
TAIL = 192 * 1024  # and from its end
LOG = 2  # Lambda sends both streams there; descriptor 1 is a local worker's way to answer
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


class Stream:
    """The reading end of one pipe, and what came out of it."""

    def __init__(self) -> None:
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)
        self._kept = Clipped()

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
        self._kept.add(chunk)
        with contextlib.suppress(OSError):  # a log that cannot be written must not stop the task
            channels.write_all(LOG, chunk)
        return bool(chunk)

    def drain(self) -> None:
        """Read what is there, and no more: somebody may go on writing for ever."""
        for _ in range(_LAST_CHUNKS):
            if not self.take():
                return

    def close(self) -> None:
        """Close the reading end."""
        os.close(self.fd)
