"""The code of the calls, and the ledger in which each of them notes that it runs.

Pickled by value: the function has no module of this name.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

HARMS = (
    "kills its process",
    "kills its process in the end",
    "kills its fork server",
    "kills the handler",
    "ends its process",
    "fills the memory",
    "fills /tmp",
)


class Data(bytes):
    """Bytes that are not shown: Covalent names the node of an argument by all that it shows."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"

    __str__ = __repr__


def worked(
    number: int,
    ledger: str,
    seconds: float = 0.0,
    data: bytes = b"",
    size: int = 0,
    harm: str = "",
) -> object:
    """Note that call `number` runs, take some time, and return what only it returns.

    Args:
        number: the call's.
        ledger: begins the names of its files.
        seconds: that it takes.
        data: an argument of some size.
        size: characters that it returns beside.
        harm: what it does to its process or to its environment, one of `HARMS`.
    """
    import os
    import signal
    import sys
    import tempfile
    import time

    def note(name: str) -> None:
        # One write of a few bytes at the end of a file is never torn, whoever writes beside it.
        fd = os.open(f"{ledger}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, f"{number}\n".encode())
        os.close(fd)

    def parent(pid: int) -> int:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])

    def kill(pid: int) -> None:
        note("harmed")
        os.kill(pid, signal.SIGKILL)
        time.sleep(20)

    class Deadly:
        def flush(self) -> None:
            kill(own)

    note("begun")
    if seconds:
        time.sleep(seconds)
    own = os.getpid()
    if harm == "kills its process":
        kill(own)
    elif harm == "kills its process in the end":
        sys.stdout = Deadly()  # type: ignore[assignment]  # flushed once there is an answer
    elif harm == "kills its fork server":
        kill(parent(own))
    elif harm == "kills the handler":
        family = [own]
        while family[-1] != int(os.environ["HANDLER"]):
            family.append(parent(family[-1]))
        kill(family[-1])
    elif harm == "ends its process":
        note("harmed")
        os._exit(3)
    elif harm == "fills the memory":
        note("harmed")
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20)))
    elif harm == "fills /tmp":
        note("harmed")
        with open(tempfile.mkstemp()[1], "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    value = (number, number * number + len(data), "x" * size)
    note("ended")
    return value


def expected(number: int, data: bytes = b"", size: int = 0) -> object:
    """What `worked` returns."""
    return (number, number * number + len(data), "x" * size)


class Ledger:
    """How often each call's code really ran, whatever the caller was told.

    Args:
        path: begins the names of its files.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def begun(self) -> Counter[int]:
        """How often the code of each call has begun."""
        return self._read("begun")

    def ended(self) -> Counter[int]:
        """How often it has come to its end."""
        return self._read("ended")

    def harmed(self) -> Counter[int]:
        """How often the code of each call has begun to do its harm."""
        return self._read("harmed")

    def _read(self, name: str) -> Counter[int]:
        file = Path(f"{self.path}.{name}")
        return Counter(map(int, file.read_text().split())) if file.exists() else Counter()
