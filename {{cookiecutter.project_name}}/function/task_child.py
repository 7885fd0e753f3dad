"""What runs in a task's own process: unpickle, hooks, function, pickle.

    channel ──► task ──► parts ──► hooks, function(*args, **kwargs), hooks ──► result file
            ◄── "the answer lies there"                                        (without a name)

It does what Covalent's `wrapper_fn` does to the same serialized parts, without importing
Covalent, which costs seconds of CPU in a cold environment; the user's own pickles import it if
they need it. The process was forked before there was a task, runs one, and ends: nothing that the
user's code does to it reaches another task.
"""

import contextlib
import faulthandler
import gc
import importlib
import io
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import traceback
import types
from types import FrameType
from typing import (
    Any,
    BinaryIO,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
)

import cloudpickle

import task_calls
import task_channel as channels
import task_context
import task_modules
import task_traceback
import wire
from task_streams import Clipped

# Bound here, as the electron may replace what a module or the builtins hold under these names.
_dump, _dumps, _loads = cloudpickle.dump, json.dumps, cloudpickle.loads
_exit, _getpid, _open, _len = os._exit, os.getpid, open, len

INTERRUPT, DUMP = signal.SIGUSR1, signal.SIGUSR2  # end the task; show where it stands
STOPPED = "stopped"  # a kind of failure that only the parent knows the reason of
PACKET, MEMORY = "packet", "memory"  # where a part's bytes are
_PR_SET_DUMPABLE = 4
CLOSED = 71  # exit code: the task closed the descriptors by which its answer would go
_SHOWN = 100_000  # characters of a value's text that are kept for Covalent's UI
_SAID = 100_000  # bytes of an exception's message, and of its traceback
_FILES = "files"  # Covalent's keyword for transferred files: always a list
_OWN = tuple(
    __file__.replace("task_child.py", x)
    for x in ("task_child.py", "task_calls.py", "task_server.py")
)


def _nothing() -> None:
    return None


# A function as scripts have them: pickled by value.
_REHEARSAL = cloudpickle.dumps(types.FunctionType(_nothing.__code__, {"__name__": "__main__"}))


class Stopped(BaseException):
    """Raised in the main thread to end the user's code."""


