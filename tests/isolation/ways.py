"""Ways for an electron to leave something behind, or to take something along.

Each runs in the function, pickled by value, so it imports what it needs itself. `WORD` is in the
name of whatever it leaves, so that the electron after it can look for it.
"""

from __future__ import annotations

from typing import Any, Callable  # noqa: UP035 - Python 3.8 subscripts no other

WORD = "left_by_an_electron"

Way = Callable[[], Any]
WAYS: dict[str, tuple[Way, str]] = {}


def way(ends: str = "") -> Callable[[Way], Way]:
    """Register a way; `ends`: the kind of failure it ends with."""

    def register(function: Way) -> Way:
        WAYS[function.__name__] = function, ends
        return function

    return register


# -- signals and timers --------------------------------------------------------------------------


@way()
def alarm_pending() -> None:
    import signal

    signal.alarm(1)


@way()
def interval_timer() -> None:
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


@way()
def signal_handlers() -> None:
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


@way()
def signals_masked() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


@way()
def wakeup_descriptor() -> None:
    import os
    import signal

    _, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)


# -- the interpreter -----------------------------------------------------------------------------


@way()
def search_path() -> None:
    import sys

    sys.path.insert(0, "/left_by_an_electron")
    sys.meta_path.clear()


@way()
def interpreter_settings() -> None:
    import gc
    import sys

    sys.setrecursionlimit(90)
    sys.setswitchinterval(1.5)
    gc.disable()
    gc.set_threshold(1, 1, 1)


@way()
def trace_and_profile() -> None:
    import sys

    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)


@way()
def hooks_of_sys() -> None:
    import sys
    import threading

    sys.excepthook = sys.displayhook = threading.excepthook = lambda *_: None


@way()
def decimal_context() -> None:
    import decimal

    decimal.getcontext().prec = 2
    decimal.DefaultContext.prec = 2
    decimal.setcontext(decimal.Context(prec=3))


@way()
def warning_filters() -> None:
    import warnings

    warnings.simplefilter("error")


@way()
def locale_and_time_zone() -> None:
    import locale
    import os
    import socket
    import time

    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    socket.setdefaulttimeout(0.001)


@way()
def at_exit() -> None:
    import atexit

    atexit.register(print, "left_by_an_electron")


@way()
def loggers() -> None:
    import logging

    logging.basicConfig(level=1, force=True)
    logging.getLogger("left_by_an_electron").setLevel(1)
    logging.disable(logging.CRITICAL)
    logging.raiseExceptions = False


@way()
def builtins_patched() -> None:
    import builtins

    builtins.left_by_an_electron = 1  # type: ignore[attr-defined]
    builtins.len = lambda *_: 0  # type: ignore[assignment]
    builtins.open = None  # type: ignore[assignment]


@way()
def import_patched() -> None:
    import builtins

    builtins.__import__ = None  # type: ignore[assignment]


@way()
def json_patched() -> None:
    import json

    json.loads = json.dumps = lambda *_, **__: "left_by_an_electron"


@way()
def cloudpickle_patched() -> None:
    import pickle

    import cloudpickle

    cloudpickle.loads = cloudpickle.dumps = pickle.loads = pickle.dumps = None


@way()
def os_patched() -> None:
    import os

    os.left_by_an_electron = 1  # type: ignore[attr-defined]
    os.path.exists = lambda _: True
    os.listdir = os.getpid = lambda *_: []  # type: ignore[assignment,misc,return-value]


@way()
def modules_patched() -> None:
    import sys
    import types

    sys.modules["left_by_an_electron"] = types.ModuleType("left_by_an_electron")
    for name in ("json", "decimal", "random", "signal", "wire", "app", "task_child"):
        sys.modules.pop(name, None)


@way()
def random_numbers() -> None:
    import random

    random.seed(1)  # the first number after that is one that `world` knows


@way()
def threads_left() -> None:
    import threading
    import time

    for daemon in (True, False):
        for _ in range(20):
            threading.Thread(target=time.sleep, args=(100,), daemon=daemon).start()


@way()
def default_session_of_boto() -> None:
    import sys
    import types

    # Not named whole, else the function would import it beforehand.
    name = "".join(["bo", "to3"])
    fake = types.ModuleType(name)
    fake.client = None  # type: ignore[attr-defined]
    fake.DEFAULT_SESSION = "left_by_an_electron"  # type: ignore[attr-defined]
    sys.modules[name] = fake


# -- the process ---------------------------------------------------------------------------------


@way()
def environment_changed() -> None:
    import os

    os.environ["AWS_ENDPOINT_URL"] = "http://left_by_an_electron"
    os.environ["LD_PRELOAD"] = "/left_by_an_electron"
    del os.environ["PATH"]


@way()
def environment_cleared() -> None:
    import os

    os.environ.clear()


@way()
def mask_of_files() -> None:
    import os

    os.umask(0o777)


@way()
def limits_lowered() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@way()
def priority_lowered() -> None:
    import os

    os.nice(19)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@way()
