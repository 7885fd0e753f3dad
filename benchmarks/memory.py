"""Resident memory of this process, or of another, as Linux counts it."""

from pathlib import Path


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