class _Failed(Exception):
    """Carries a failure from where it happened to the answer."""

    def __init__(self, failure: wire.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Through(io.BufferedWriter):
    """Bytes to a descriptor at once: a process that is killed takes nothing of them along."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.flush()
        return written


def _writer(fd: int, name: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    raw.name = name  # with `mode`, what cloudpickle knows the standard streams by
    writer = io.TextIOWrapper(
        _Through(raw), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    writer.mode = "w"  # type: ignore[misc]
    return writer


def set_streams() -> None:
    """Give this process the standard streams of a fresh interpreter, on descriptors 0 to 2.

    Once for all processes that are forked from it: theirs are pipes, which cannot be sought in, so
    these are made on one, whatever the log is.
    """
    reader, writer = os.pipe()
    kept = os.dup(1), os.dup(2)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _writer(1, "<stdout>")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, "<stderr>")  # type: ignore[misc]
    os.dup2(kept[0], 1)
    os.dup2(kept[1], 2)
    for fd in (reader, writer, *kept):
        os.close(fd)


def serve(
    fds: List[int], folder: str, path: List[str], known: FrozenSet[str], libc: Any
) -> NoReturn:
    """Wait for a task, run it, hand its answer over, and end this process.

    Args:
        fds: the channel, where streams 1 and 2 go, the file for the answer, that for stacks.
        folder: the task's own; it is made when there is a task.
        path: where modules of the image lie.
        known: the modules that there are already.
        libc: the C library, whose streams are flushed in the end.
    """
    number, stdout, stderr, answer, stacks = fds
    channel = channels.at(number)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    faulthandler.enable(stacks)
    faulthandler.register(DUMP, stacks)
    _draw_new_random_numbers()
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    gc.enable()
    context = task_context.Context()
    sys.meta_path.insert(0, context)

    def modules() -> List[str]:
        return task_modules.new(known, path)

    if not select.select([channel], [], [], 0)[0]:  # a task that is there need not wait for it
        _rehearse(modules, libc, context)
    try:
        body = _Body.received(channel)
    except channels.Closed:
        os._exit(0)  # it was not needed
    # Not before: the electron that still runs could change the one that comes after it.
    set_readable(libc, True)
    _let_the_kernel_choose_this_one()
    _Task(body, folder, channel, context).run(answer, modules, libc)


def prepare(channel: socket.socket, folder: str, said: int) -> bool:
    """Run the initializer that comes over a channel, in this process.

    Args:
        channel: it.
        folder: the initializer's own.
        said: the descriptor of the file that takes why it failed: more than a packet holds.

    Returns:
        Whether it has done its work.
    """
    try:
        body = _Body.received(channel)
        _Task(body, folder, channel, task_context.Context()).set_up()  # no electron has one
    except _Failed as failed:
        channels.write_all(said, _dumps(vars(failed.failure)).encode())
        return False
    return True


def set_readable(libc: Any, readable: bool) -> None:
    """Whether other processes of the same user, an electron's, may read and change this one's
    memory."""
    libc.prctl(_PR_SET_DUMPABLE, int(readable), 0, 0, 0)


def _let_the_kernel_choose_this_one() -> None:
    """When memory runs out, this process is killed, not those that can tell of it."""
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)


def _draw_new_random_numbers() -> None:
    """Python's own `random` does so after a fork; numpy's would be the same in each task."""
    if "numpy.random" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["numpy.random"].seed()


def _rehearse(modules: Callable[[], List[str]], libc: Any, context: task_context.Context) -> None:
    """Do what a task does, so that the pages it writes to are this process's own by then.

    After a fork they are the server's: the first write to each costs a copy, and a trivial task
    more than half of its time.
    """
    order = {
        "task_id": "",
        "function": [PACKET, 0, len(_REHEARSAL)],
        "args": [],
        "kwargs": {},
        "before": [],
        "after": [],
        "environment": {},
        "packages": "",
        "installed": False,
    }
    packet = _REHEARSAL + json.dumps(order).encode()
    part = [PACKET, len(_REHEARSAL), len(packet) - len(_REHEARSAL)]
    here, there = channels.pair()
    with here, there, _open(os.devnull, "wb") as file:
        body = _Body(part, memoryview(packet), memoryview(b""))
        said = _Rehearsal(body, "", here, context).ran(file)
        said["modules"] = modules()
        file.write(_dumps(said).encode())
        channels.send(here, {"report": [file.tell(), 0]})
        channels.receive(there)
        _flush(libc)
        channels.send(here, {"peak": _peak(), "alone": _alone()})


class _Spread(NamedTuple):
    """A fan-out's arguments, taken apart."""

    frames: bytes


class _Output(NamedTuple):
    """What is told of a return value beside its pickle."""

    text: str
    attrs: Dict[str, Optional[str]]


class _Task:
    """One task on its way from order to answer."""

    def __init__(
        self, body: "_Body", folder: str, channel: socket.socket, context: task_context.Context
    ) -> None:
        self._body, self._folder, self._channel = body, folder, channel
        self._context = context
        self._order: Dict[str, Any] = json.loads(body.order)
        self._process = _getpid()
        self._armed = True

    def run(self, answer: int, modules: Any, libc: Any) -> NoReturn:
        """Run the task and end the process."""
        signal.signal(INTERRUPT, self._interrupt)
        try:
            with _open(answer, "wb", closefd=False) as file:
                said = self.ran(file)
                said["modules"] = modules()
                size = file.tell()
                file.write(_dumps(said).encode())
                end = file.tell()
            channels.send(self._channel, {"report": [size, end - size]})
            _flush(libc)
            channels.send(self._channel, {"peak": _peak(), "alone": _alone()})
        except (OSError, channels.Closed):
            _flush(libc)
            _exit(CLOSED)
        except BaseException:  # the electron has changed what this code needs
            traceback.print_exc()
            _exit(1)
        finally:
            _exit(0)

    def _interrupt(self, _signal: int, _frame: Optional[FrameType]) -> None:
        if self._armed and _getpid() == self._process and self._told_to_stop():
            raise Stopped

    def _told_to_stop(self) -> bool:
        try:
            return bool(self._channel.recv(1024, socket.MSG_DONTWAIT))
        except OSError:
            return False  # the signal is somebody else's

    def ran(self, file: BinaryIO) -> Dict[str, Any]:
        """Run the task and write its result; what is told of it."""
        try:
            try:
                with _failing_for_want_of_room("call" if "calls" in self._order else "electron"):
                    self._settle()
                if "calls" in self._order:
                    self._run_calls(file)
                    return {"result": file.tell(), "text": 0, "attrs": {}}
                output = self.called()
                if isinstance(output, _Spread):
                    file.write(output.frames)
                    return {"spread": file.tell()}
                told = _pickled(output, file)
            finally:
                self._armed = False
        except _Failed as failed:
            return {"failure": vars(failed.failure)}
        except Stopped as stop:
            place = _stood(traceback.walk_tb(stop.__traceback__))
            return {"failure": vars(wire.Failure(kind=STOPPED, message="", traceback=place))}
        size = file.tell()
        text = told.text.encode()
        file.write(text)
        return {"result": size, "text": _len(text), "attrs": told.attrs}

    def _settle(self) -> None:
        """Make the task's folder its home, and the place where pip installs."""
        folder = self._folder
        try:
            os.mkdir(folder, 0o700)
        except FileNotFoundError:  # a task has removed the folder that all of them lie in
            os.makedirs(folder, mode=0o700)
        os.chdir(folder)
        for name, value in self._order["environment"].items():
            os.environ[name] = value
        if self._order["packages"]:
            sys.path.insert(0, self._order["packages"])
        # What pip installs must land where one may write, and be importable.
        own = os.path.join(folder, "packages")
        os.mkdir(own)  # Python remembers that a folder was missing
        sys.path.insert(0, own)
        os.environ["PIP_TARGET"] = own
        if self._order["installed"]:
            sys.dont_write_bytecode = True  # the next one must find the folder as it is
        if "tempfile" in sys.modules:
            vars(sys.modules["tempfile"])["tempdir"] = None

    def _run_calls(self, file: BinaryIO) -> None:
        """Run the calls of a batch."""
        self._context.tell(str(self._order["task_id"]))
        self._run_hooks()
        function = self._load(self._order["function"], "the function")
        shared: Dict[str, Any] = {}
        if self._order["shared"] is not None:
            shared = self._load(self._order["shared"], "the shared arguments")
        if self._order["setup"] is not None:
            self.set_up()
        with self._body.opened(self._order["calls"]) as data:
            frames = bytes(data)
        turns = self._body.turns
        self._body.close()
        mark = self._order["mark"]
        calls = task_calls.Calls(function, shared, mark, (Stopped,), _described)
        try:
            calls.run(frames, file.fileno(), turns)
        finally:
            self._end_if_forked()

    def set_up(self) -> None:
        """Call the initializer."""
        try:
            initializer, given = self._load(self._order["setup"], "the initializer")
            with _failing_as(wire.EXCEPTION, "initializer"):
                initializer(*given)
        except _Failed as failed:
            said = failed.failure
            message = f"The initializer failed, so no call ran: {said.type}: {said.message}"
            failure = wire.Failure(wire.SETUP_FAILED, message, said.type, said.traceback)
            raise _Failed(failure) from failed
        finally:
            self._end_if_forked()

    def called(self) -> Any:
        """Run hooks, function and hooks; the return value is the function's."""
        self._context.tell(str(self._order["task_id"]))
        values = self._run_hooks()
        function = self._load(self._order["function"], "the electron's function")
        args = [self._load(x, f"argument {i}") for i, x in enumerate(self._order["args"])]
        kwargs = {k: self._load(x, f"argument {k!r}") for k, x in self._order["kwargs"].items()}
        # A list only where several hooks fill the same keyword, and for files always.
        kwargs.update({k: v if _len(v) > 1 or k == _FILES else v[0] for k, v in values.items()})
        if not self._order["after"]:
            self._body.close()  # the task may need the memory
        mark = task_calls.mark_of(function)
        if mark is not None:
            with _failing_as(wire.EXCEPTION):
                return _Spread(task_calls.spread(mark, args, kwargs))
        output = self._called(function, args, kwargs)
        for after, after_args, after_kwargs, _ in self._order["after"]:
            self._call_hook(after, after_args, after_kwargs)
        return output

    def _run_hooks(self) -> Dict[str, List[Any]]:
        """Run the hooks before the function; their values, by the keyword that each fills."""
        values: Dict[str, List[Any]] = {}
        for function, args, kwargs, keyword, installs in self._order["before"]:
            if installs:
                self._install(function, args, kwargs)
                continue
            value = self._call_hook(function, args, kwargs)
            if keyword:
                values.setdefault(keyword, []).append(value)
        if self._order["before"]:
            importlib.invalidate_caches()  # a hook may have installed packages
        return values

    def _install(self, function: Any, args: Any, kwargs: Any) -> None:
        """Run DepsPip's hook in a process of its own: to unpickle it imports Covalent, and that
        some of the very packages, in the versions that the image has."""
        said = channels.memory_file(self._folder)
        installer = os.fork()
        if installer == 0:
            self._process = _getpid()
            # The folder that later tasks have, too; nothing else lands there.
            os.environ["PIP_TARGET"] = self._order["packages"]
            code = 1
            try:
                self._call_hook(function, args, kwargs)
                code = 0
            except _Failed as failed:
                channels.write_all(said, _dumps(vars(failed.failure)).encode())
            finally:
                _flush(None)
                _exit(code)
        _, status = os.waitpid(installer, 0)
        failure = channels.read_at(said, os.fstat(said).st_size, 0)
        os.close(said)
        if failure:
            raise _Failed(wire.Failure(**json.loads(failure)))
        if status:
            how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "too early"
            message = f"DepsPip's packages are not installed: the process with pip ended {how}."
            raise _Failed(wire.Failure(wire.EXCEPTION, message))

    def _call_hook(self, function: Any, args: Any, kwargs: Any) -> Any:
        call = self._load(function, "a hook (DepsPip, DepsBash, DepsCall)")
        call_args = self._load(args, "a hook's arguments")
        call_kwargs = self._load(kwargs, "a hook's kwargs")
        return self._called(call, call_args, call_kwargs)

    def _called(self, function: Any, args: Any, kwargs: Any) -> Any:
        with _failing_as(wire.EXCEPTION):
            try:
                return function(*args, **kwargs)
            finally:
                self._end_if_forked()

    def _end_if_forked(self) -> None:
        """End a process that the task forked and that has come back here: it is not the task's."""
        if _getpid() == self._process:
            return
        kind, error, _ = sys.exc_info()
        code = 0
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif kind is not None:
            traceback.print_exc()
            code = 1
        _flush(None)
        _exit(code & 0xFF)

    def _load(self, part: Any, what: str) -> Any:
        """Unpickle a part, whose digest was checked or which came with the signed request."""
        try:
            with self._body.opened(part) as data:
                return _loads(data)
        except Stopped:
            raise
        except BaseException as error:
            message = f"The function cannot unpickle {what}: {_exception_text(error)}"
            raise _Failed(_failure(wire.CANNOT_LOAD, error, message)) from error


class _Rehearsal(_Task):
    """A task of nobody's, which leaves no file."""

    def _settle(self) -> None:
        os.path.join(self._folder, "")
        os.environ["HOME"] = os.environ["HOME"]


class _Body:
    """Where the bytes of a task's parts are: in its packet, in a file in memory, in the cache.

    A part is [where, offset, size], with `PACKET` or `MEMORY`, or the path of a file.
    """

    def __init__(self, order: Any, packet: Any, memory: Any, turns: Optional[int] = None) -> None:
        self.turns = turns  # the descriptor of a file of numbers; None: every turn is this task's
        self._where = {PACKET: packet, MEMORY: memory}
        self.order = bytes(self._of(order))

    @staticmethod
    def received(channel: socket.socket) -> "_Body":
        """The next task's."""
        head, fds = channels.receive(channel)
        memory = memoryview(b"")
        turns = fds.pop() if head["turns"] else None
        if head["memory"]:
            memory = memoryview(mmap.mmap(fds[0], 0, prot=mmap.PROT_READ))
            os.close(fds[0])
        if head["size"]:  # too large for a packet
            packet = memory[head["base"] : head["base"] + head["size"]]
        else:
            packet = memoryview(channel.recv(head["packet"]))
        return _Body(head["order"], packet, memory, turns)

    @contextlib.contextmanager
    def opened(self, part: Any) -> Iterator[Any]:
        """The bytes of a part while the body runs; they are not copied."""
        if not isinstance(part, str):
            with self._of(part) as data:
                yield data
            return
        with _open(part, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            yield data

    def close(self) -> None:
        """Let go of all of it, as far as nothing that was unpickled holds on to it."""
        self._where.clear()

    def _of(self, part: Any) -> memoryview:
        where, offset, size = part
        return memoryview(self._where[where])[offset : offset + size]


def _peak() -> int:
    """MB that this process, or one that it waited for, had at most."""
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return max(resource.getrusage(x).ru_maxrss for x in whose) // 1024


def _alone() -> bool:
    """Whether this process has no children."""
    try:
        return os.waitpid(-1, os.WNOHANG) is None
    except ChildProcessError:
        return True


def _flush(libc: Any) -> None:
    for file in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if file is not None:
                file.flush()
        except Exception:
            pass  # the task closed or replaced it
    if libc is not None:
        libc.fflush(None)


def _pickled(output: Any, file: BinaryIO) -> _Output:
    with _failing_as(wire.UNPICKLABLE):
        _dump(output, file)
    attrs = {"doc": _attribute(output, "__doc__"), "name": _attribute(output, "__name__")}
    return _Output(_clean(_text(output)), attrs)


def _attribute(output: Any, name: str) -> Optional[str]:
    """A text that Covalent shows of a value; None where it has none, or raises when asked."""
    try:
        found = getattr(output, name, "")
    except Stopped:
        raise
    except BaseException:
        return None
    return _clean(found) if isinstance(found, str) else None


def _text(output: Any) -> str:
    """`str(output)`, as Covalent shows it. Sublattices travel as this text of a string, so that
    is never cut; the text of other large values is not worth its own megabytes."""
    try:
        # Bytes take up to four characters each: 200 MB would take 800 only to be cut.
        text = str(output[:_SHOWN] if isinstance(output, (bytes, bytearray)) else output)
    except Stopped:
        raise
    except BaseException:
        text = object.__repr__(output)
    text = str.__str__(text)  # a subclass of str may have methods of its own
    if isinstance(output, str) or _len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]} [... the rest is cut ...]"


