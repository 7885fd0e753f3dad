"""Starts, watches and ends other programs, by process id and never by name.

Every program gets a session of its own, so that Ctrl-C in the terminal reaches only this process,
which then ends the others in order; ending one ends its whole process tree.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from sandbox.errors import SandboxError

TAIL_LINES = 25
GRACE_SECONDS = 5.0

# psutil derives a process's start time from a clock that may be adjusted between two readings.
_SAME_START_SECONDS = 2.0

# The programs that this very process started, so that their exit status can be collected, and
# their logs.
_started_here: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}

_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Interrupted(BaseException):
    """SIGTERM or SIGHUP arrived. Like KeyboardInterrupt, not for `except Exception`."""


@dataclass(frozen=True)
class Child:
    """A running program, in a form that survives being written to a file.

    A process id is given to another program sooner or later, at the latest after a reboot; with
    its start time it names one process for good.
    """

    name: str
    pid: int
    started: float
    log: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @property
    def process(self) -> psutil.Process | None:
        """The process, as long as it is listed; it may have ended already."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_SECONDS
            return process if same else None
        except psutil.NoSuchProcess:
            return None

    def is_running(self) -> bool:
        """Tell whether the program still runs."""
        process = self.process
        return process is not None and _runs(process)


def start(
    name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
) -> Child:
    """Start a program in its own session, its output going to the file `log`.

    Raises:
        SandboxError: when the program cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    popen = _popen(name, command, env=env, cwd=cwd, log=log)
    try:
        started = psutil.Process(popen.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    return Child(name=name, pid=popen.pid, started=started, log=str(log))


def run(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    seconds: float,
) -> str:
    """Run a program to its end and return what it printed, standard error included.

    Raises:
        SandboxError: when it cannot be executed, fails, or takes longer than `seconds`. The
            message ends with the last lines that it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    popen = _popen(name, command, env=env, cwd=cwd, log=log)
    try:
        code = popen.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(popen)
        raise SandboxError(_with_tail(f"{name} took longer than {seconds:.0f} s", log)) from None
    except BaseException:
        _end(popen)
        raise
    _started_here.pop(popen.pid, None)
    if code != 0:
        raise SandboxError(_with_tail(f"{name} failed (exit code {code})", log))
    return log.read_text(encoding="utf-8", errors="replace")


def wait_until_ready(child: Child, ready: Callable[[], bool], *, seconds: float) -> None:
    """Wait until `ready` returns True; end the program when that is not to be.

    Raises:
        SandboxError: when the program ends first, or is not ready after `seconds`. The message
            holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    try:
        while not ready():
            if not child.is_running():
                message = f"{child.name} ended while starting"
                raise SandboxError(_with_tail(message, Path(child.log)))
            if time.monotonic() > deadline:
                message = f"{child.name} was not ready after {seconds:.0f} s"
                raise SandboxError(_with_tail(message, Path(child.log)))
            time.sleep(0.05)
    except BaseException:
        stop(child)
        raise


def stop(child: Child, *, grace: float = GRACE_SECONDS) -> None:
    """End a program and everything that it started, also when the program itself has ended."""
    if child.is_running():
        end_tree(child.pid, grace=grace)
    elif child.process or _id_is_unused(child):
        # No new process gets the id of a session that still has members: these are its own.
        _kill(_session_of(child.pid))
    else:
        return
    if child.pid in _started_here:
        popen, _ = _started_here.pop(child.pid)
        popen.wait()


def _id_is_unused(child: Child) -> bool:
    return not psutil.pid_exists(child.pid) and psutil.boot_time() <= child.started


def stop_all(folder: Path) -> None:
    """End what this process started with a log in `folder`, and has not ended yet."""
    for popen, log in list(_started_here.values()):
        if log.is_relative_to(folder):
            _end(popen)


def end_tree(pid: int, *, grace: float = GRACE_SECONDS) -> None:
    """Ask a process to end, wait up to `grace` seconds, then kill what is left of its tree."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        root.terminate()
    running_after(grace, tree[:1])
    # What the first process started meanwhile is found by its session, which is still the child's.
    _kill([*tree, *_session_of(pid)])


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, without terminal colours and blank lines."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    kept = [line.rstrip() for line in _TERMINAL_COLOUR.sub("", text).splitlines()]
    return "\n".join([line for line in kept if line][-lines:])


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_or_free(wanted: int | None, what: str, setting: str) -> int:
    """Return `wanted` if it can be used, or any free port when it is None.

    Raises:
        SandboxError: when `wanted` is in use; `setting` names the variable that set it.
    """
    if wanted is None:
        return free_port()
    if can_bind("127.0.0.1", wanted):
        return wanted
    raise SandboxError(
        f"port {wanted}, asked for with {setting}={wanted}, is in use: {what} needs another one; "
        f"leave {setting} out and a free port is taken"
    )


def can_bind(address: str, port: int) -> bool:
    """Tell whether a server could listen on this address and port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Interrupted`, so that every `finally` runs."""

    def interrupt(number: int, _frame: object) -> None:
        for other in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(other, signal.SIG_IGN)  # nothing may interrupt the cleaning up
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted(signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _popen(
    name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        try:
            popen = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{name} cannot be started: {error}") from error
    _started_here[popen.pid] = popen, log
    return popen


def _end(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is None:
        end_tree(popen.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(timeout=GRACE_SECONDS)
    _started_here.pop(popen.pid, None)


def _kill(processes: list[psutil.Process]) -> None:
    for process in running_after(0.1, processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    running_after(GRACE_SECONDS, processes)


def running_after(seconds: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait until these have ended, but no longer; return those that have not.

    psutil's own wait goes on until they are listed no more, which may take seconds: until their
    parent, or the system's first process in its place, takes note.
    """
    deadline = time.monotonic() + seconds
    while True:
        running = [process for process in processes if _runs(process)]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session_of(pid: int) -> list[psutil.Process]:
    """List the live processes of the session that `pid` leads."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if process.pid != os.getpid() and os.getsid(process.pid) == pid:
                found.append(process)
    return found


def _with_tail(message: str, log: Path) -> str:
    end = tail(log)
    return f"{message}; the end of {log}:\n{end}" if end else f"{message} (nothing in {log})"
