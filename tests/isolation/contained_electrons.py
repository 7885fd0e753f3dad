"""Electrons of test_contained.py, which lie in the container and are pickled by name."""

from __future__ import annotations


def hoards() -> None:
    print("begun", end="")
    hoard = []
    while True:
        hoard.append(b"x" * 10_000_000)


def fork_server() -> int:
    import os

    return os.getppid()


def kills_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def attack(least: int) -> dict[str, str]:
    """Try to get at the memory of every other process of this user; what came of it.

    The next electron's process is forked while this one runs, so it may not be there at once:
    `least` are waited for.
    """
    import ctypes
    import os
    import time

    libc = ctypes.CDLL(None, use_errno=True)
    tried: dict[str, str] = {}
    until = time.monotonic() + 10
    while len(tried) < least and time.monotonic() < until:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    runs_python = b"python" in file.read().split(b"\0")[0]
            except OSError:  # a process that was not needed, and has ended since
                continue
            if int(name) == os.getpid() or not runs_python:
                continue
            said = []
            if libc.ptrace(16, int(name), 0, 0) == 0:  # attach
                said.append("traced")
            for what in ("mem", "environ"):
                try:
                    open(f"/proc/{name}/{what}", "rb").close()
                    said.append(f"opened {what}")
                except OSError:
                    pass
            if said or name not in tried:
                tried[name] = ", ".join(said) or "denied"
    return tried


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(x) for x in file.read().split()]


def _other_servers() -> list[int]:
    """The servers beside the one that this electron's process was forked from."""
    import os

    own = os.getppid()
    with open(f"/proc/{own}/stat") as file:
        root = int(file.read().rpartition(")")[2].split()[1])
    return [x for x in _children(root) if x != own]


def ends_what_others_hold_ready() -> int:
    """Stop the other servers and kill their processes, so that they learn of it later."""
    import os
    import signal

    killed = 0
    for server in _other_servers():
        os.kill(server, signal.SIGSTOP)
        for spare in _children(server):
            os.kill(spare, signal.SIGKILL)
            killed += 1
    return killed


def keeps_a_file() -> bool:
    """Whether a file in /tmp stays while other servers learn what has ended."""
    import os
    import signal
    import time

    with open("/tmp/kept", "w"):
        pass
    for server in _other_servers():
        os.kill(server, signal.SIGCONT)
    time.sleep(1)
    return os.path.exists("/tmp/kept")