@contextlib.contextmanager
def _failing_for_want_of_room(noun: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = wire.Failure(kind=wire.ENVIRONMENT, message=without_room(error, noun))
        raise _Failed(failure) from error


def without_room(error: OSError, noun: str) -> str:
    """Why nothing ran where nothing can be written.

    Args:
        error: the system's.
        noun: what did not run.
    """
    return f"The function cannot write to /tmp: {error}. Nothing of the {noun} ran."


@contextlib.contextmanager
def _failing_as(kind: str, who: str = "electron") -> Iterator[None]:
    """Turn what the body, the code of `who`, raises into a failure of `kind`."""
    try:
        yield
    except (_Failed, Stopped):
        raise
    except SystemExit as error:
        message = f"The {who} called sys.exit({_exit_code(error)})."
        raise _Failed(_failure(wire.EXIT, error, message)) from error
    except BaseException as error:
        _show_output_of_command(error)
        raise _Failed(_failure(kind, error, _exception_text(error))) from error


def _exit_code(error: SystemExit) -> str:
    try:
        return repr(error.code)
    except Exception:
        return object.__repr__(error.code)


def _show_output_of_command(error: BaseException) -> None:
    """Print what a failed command said: Covalent's DepsPip captures it and lets it go."""
    subprocess = sys.modules.get("subprocess")
    if subprocess is None or not isinstance(error, subprocess.CalledProcessError):
        return
    for output in (error.stdout, error.stderr):
        if output:
            text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
            print(text, file=sys.stderr)


def _failure(kind: str, error: BaseException, message: str) -> wire.Failure:
    return wire.Failure(
        kind=kind,
        type=_qualified(type(error)),
        message=clipped(message),
        traceback=_traceback(error),
    )


def _described(error: BaseException) -> Tuple[str, str, str]:
    """The class of what a call raised, its text, its traceback."""
    if isinstance(error, SystemExit):
        message = f"It called sys.exit({_exit_code(error)})."
    else:
        _show_output_of_command(error)
        message = _exception_text(error)
    return _qualified(type(error)), clipped(message), _traceback(error)


def _traceback(error: BaseException) -> str:
    try:
        return clipped(task_traceback.of_error(error, own=_OWN))
    except Exception:  # what is read of the error may be the electron's own code
        frames = traceback.walk_tb(vars(BaseException)["__traceback__"].__get__(error))
        stood = task_traceback.of_frames(frames, own=_OWN)
        said = f"{_qualified(type(error))}: {_exception_text(error)}"
        return clipped(f"Traceback (most recent call last):\n{stood}{said}\n")


def _stood(frames: Iterable[Tuple[FrameType, int]]) -> str:
    return clipped(task_traceback.of_place(frames, own=_OWN))


def _qualified(cls: type) -> str:
    return (
        cls.__qualname__
        if cls.__module__ == "builtins"
        else f"{cls.__module__}.{cls.__qualname__}"
    )


def _exception_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def clipped(text: str) -> str:
    """`text` in a length that leaves room in the answer, its head and tail kept."""
    kept = Clipped(_SAID // 2, _SAID // 2)
    kept.add(_clean(text).encode())
    return kept.text()


def _clean(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()
