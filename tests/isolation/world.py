"""What an electron can see of the world that another one could have changed.

`seen` runs in the function, pickled by value, so it imports what it needs itself.
"""

from __future__ import annotations

from typing import Any


def seen(word: str) -> dict[str, Any]:
    """All of it, in a form that is equal in each new process.

    Args:
        word: in the name of whatever the electrons before left in files and processes.
    """
    import atexit
    import builtins
    import contextlib
    import decimal
    import gc
    import json
    import locale
    import logging
    import os
    import random
    import resource
    import signal
    import socket
    import subprocess
    import sys
    import threading
    import time
    import warnings
    import zlib
    from pathlib import Path

    import cloudpickle

    print("seen")
    found: dict[str, Any] = {}
    own = os.environ["HOME"]

    def told(value: Any) -> str:
        return str(value).replace(own, "OWN")

    found["environment"] = {k: told(v) for k, v in sorted(os.environ.items())}
    found["place"] = told(os.getcwd()), sorted(os.listdir(".")), told(sys.path)
    found["limits"] = [
        resource.getrlimit(getattr(resource, x)) for x in dir(resource) if x[:7] == "RLIMIT_"
    ]
    found["priority"] = (
        os.getpriority(os.PRIO_PROCESS, 0),
        sorted(os.sched_getaffinity(0)),
        os.sched_getscheduler(0),
    )
    mask = os.umask(0)
    os.umask(mask)
    found["umask"] = mask
    found["signals"] = {
        int(x): str(signal.getsignal(x)).split(" at ")[0]
        for x in signal.valid_signals()
        if x != signal.SIGUSR1  # by which a task is stopped
    }
    found["masked"] = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    found["pending"] = sorted(map(int, signal.sigpending()))
    found["timers"] = [signal.getitimer(x) for x in (0, 1, 2)]
    found["wakeup"] = signal.set_wakeup_fd(-1)
    found["interpreter"] = (
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        gc.isenabled(),
        gc.get_threshold(),
        sys.gettrace() is None,
        sys.getprofile() is None,
        sys.excepthook is sys.__excepthook__,
        sys.displayhook is sys.__displayhook__,
        getattr(sys, "get_int_max_str_digits", int)(),
        sys.dont_write_bytecode,
        [type(x).__name__ if not isinstance(x, type) else x.__name__ for x in sys.meta_path],
        atexit._ncallbacks(),  # type: ignore[attr-defined]
    )
    found["threads"] = threading.active_count(), len(os.listdir("/proc/self/task"))
    found["hooks"] = threading.excepthook.__module__, threading.excepthook.__name__
    found["descriptors"] = sorted(
        (int(x), os.readlink(f"/proc/self/fd/{x}").split(":")[0][:10])
        for x in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{x}")
    )
    found["streams"] = [
        (x.name, x.mode, x.encoding, x.errors, x.closed, x.fileno(), type(x).__name__)
        for x in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        if x is not None
    ]
    found["input"] = sys.stdin.read()
    found["decimal"] = str(decimal.getcontext()), str(decimal.DefaultContext)
    found["warnings"] = str(warnings.filters)
    found["locale"] = locale.setlocale(locale.LC_ALL), time.tzname, socket.getdefaulttimeout()
    found["logging"] = (
        str(logging.root),
        str(logging.root.handlers),
        logging.raiseExceptions,
        logging.root.manager.disable,
        word in logging.root.manager.loggerDict,
    )
    found["builtins"] = (
        print.__module__,
        len.__module__,
        hasattr(builtins, word),
        type(open).__name__,
        json.dumps.__module__,
        json.loads("[1]"),
        cloudpickle.dumps.__module__,
        isinstance(__import__, type(len)),
        word in sys.modules,
        hasattr(os, word),
    )
    found["group"] = os.getpgid(0) == os.getpid() == os.getsid(0)
    found["name"] = Path("/proc/self/comm").read_text()
    found["personality"] = Path("/proc/self/personality").read_text()
    found["traced"] = [
        x
        for x in Path("/proc/self/status").read_text().splitlines()
        if x.startswith(("Tracer", "NoNew"))
    ]
    # Not named whole, else the function would import it beforehand.
    boto = sys.modules.get("".join(["bo", "to3"]))
    found["session"] = getattr(boto, "DEFAULT_SESSION", None)
    found["seeded"] = random.random() == random.Random(1).random()
    found["children"] = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    processes = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if word.encode() in line and b"left" in line:
                    processes.append(line.decode())
    found["processes"] = processes
    with open("/proc/net/unix") as file:
        found["sockets"] = [line.split()[-1] for line in file if word in line]
    found["system v"] = []
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):  # a kernel without them
            lines = Path("/proc/sysvipc", kind).read_text().splitlines()[1:]
            keys = [int(line.split()[0]) for line in lines]
            found["system v"] += [kind] * keys.count(zlib.crc32(word.encode()) & 0x7FFFFFFF)
    folders = [
        "/dev/mqueue",
        "/dev/shm",
        "/var/tmp",
        "/tmp",
        os.path.dirname(os.path.dirname(own)),
    ]
    found["files"] = sorted(
        os.path.basename(file)
        for folder in folders
        if os.path.isdir(folder)
        for file in os.listdir(folder)
        if word in file
    )
    found["tasks"] = len(os.listdir(os.path.dirname(own)))
    found["subprocess"] = subprocess.run(
        ["sh", "-c", "echo works; cat"], capture_output=True, text=True
    ).stdout
    found["exit"] = os.WEXITSTATUS(_forked())
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        found["more children"] = True
    return found


def _forked() -> int:
    import os

    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitpid(child, 0)[1]
