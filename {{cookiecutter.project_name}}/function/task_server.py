"""The fork server: a process with one thread that forks the processes electrons run in.

    parent (app.handler) ─► root ─┬─► plain server ──► spare, child of a task without packages
                                  │    imports what these need of the standard library
                                  ├─► warm server ───► spare, child of any other task
                                  │    imports what these need
                                  └─► child of a task that must not see what was imported

The parent has threads, for S3, and a process with threads must not fork. So the first server, the
root, is forked when app.py is imported, before there are any. It imports nothing for electrons,
so that it stays small and able to fork: a plain or warm server that breaks is replaced by another
branch.

Servers are subreapers: what an electron leaves behind, in whatever session, becomes their child.
When a task's process ends, all of that is killed, before the parent is told.

Orders come over a channel, each is answered by one message, in turn:

    {"do": "fork", "number": n} + 5 descriptors   {"pid": p}     a process for one task
    {"do": "branch"} + 1 descriptor               {"pid": p}     another server, like this one
    {"do": "import", "names": [...]}              {"threads": …} see task_modules.bring
    {"do": "prepare", "number": n} + 2 descriptors {"alone": …}  runs an initializer, which comes
                                                                 over the first; the second takes
                                                                 why it failed
    {"do": "drop", "number": n}                   {}             ends a process without a task
    {"do": "leave", "number": n}                                 once that process has ended, the
                                                                 files of tasks go; none runs
    {"do": "keep", "number": n}                   {}             to the root: what an initializer
                                                                 left in its folder, of that
                                                                 number, and in /tmp stays; null:
                                                                 no longer
    {"do": "signal", "pid": p, "number": n}                      to a server that it has branched,
                                                                 if nobody has waited for that
    {"do": "tidy"}                                {}             no task runs: removes the files of
                                                                 tasks whose servers have ended

Told without being asked, when a process that it forked has ended and every process that came of
it; and when, after "leave", no file of its task is left either:

    {"ended": p, "status": …, "peak": MB}         {"tidied": p}
"""

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import stat
import sys
import time
import traceback
import warnings
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Set, Tuple

import task_channel as channels
import task_child
import task_ipc
import task_modules

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IONBF = 2  # of glibc's setvbuf: no buffer
_SWEEP = 2.0  # seconds that ending what a task left behind may take
_SHARED = ("home", "tasks", "blobs", "packages")  # in an environment's own folder
# Where anybody may write in a container. POSIX's shared memory and semaphores lie in /dev/shm, its
# message queues in /dev/mqueue.
_OPEN_TO_ALL = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")


class Settings(NamedTuple):
    """What all servers of an environment know.

    Args:
        folder: the environment's own; all that its tasks write goes there.
        path: where modules of the image lie (`sys.path`).
        alone: whether what lies in /tmp can only be ours or our tasks', as in a container.
    """

    folder: str
    path: List[str]
    alone: bool

    def tasks(self) -> str:
        """The folder with one folder for each task."""
        return os.path.join(self.folder, "tasks")

    def home(self) -> str:
        """The servers' own home and working folder."""
        return os.path.join(self.folder, "home")

    def lay_out(self) -> None:
        """Have the folders that tasks share; what stands beside them, in their places, or bars
        them, goes.

        Tasks can write there, and the next one must find its place.
        """
        for name in ("", *_SHARED):
            path = os.path.join(self.folder, name) if name else self.folder
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                mode = 0
            if not stat.S_ISDIR(mode):
                remove(path)
                os.mkdir(path, 0o700)
            elif stat.S_IMODE(mode) != 0o700:
                os.chmod(path, 0o700)
        for entry in list(os.scandir(self.folder)):
            if entry.name not in _SHARED:
                remove(entry.path)


def become_root(control: socket.socket, settings: Settings) -> NoReturn:
    """Turn this process, just forked from the parent, into the root server."""
    control = channels.at(os.dup(control.fileno()))
    _forget_the_parent(control.fileno())
    home = settings.home()
    os.environ.update(HOME=home, TMPDIR=home, PIP_NO_CACHE_DIR="1", PIP_UPGRADE="1")
    os.chdir(home)
    sys.path[:] = settings.path  # the working folder is not among them: electrons can write there
    _Server(control, settings, _found(settings), root=True).serve()


