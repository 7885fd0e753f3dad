"""System V's shared memory, semaphores and message queues, which outlive whoever made them.

They are no files. The kernel lists them in /proc/sysvipc, one a line, below a line of titles.
"""

import contextlib
import ctypes
from typing import Set

import task_channel as channels

_LISTS = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")
_IPC_RMID = 0


def found() -> Set[str]:
    """What there is, each named by the path of its list and its id."""
    there: Set[str] = set()
    for path in _LISTS:
        with contextlib.suppress(OSError):  # a kernel built without them
            for line in channels.read_file(path).splitlines()[1:]:
                there.add(f"{path}/{line.split()[1].decode()}")
    return there


def remove(name: str) -> None:
    """Remove what `found` has named; nothing happens if it has gone, or is another user's."""
    path, _, number = name.rpartition("/")
    libc, which = ctypes.CDLL(None), int(number)
    if path.endswith("shm"):
        libc.shmctl(which, _IPC_RMID, None)
    elif path.endswith("sem"):
        libc.semctl(which, 0, _IPC_RMID)
    else:
        libc.msgctl(which, _IPC_RMID, None)
