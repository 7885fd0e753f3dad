"""Resident memory of this process, or of another, as Linux counts it."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_EVERY = 0.05  # seconds


def now() -> int:
    """Resident bytes."""
    return _status("VmRSS")


def peak(process: int | str = "self") -> int:
    """The most resident bytes since the process began, or since `reset_peak`."""
    return _status("VmHWM", process)


def reset_peak() -> int:
    """Begin to look for the peak anew; the resident bytes now."""
    Path("/proc/self/clear_refs").write_text("5")
    return now()


def _status(name: str, process: int | str = "self") -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


class SharedPeak:
    """The most that this process and its descendants had at a time, as sampled from time to time.

    What several of them share counts once (Linux's PSS), and so do files without a name, which
    lie in memory whether or not anybody has mapped them.
    """

    def __init__(self) -> None:
        self._most = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> int:
        """Begin to look; the bytes now."""
        self._most = now_together = _together()
        self._ended.clear()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return now_together

    def end(self) -> int:
        """The most bytes since `begin`."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        return self._most

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            self._most = max(self._most, _together())


def _together() -> int:
    files: dict[int, int] = {}
    total = 0
    for process in _family(os.getpid()):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            sizes = dict(line.split(":") for line in rollup.splitlines() if line[0].isupper())
            total += 1024 * int(sizes["Pss"].split()[0])
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(entry).startswith("/memfd:"):
                        about = entry.stat()
                        files[about.st_ino] = 512 * about.st_blocks
    return total + sum(files.values())


def _family(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