def _forget_the_parent(kept: int) -> None:
    """Become as a fresh interpreter's process, but for the modules."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # in a local worker, the channel by which events come
    os.dup2(2, 1)
    channels.close_all_but({0, 1, 2, kept})
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError, TypeError):
            if signal.getsignal(number) not in (None, signal.SIG_DFL):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the laptop is the parent's matter
    logging.root.handlers[:] = []  # Lambda's runtime client puts one there
    logging.root.setLevel(logging.WARNING)
    warnings.resetwarnings()
    for category in (
        DeprecationWarning,
        PendingDeprecationWarning,
        ImportWarning,
        ResourceWarning,
    ):
        warnings.simplefilter("ignore", category, append=True)
    task_child.set_streams()
    libc = ctypes.CDLL(None)
    # What C prints is out at once, whatever ends a process, and in order with what Python prints.
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IONBF, 0)
    with contextlib.suppress(OSError):
        os.setsid()
    gc.disable()
    gc.freeze()


def _found(settings: Settings) -> Set[str]:
    """What lay in the folders open to all, or was in System V's lists, before the first task; it
    stays."""
    found = {settings.folder}
    if settings.alone:
        found |= task_ipc.found()
        for folder in _OPEN_TO_ALL:
            with contextlib.suppress(OSError):
                found.update(entry.path for entry in os.scandir(folder))
    return found


class _Server:
    """Serves one channel; the state is the processes it has forked."""

    def __init__(
        self,
        control: socket.socket,
        settings: Settings,
        found: Set[str],
        *,
        root: bool = False,
    ) -> None:
        self._control, self._settings, self._found = control, settings, found
        self._root = root
        self._kept: Set[str] = set()  # what an initializer has left, its own folder too
        self._tasks: Dict[int, str] = {}  # folder by process id
        self._ended: Dict[str, int] = {}  # processes whose folders may have to go, by folder
        self._leaving: Set[str] = set()  # folders that go when their process ends
        self._branches: Set[int] = set()
        self._known = frozenset(sys.modules)
        self._libc = ctypes.CDLL(None)
        self._woken = self._wake = -1

    def serve(self) -> NoReturn:
        """Follow orders until the channel is closed."""
        try:
            self._set_up()
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            poll.register(self._woken, select.POLLIN)
            while True:
                for fd, _ in poll.poll():
                    if fd == self._woken:
                        os.read(self._woken, 4096)
                        self._take_ended()
                    else:
                        self._follow(*channels.receive(self._control, channels.LARGEST))
        except channels.Closed:
            self._end()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _set_up(self) -> None:
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        task_child.set_readable(self._libc, False)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._listen_for_ends()

    def _listen_for_ends(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def _follow(self, order: Dict[str, Any], fds: List[int]) -> None:
        answer: Dict[str, Any]
        if order["do"] == "leave":
            self._leave(self._folder(order["number"]))
            return
        if order["do"] == "signal":
            self._signal(order["pid"], order["number"])
            return
        try:
            if order["do"] == "fork":
                answer = {"pid": self._fork(order["number"], fds)}
            elif order["do"] == "branch":
                answer = {"pid": self._branch(fds)}
            elif order["do"] == "drop":
                self._drop(self._folder(order["number"]))
                answer = {}
            elif order["do"] == "prepare":
                answer = self._prepare(order["number"], fds)
            elif order["do"] == "keep":
                self._kept = self._left_by(order["number"])
                answer = {}
            elif order["do"] == "tidy":
                self._tidy()
                answer = {}
            else:
                answer = task_modules.bring(order["names"])
                self._sweep()  # programs that a module has started
                self._known = frozenset(sys.modules)
                self._listen_for_ends()  # a module may have changed that
        except OSError as error:
            answer = {"error": str(error)}
        for fd in fds:
            os.close(fd)
        channels.send(self._control, answer)

    # -- forking ------------------------------------------------------------------------------

    def _fork(self, number: int, fds: List[int]) -> int:
        folder = self._folder(number)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child(server)
                task_child.serve(fds, folder, self._settings.path, self._known, self._libc)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self._tasks[pid] = folder
        return pid

    def _become_child(self, server: int) -> None:
        """What each task's process needs of its own, done before there is a task."""
        signal.set_wakeup_fd(-1)
        for fd in (self._control.detach(), self._woken, self._wake):
            os.close(fd)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != server:  # it ended before it could be waited for
            os._exit(1)

    def _branch(self, fds: List[int]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                control = channels.at(fds[0])
                channels.close_all_but({0, 1, 2, control.fileno()})
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                _Server(control, self._settings, self._found).serve()
            finally:
                os._exit(1)
        self._branches.add(pid)
        return pid

    def _prepare(self, number: int, fds: List[int]) -> Dict[str, Any]:
        """Run an initializer here, for all processes that are forked from here."""
        folder = self._folder(number)
        os.makedirs(folder, mode=0o700)
        os.chdir(folder)
        os.environ.update(HOME=folder, TMPDIR=folder)
        gc.enable()
        with channels.at(os.dup(fds[0])) as channel:
            ready = task_child.prepare(channel, folder, fds[1])
        gc.disable()
        gc.collect()
        gc.freeze()
        self._listen_for_ends()  # it may have changed that
        self._kept = self._left_by(number)
        return {"ready": ready, "alone": task_modules.alone() and not children()}

    def _folder(self, number: int) -> str:
        return os.path.join(self._settings.tasks(), str(number))

    def _left_by(self, number: Optional[int]) -> Set[str]:
        """What an initializer has left, which is there for each call; None: there is none."""
        return set() if number is None else {self._folder(number), *_found(self._settings)}

    # -- ending -------------------------------------------------------------------------------

    def _signal(self, pid: int, number: int) -> None:
        """Send a signal to a server that this one has forked: as long as it has not waited for
        that one's end, the id is no other process's."""
        if pid in self._branches:
            os.kill(pid, number)

    def _take_ended(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in self._tasks or found.si_pid in self._branches:
                self._finish(found.si_pid)
            else:
                os.waitpid(found.si_pid, 0)  # what an electron left, and what has ended by now

    def _finish(self, pid: int) -> None:
        """Leave nothing of a process that has ended, and say so."""
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # its id is not another's, as long as nobody waited
        _, status, usage = os.wait4(pid, 0)
        folder = self._tasks.pop(pid, None)
        self._branches.discard(pid)
        self._sweep()
        said = {"ended": pid, "status": status, "peak": usage.ru_maxrss // 1024}
        channels.send(self._control, said)
        if folder is None:
            channels.send(self._control, {"tidied": pid})
            return
        self._ended[folder] = pid
        if folder in self._leaving:
            self._leave(folder)

    def _leave(self, folder: str) -> None:
        """Have the files of a task go, once its process has ended; then say so."""
        pid = self._ended.pop(folder, None)
        if pid is None:
            self._leaving.add(folder)
            return
        self._leaving.discard(folder)
        self._tidy()
        channels.send(self._control, {"tidied": pid})

    def _drop(self, folder: str) -> None:
        """End a process that has had no task. Nothing is told of it, and nothing removed: it has
        left no file."""
        self._ended.pop(folder, None)
        for pid in [pid for pid, own in self._tasks.items() if own == folder]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            if _reaped(pid, time.monotonic() + _SWEEP):
                del self._tasks[pid]

    def _sweep(self) -> None:
        """Kill what the task left behind.

        What loses its parent by that becomes a child of this process, for the next round.
        """
        until = time.monotonic() + _SWEEP
        own = {*self._tasks, *self._branches}
        while True:
            strangers = [x for x in children() if x not in own]
            for pid in strangers:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not all([_reaped(pid, until) for pid in strangers]):
                os._exit(1)  # something outruns its end: the root's turn, after a new server's
            if not strangers:
                return

    def _tidy(self) -> None:
        """Remove all that tasks have left, of whatever server; none may run. A process that was
        forked ahead has no folder before its task, but one may have been made in its place."""
        with contextlib.suppress(OSError):  # the next task says what is wrong
            self._settings.lay_out()  # first: else what lies in a barred folder stays
            os.chdir(self._settings.home())
            for entry in list(os.scandir(self._settings.home())):
                remove(entry.path)
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(self._settings.tasks())):
                if entry.path not in self._kept:
                    remove(entry.path)
        if self._settings.alone:
            self._tidy_what_is_open_to_all()

    def _tidy_what_is_open_to_all(self) -> None:
        kept = self._found | self._kept
        for place in _OPEN_TO_ALL:
            with contextlib.suppress(OSError):
                for entry in list(os.scandir(place)):
                    if entry.path not in kept:
                        remove(entry.path)
        for name in task_ipc.found() - kept:
            task_ipc.remove(name)

    def _end(self) -> NoReturn:
        for pid in [*self._tasks, *self._branches]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            _reaped(pid, time.monotonic() + _SWEEP)
        self._tasks.clear()
        self._branches.clear()
        self._sweep()
        if self._root:
            remove(self._settings.folder)
        os._exit(0)


def children() -> List[int]:
    """The process ids of this process's children."""
    try:
        listed = channels.read_file(f"/proc/self/task/{os.getpid()}/children")
        return [int(x) for x in listed.split()]
    except OSError:  # a kernel built without it
        return [pid for pid, parent in _parents() if parent == os.getpid()]


def _parents() -> List[Tuple[int, int]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                found.append((int(name), int(file.read().rpartition(b")")[2].split()[1])))
    return found


def _reaped(pid: int, until: float) -> bool:
    """Wait for a process that was killed."""
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)


def remove(path: str) -> None:
    """Remove a file, or a folder with all that is in it, whatever its depth and permissions."""
    pending = [path] if os.path.isdir(path) and not os.path.islink(path) else []
    if not pending:
        _unlink(path)
    while pending:
        folder = pending.pop()
        with contextlib.suppress(OSError):  # another user's, which no electron can have made
            os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                if not entry.is_dir(follow_symlinks=False):
                    _unlink(entry.path)
                elif not _removed_empty(entry.path):
                    pending.append(_lifted(entry.path, path))
        if folder != path:
            _removed_empty(folder)
    _removed_empty(path)


def _lifted(folder: str, top: str) -> str:
    """`folder`, moved to right below `top`: a path must not grow longer than the system takes."""
    if os.path.dirname(folder) == top:
        return folder
    moved = os.path.join(top, os.urandom(8).hex())
    try:
        os.chmod(folder, 0o700)
        os.rename(folder, moved)
    except OSError:
        return folder
    return moved


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _removed_empty(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True