def working_folder_elsewhere() -> None:
    import os

    os.chdir("/")


@way()
def working_folder_removed() -> None:
    import os

    os.makedirs("deep/er")
    os.chdir("deep/er")
    os.rmdir("../er")


@way()
def session_and_name() -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(15, b"left_by_elect", 0, 0, 0)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
    libc.prctl(36, 1, 0, 0, 0)  # a subreaper
    libc.personality(0x0040000)  # no address space randomization


# -- descriptors and streams ---------------------------------------------------------------------


@way()
def descriptors_used_up() -> int:
    import os

    taken = 0
    try:
        while True:
            os.dup(0)
            taken += 1
    except OSError:
        os.closerange(os.dup2(0, 40), 60)  # leaves room for the answer
    return taken


@way("crashed")
def descriptors_closed() -> None:
    import os

    os.closerange(0, 4096)


@way()
def standard_streams_closed() -> None:
    import os

    for fd in (0, 1, 2):
        os.close(fd)


@way()
def stdin_closed() -> None:
    import sys

    sys.stdin.close()


@way()
def stdout_replaced() -> None:
    import io
    import sys

    sys.stdout = sys.__stdout__ = io.StringIO()
    sys.stderr = None  # type: ignore[assignment]


@way()
def stdout_detached() -> None:
    import sys

    sys.stdout.detach()
    sys.stderr.detach()


@way()
def stdout_reconfigured() -> None:
    import sys

    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
    sys.stdout.close()


@way()
def printed_by_c() -> None:
    import ctypes

    ctypes.CDLL(None).printf(b"left_by_an_electron")


@way()
def inherited_socket() -> None:
    import os
    import socket
    import subprocess

    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0left_by_an_electron-{os.getpid()}")  # a name that is no file
    server.listen()
    server.set_inheritable(True)
    subprocess.Popen(
        ["sh", "-c", "sleep 100; : left_by_an_electron"], close_fds=False, start_new_session=True
    )


# -- processes -----------------------------------------------------------------------------------


@way()
def process_in_the_background() -> None:
    import subprocess

    subprocess.Popen(["sh", "-c", "sleep 100; : left_by_an_electron"])


@way()
def process_in_its_own_session() -> None:
    import subprocess

    subprocess.Popen(["sh", "-c", "sleep 100; : left_by_an_electron"], start_new_session=True)


@way()
def double_fork() -> None:
    import os

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sh", ["sh", "-c", "sleep 100; : left_by_an_electron"])
        os._exit(0)
    os.wait()


@way()
def process_that_ignores_signals() -> None:
    import subprocess

    command = "trap '' TERM HUP INT; while :; do sleep 1; done; : left_by_an_electron"
    subprocess.Popen(["setsid", "sh", "-c", command])


@way()
def process_that_goes_on_printing() -> None:
    import subprocess
    import time

    subprocess.Popen(["setsid", "sh", "-c", "while :; do echo x; done; : left_by_an_electron"])
    time.sleep(0.1)


@way()
def stopped_process() -> None:
    import os
    import signal
    import subprocess

    left = subprocess.Popen(["sh", "-c", "sleep 100; : left_by_an_electron"])
    os.kill(left.pid, signal.SIGSTOP)


@way()
def zombies() -> None:
    import os

    for _ in range(50):
        if os.fork() == 0:
            os._exit(0)


@way()
def wait_for_every_child() -> None:
    import os

    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


@way()
def exit_in_a_forked_child() -> str:
    import os
    import sys

    if os.fork() == 0:
        sys.exit(3)
    assert os.WEXITSTATUS(os.wait()[1]) == 3
    return "the parent's"


@way()
def return_in_a_forked_child() -> str:
    import os

    if os.fork() == 0:
        return "the child's"
    assert os.WEXITSTATUS(os.wait()[1]) == 0
    return "the parent's"


@way()
def raise_in_a_forked_child() -> str:
    import os

    if os.fork() == 0:
        raise ValueError("the child's")
    assert os.WEXITSTATUS(os.wait()[1]) == 1
    return "the parent's"


@way("exit")
def exit_by_sys() -> None:
    import sys

    sys.exit(3)


@way("crashed")
def exit_at_once() -> None:
    import os

    os._exit(3)


@way("crashed")
def exit_as_if_well() -> None:
    import os

    os._exit(0)


@way("crashed")
def segmentation_fault() -> None:
    import ctypes

    ctypes.string_at(0)


@way("crashed")
def abort() -> None:
    import os

    os.abort()


@way("crashed")
def kill_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


@way("crashed")
def kill_its_group() -> None:
    import os
    import signal

    os.killpg(0, signal.SIGTERM)


@way("crashed")
def kill_its_parent() -> None:
    import os
    import signal
    import time

    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(10)


@way()
def stop_its_parent() -> None:
    import os
    import signal

    os.kill(os.getppid(), signal.SIGSTOP)


def siblings() -> list[int]:
    """The other processes that this one's fork server has forked, by id."""
    import os

    with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as file:
        return [x for x in map(int, file.read().split()) if x != os.getpid()]


