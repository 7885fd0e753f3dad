"""The code of the calls, and the ledger in which each of them notes that it runs.

Pickled by value: the function has no module of this name.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path


def worked(
    number: int, ledger: str, seconds: float = 0.0, data: bytes = b"", size: int = 0
) -> object:
    """Note that call `number` runs, take some time, and return what only it returns."""
    import os
    import time

    def note(name: str) -> None:
        # One write of a few bytes at the end of a file is never torn, whoever writes beside it.
        fd = os.open(f"{ledger}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, f"{number}\n".encode())
        os.close(fd)

    note("begun")
    if seconds:
        time.sleep(seconds)
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

    def _read(self, name: str) -> Counter[int]:
        file = Path(f"{self.path}.{name}")
        return Counter(map(int, file.read_text().split())) if file.exists() else Counter()