def sent_to_siblings(number: int) -> set[int]:
    """Send a signal to the process that is forked for the next electron, while this one runs; the
    ids of those that got it."""
    import os
    import time

    found: set[int] = set()
    while not found:
        time.sleep(0.01)
        found = set(siblings())
    for sibling in found:
        os.kill(sibling, number)
    return found


@way()
def stop_its_siblings() -> None:
    import signal

    sent_to_siblings(signal.SIGSTOP)


@way()
def kill_its_siblings() -> None:
    import signal
    import time

    killed = sent_to_siblings(signal.SIGKILL)
    while killed & set(siblings()):  # until it has ended: on a busy machine it may take a task yet
        time.sleep(0.01)


@way()
def trace_its_parent() -> None:
    import ctypes
    import os
    import re

    with open("/proc/self/status") as file:
        rights = re.findall(r"CapEff:\s+(\w+)", file.read())
    is_root = bool(int(rights[0], 16) & 1 << 19)  # CAP_SYS_PTRACE, which Lambda gives nobody
    attached = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0
    assert attached == is_root, (attached, is_root)
    if attached:
        os.waitpid(os.getppid(), 0)  # it is stopped by now, until this process ends


# -- files ---------------------------------------------------------------------------------------


@way()
def files_at_home() -> None:
    import pathlib

    pathlib.Path("left_by_an_electron").write_text("x")
    (pathlib.Path.home() / ".config").mkdir()


@way()
def files_in_a_temporary_folder() -> None:
    import tempfile

    open(tempfile.mkstemp("left_by_an_electron")[1], "w").close()
    tempfile.mkdtemp("left_by_an_electron")


@way()
def folder_without_permissions() -> None:
    import os

    os.makedirs("a/b/c")
    os.chmod("a/b/c", 0)
    os.chmod("a/b", 0)


@way()
def folders_without_end() -> None:
    import os

    for _ in range(3000):
        os.mkdir("left_by_an_electron")
        os.chdir("left_by_an_electron")


@way()
def large_file() -> None:
    import os

    with open("large", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2_000_000_000)


@way()
def own_folder_removed() -> None:
    import os
    import shutil

    shutil.rmtree(os.environ["HOME"])


@way()
def folder_of_all_tasks_removed() -> None:
    import os
    import shutil

    shutil.rmtree(os.path.dirname(os.environ["HOME"]))


@way()
def folder_of_all_tasks_replaced() -> None:
    import os
    import shutil

    tasks = os.path.dirname(os.environ["HOME"])
    for name in ("tasks", "home", "blobs", "packages"):
        path = os.path.join(os.path.dirname(tasks), name)
        shutil.rmtree(path)
        open(path, "w").close()


@way()
def folder_of_all_tasks_barred() -> None:
    import os

    tasks = os.path.dirname(os.environ["HOME"])
    for name in ("tasks", "home", "blobs", "packages", ""):
        os.chmod(os.path.join(os.path.dirname(tasks), name), 0)


@way()
def files_beside_its_own_folder() -> None:
    import os

    for place in ("..", "../.."):
        os.makedirs(f"{place}/folder_left_by_an_electron/deep")
        open(f"{place}/left_by_an_electron", "w").close()


@way()
def folders_of_tasks_to_come() -> None:
    import os

    own = int(os.path.basename(os.environ["HOME"]))
    for number in range(own + 1, own + 9):
        os.makedirs(f"../{number}/left_by_an_electron")


@way()
def packages_installed() -> None:
    import os
    import pathlib

    target = pathlib.Path(os.environ["PIP_TARGET"])
    (target / "left_by_an_electron.py").write_text("")
    (target / "json.py").write_text("raise SystemExit")


def files_open_to_all() -> int:
    import contextlib
    import os

    made = 0
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        with contextlib.suppress(OSError):
            os.makedirs(os.path.join(folder, "folder_left_by_an_electron", "deep"))
            open(os.path.join(folder, "left_by_an_electron"), "w").close()
            made += 1
    return made


def objects_of_system_v() -> None:
    import ctypes
    import zlib

    libc, key = ctypes.CDLL(None), zlib.crc32(b"left_by_an_electron") & 0x7FFFFFFF
    for name in (key, 0):  # 0: of no name
        made = (
            libc.shmget(name, 4096, 0o1600),
            libc.semget(name, 1, 0o1600),
            libc.msgget(name, 0o1600),
        )
        assert min(made) >= 0, made


def message_queue_of_posix() -> None:
    import ctypes
    import os

    made = ctypes.CDLL(None).mq_open(b"/left_by_an_electron", os.O_CREAT | os.O_RDWR, 0o600, None)
    assert made >= 0, os.path.exists("/dev/mqueue")


# On a laptop others have such things, too, so that nothing is removed there.
IN_A_CONTAINER = {
    **WAYS,
    "files_open_to_all": (files_open_to_all, ""),
    "objects_of_system_v": (objects_of_system_v, ""),
    "message_queue_of_posix": (message_queue_of_posix, ""),
}
