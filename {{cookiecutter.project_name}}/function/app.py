"""What runs inside Lambda: one electron an invocation, in a process of its own.

    event ─► Request ─► versions ─► blobs ─► ┌ a child, forked ahead ─────────────┐
             checked    compared   verified  │ unpickle, hooks, function, pickle  │
                                             └──┬── streams, report, exit status ─┘
    answer ◄── Response: result or failure, streams, usage ◄── watched

This process, the parent, never unpickles anything and runs no user code: whatever that does, to
itself or to its process, the parent is there to tell of it, and the next electron finds a process
as new as the first one did. docs/architecture.md says why.
"""

import contextlib
import ctypes
import errno
import functools
import io
import json
import os
import platform
import resource
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Set, Tuple, Union

import cloudpickle

import task_channel as channels
import task_child
import task_guard as guard
import task_modules
import wire
from task_prepared import Prepared, SetupFailed
from task_processes import Body, Child, EnvironmentFailed, Processes
from task_server import Settings
from task_storage import Storage
from task_streams import Split

_FIRST_PEAK = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB; see `_own_peak`
_TRIES = 3  # to hand a task over
# Looks, and seconds between them, until an environment ends that cannot run electrons. See `_end`.
_LOOKS, _LOOK_EVERY = 20, 0.001
_FROZEN = 0.1  # seconds: when it was not looked for so long, it may have been frozen
_LOOKS_AFTER_IT = 1000
_SOON = 1.0  # seconds in which nothing is usually left of the electron before
_ANSWERED_WITHIN = 1.0  # seconds, after all that is waited for
_LEAVE_WITHIN = 5.0  # seconds: the answer must not wait long for a copy of it
_IMAGE = "/var/task"  # where Lambda's images, and Covalent's, have the handler
# Set by Lambda's runtime client anew for each invocation.
_OF_THE_INVOCATION = ("_X_AMZN_TRACE_ID",)
_LARGEST_REPORT = 4 * 1024 * 1024  # bytes: a failure, or the names of imported modules
_PIECE = 1024 * 1024  # bytes of a batch's results that are copied at a time
_READ = 64 * 1024  # bytes of a task that are looked through for names of modules
_ENVIRONMENT = os.urandom(6).hex()  # names this environment in what is told of its use
_MOST_PROCESSES = 64  # of a batch; Lambda's largest functions have six processors
# In the name of Covalent's function that DepsPip runs.
_PIP = "apply_pip_deps"
# The log's line that the template's metric FailedElectrons counts. A cancelled electron was wanted
# so; one that did not run, for reasons of this environment's, is sent again.
_FAILED_ELECTRON = "An electron failed"
# What a task's process may tell of. The others are the parent's to say: of some the executor takes
# it that nothing ran, and sends the electron again.
_KINDS_OF_TASKS = (
    wire.EXCEPTION,
    wire.EXIT,
    wire.UNPICKLABLE,
    wire.CANNOT_LOAD,
    wire.SETUP_FAILED,
    wire.ENVIRONMENT,
    wire.DEADLINE,
    wire.CANCELLED,
)
# What the system says where nothing can be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_NO_FAILED_ELECTRON = (wire.CANCELLED, wire.STORAGE_BUSY, wire.ENVIRONMENT)


class _Failed(Exception):
    """Carries a failure from where it happened to the answer."""

    def __init__(self, kind: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.failure = wire.Failure(kind=kind, message=message, **fields)


class Environment:
    """One execution environment of the function, from its start to its end.

    Its state is the processes, those that are prepared for a pool's calls among them, what is kept
    in /tmp, and whether an invocation came before.
    """

    def __init__(self) -> None:
        self._cold = True
        self._ends = False  # whether it is to end, once no invocation runs
        self._invocations = 0
        self._missed = 0  # ends: other invocations began before
        self._turn = threading.Lock()  # an invocation's begin, or the end
        self._broken = self._refused = _several_at_once()
        self.processes: Optional[Processes] = None
        self.prepared: Optional[Prepared] = None
        temporary = os.environ.get("TMPDIR") or "/tmp"
        self.folder = os.path.join(temporary, f"covalent-{os.getpid()}-{os.urandom(4).hex()}")
        self.storage = Storage(self.folder)
        self.oom_kills = _oom_kills()
        if self._broken:
            return
        try:
            os.mkdir(self.folder, 0o700)
            alone = os.path.dirname(os.path.abspath(__file__)) == _IMAGE
            path = [os.path.abspath(x or os.curdir) for x in sys.path]
            task_child.set_readable(ctypes.CDLL(None), False)
            self.processes = Processes(Settings(self.folder, path, alone))
            self.prepared = Prepared(self.processes, self.folder)
        except (OSError, EnvironmentFailed) as error:
            self._broken = f"it cannot start a process, or write to {temporary}: {error}"

    def handle(self, event: Any, context: Any) -> Dict[str, Any]:
        """Lambda's entry point.

        Args:
            event: `Request.to_json()` or `Batch.to_json()`, or a ping, of any protocol:
                `{"covalent_lambda": 1, "ping": true}`.
            context: Lambda's context object.

        Returns:
            `Response.to_json()`, or the ping's answer. Nothing is raised: what the task raised
            is in the answer.
        """
        with self._turn:  # from here on it does not end
            self._invocations += 1
            self._missed += self._ends
            signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            return self._handled(event, context)
        finally:
            if self._ends:
                self._end_soon()

    def _handled(self, event: Any, context: Any) -> Dict[str, Any]:
        """What `handle` returns."""
        cold, self._cold = self._cold, False
        started = time.monotonic()
        if wire.is_envelope(event) and event.get("ping"):
            return _ping(event, context)
        try:
            request = _request_of(event)
        except (ValueError, TypeError, AttributeError) as error:
            message = f"The event is not one that this function runs: {error}"
            failure = wire.Failure(kind=wire.PROTOCOL_DIFFERS, message=message)
            named = event.get("task_id") if isinstance(event, dict) else ""
            task_id = named if isinstance(named, str) else ""
            return _response(context, started, cold, task_id, 0, failure=failure).to_json()
        # By this line a call's output is found in the log while it runs.
        guard.log(f"{wire.RUNS}{request.task_id}")
        return _Invocation(self, request, context, started, cold).answer()

    def running(self) -> Processes:
        """The processes.

        Raises:
            EnvironmentFailed: if there are none.
        """
        if self._broken or self.processes is None:
            raise EnvironmentFailed(self._broken)
        return self.processes

    def finish(self, initializer: str, check: Callable[[], object]) -> None:
        """Wait until nothing is left of the tasks before.

        Args:
            initializer: the digest of the one that the next task needs; empty: none.
            check: called meanwhile; what it raises ends the waiting, and the next task waits on.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        if self.prepared is not None:
            self.prepared.keep_for(initializer)
            self.prepared.finish(check)
        self.running().finish(check)

    def fork_ahead(self) -> None:
        """Have processes made for the next task where there are none, without waiting."""
        for maker in (self.processes, self.prepared):
            if maker is not None:
                maker.fork_ahead()

    def make_room_or_end(self) -> None:
        """Evict all that is kept in /tmp; where nothing can be written there all the same, have
        this environment end. What tasks had left is gone by then, so it would not get better."""
        try:
            self.storage.evict_all()
        except OSError as error:
            self.fail(f"it cannot write to /tmp: {error}")

    def fail(self, reason: str) -> None:
        """Have this environment end after the answer, so that Lambda makes a new one.

        Where all environments are refused, it stays: the next one would be no better.
        """
        guard.log(f"This environment cannot run electrons: {reason}")
        self._broken = reason
        self._ends = not self._refused

    def _end_soon(self) -> None:
        thread = threading.Thread(target=self._end, args=(self._invocations,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # where no process can be started, no thread can
            # Its signal ends this process. It cannot look first, but this is rarer still.
            signal.setitimer(signal.ITIMER_REAL, _LOOKS * _LOOK_EVERY)

    def _end(self, invocation: int) -> None:
        """End the process soon, unless another invocation begins.

        The answer must have left by then. The runtime client sends it with the interpreter's lock
        held, so a few looks are enough, whatever the answer's size. They must be few: when the
        client asks for the next event, Lambda freezes all this, until there is one. A clock would
        find itself overdue then, and that event would be lost: what its electron did, nobody could
        tell. So looks are counted. When one comes late, there may be an event, which has a second
        to reach `handle`. That says that nothing ran, and there are fewer looks next time.
        """
        left = max(2, _LOOKS >> self._missed)
        while left:
            began = time.time()
            time.sleep(_LOOK_EVERY)
            left = _LOOKS_AFTER_IT if time.time() - began > _FROZEN else left - 1
            if self._invocations != invocation:
                return
        with self._turn:
            if self._invocations == invocation:
                os._exit(1)


class _Invocation:
    """One request on its way to its response."""

    def __init__(
        self,
        environment: Environment,
        request: "_Request",
        context: Any,
        started: float,
        cold: bool,
    ) -> None:
        self.environment, self.request, self.context = environment, request, context
        self.noun = _noun(request)
        self.started, self.cold = started, cold
        self.storage = environment.storage
        self.storage.begin()
        self.children: List[Child] = []
        self.peak = 0
        self.lacks_room = False  # whether it could not write to /tmp
        self._has_lost_server = False  # whether its fork server ended with the task
        self._is_clear = False  # whether nothing is left of the task before
        self.oom_kills = environment.oom_kills  # before it
        left = context.get_remaining_time_in_millis() / 1000
        seconds = left - min(guard.MARGIN, 0.1 * left)
        if request.limit is not None:
            seconds = min(seconds, request.limit)
        self.orders = guard.Orders(
            self.storage.hasty_client, request.bucket, request.task_id, request.key, started
        )
        self.guard = guard.Guard(started + seconds, self.orders)

    def answer(self) -> Dict[str, Any]:
        """Run the task; its response."""
        try:
            try:
                fields = self._run()
            except _Failed as failed:
                fields = {"failure": failed.failure}
            except guard.Stopped as stop:
                fields = {"failure": self._stopped(stop.kind)}
            except EnvironmentFailed as failed:
                fields = {"failure": self._unfit(str(failed))}
            return self._answered(fields)
        finally:
            self.orders.close()
            for child in self.children:
                child.close()

    @property
    def child(self) -> Optional[Child]:
        """The process that runs the task; the first one, where there are several."""
        return self.children[0] if self.children else None

    def _answered(self, fields: Dict[str, Any]) -> Dict[str, Any]:
        failure = fields.get("failure")
        if failure is not None and failure.kind not in _NO_FAILED_ELECTRON:
            guard.log(f"{_FAILED_ELECTRON}: {failure.kind}")
        if self.lacks_room:
            self.environment.make_room_or_end()
        if self.child is not None and not self.task.splits:
            fields.update(stdout=self.child.stdout.text, stderr=self.child.stderr.text)
        response = _response(
            self.context, self.started, self.cold, self.request.task_id, self.peak, **fields
        )
        answer = response.to_json()
        # By the time that it tells, as the executor deletes the outcome by that.
        long = response.usage.duration >= wire.LEAVE_OUTCOME_AFTER
        if long or self.orders.reported or self.orders.asked_since():
            self._leave(answer)
        return answer

    def _run(self) -> Dict[str, Any]:
        """The response's fields."""
        processes = self.environment.running()
        _check_python(self.request)
        body = Body(self.environment.folder)
        try:
            self.task = _Task(self, body)
            self.task.begin(self.children)
        finally:
            body.close()
        if not self.cold:  # a cold start has no processor to spare
            self.environment.fork_ahead()
        ended = self.guard.watch(self.children)
        self._has_lost_server = any(x.status is None for x in ended)
        if self._has_lost_server:
            with _failing_later(self.environment):
                left = self.context.get_remaining_time_in_millis() / 1000
                processes.lost(self.children[0].server, left - _ANSWERED_WITHIN)
        self.environment.fork_ahead()
        self.peak = sum(x.peak for x in ended)
        fields = self._told(ended)
        failure = fields.get("failure")
        # A task's process says so of nothing else.
        self.lacks_room = failure is not None and failure.kind == wire.ENVIRONMENT
        if self.task.installs and failure is None:
            self.storage.installed(self.task.packages)
        self.storage.make_room(self.task.packages)
        return fields

    def clear(self) -> None:
        """Have nothing left of the task before, which could change files after they were verified.

        As late as may be: that task's process ends while this one's request is read.
        """
        if self._is_clear:
            return
        began = time.monotonic()
        try:
            self.environment.finish(_initializer_of(self.request), self.guard.check)
            if time.monotonic() - began > _SOON:
                self.guard.check()
        except guard.Stopped as stop:
            took = time.monotonic() - began
            if stop.kind != wire.DEADLINE or took <= _SOON:
                raise
            message = (
                f"What ran before this {self.noun} left so much that its removal takes longer "
                f"than the {took:.0f} s that this one had for it. Nothing of this one ran."
            )
            raise _Failed(wire.ENVIRONMENT, message) from stop
        self._is_clear = True

    def _told(self, all_ended: List[guard.Ended]) -> Dict[str, Any]:
        """What became of the task, as the response's fields."""
        if self.task.splits:
            return self._told_of_calls(all_ended)
        ended, child = all_ended[0], self.children[0]
        report = self._report(child, ended)
        if report is None:
            return {"failure": self._crash(child, ended)}
        self._learn([report])
        failure = report.get("failure")
        if failure is None and "spread" in report:
            return {"spread": self._placed(report["spread"], self._room())}
        if failure is None:
            return self._fitted(report)
        return {"failure": wire.Failure(**failure)}

    def _told_of_calls(self, all_ended: List[guard.Ended]) -> Dict[str, Any]:
        """What became of a batch's calls, as the response's fields: all that ended are told of,
        however their process ended."""
        fields: Dict[str, Any] = {}
        total = 0  # bytes
        reports = [self._report(*each) for each in zip(self.children, all_ended)]
        self._learn(reports)
        for child, ended, report in zip(self.children, all_ended, reports):
            failure = self._failure_of_calls(child, ended, report)
            if failure is not None:
                fields.setdefault("failure", failure)
            size = _written(child.answer)
            if report is not None and ended.report is not None:
                size = min(ended.report[0], size)
            else:  # it may have ended in the middle of a frame
                size = wire.whole_frames(functools.partial(os.pread, child.answer), size)
            self._gather(child.answer, size)
            total += size
        for piece in self._output_of_calls():
            channels.write_all(self.children[0].answer, piece)
            total += len(piece)
        fields["result"] = self._placed(total, wire.PAYLOAD_LIMIT - wire.PAYLOAD_MARGIN)
        return fields

    def _gather(self, file: int, size: int) -> None:
        """Have the first `size` bytes of a process's answer in that of the first one, which ends
        with them; without a copy in this process's memory, as the function may have no more."""
        assert self.child is not None
        if file == self.child.answer:
            os.ftruncate(file, size)
            os.lseek(file, size, os.SEEK_SET)
            return
        for offset in range(0, size, _PIECE):
            piece = channels.read_at(file, min(_PIECE, size - offset), offset)
            channels.write_all(self.child.answer, piece)
        os.ftruncate(file, 0)

    def _failure_of_calls(
        self, child: Child, ended: guard.Ended, report: Optional[Dict[str, Any]]
    ) -> Optional[wire.Failure]:
        """Why one process of a batch did not run all its calls; None if it did."""
        if report is None:
            return self._crash(child, ended)
        failure = report.get("failure")
        return None if failure is None else wire.Failure(**failure)

    def _learn(self, reports: List[Optional[Dict[str, Any]]]) -> None:
        """Have what a task's processes imported warm for the next one, less what installs."""
        if not self.task.installs and not self._has_lost_server:
            names = [name for report in reports if report for name in report["modules"]]
            self.environment.running().learn(names, self.children[0].server)

    def _output_of_calls(self) -> List[bytes]:
        """The frames of what each call wrote."""
        return [
            wire.Frame(kind, number, text.encode()).to_bytes()
            for splits in self.task.splits
            for kind, split in zip((wire.STDOUT, wire.STDERR), splits)
            for number, text in split.texts().items()
            if 0 <= number < wire.NO_CALL
        ]

    def _report(self, child: Child, ended: guard.Ended) -> Optional[Dict[str, Any]]:
        """What a task's process told; None if it told nothing that can be used."""
        if ended.report is None:
            return None
        offset, size = ended.report
        try:
            left = os.fstat(child.answer).st_size - offset
            if size > _LARGEST_REPORT:
                return None
            said = json.loads(channels.read_at(child.answer, min(size, max(0, left)), offset))
            failure = said.get("failure")
            if failure is not None and failure["kind"] == task_child.STOPPED:
                if not ended.reason:
                    return None
                failure.update(vars(self._stopped(ended.reason, failure["traceback"])))
            return _checked(said, offset)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError):
            return None
        except (OSError, OverflowError):  # an offset that no file has
            return None

    def _crash(self, child: Child, ended: guard.Ended) -> wire.Failure:
        """Why there is no report."""
        stacks = child.stacks_text()
        if ended.reason:
            stood = task_child.clipped(f"Stopped in:\n{stacks}") if stacks else ""
            return self._stopped(ended.reason, stood)
        kind, message = self._death(ended)
        return wire.Failure(kind=kind, message=message, traceback=task_child.clipped(stacks))

    def _stopped(self, kind: str, traceback: str = "") -> wire.Failure:
        message = f"The {self.noun} was {_STOPPED[kind]}."
        return wire.Failure(kind=kind, message=message, traceback=traceback)

    def _death(self, ended: guard.Ended) -> Tuple[str, str]:
        process = f"The {self.noun}'s process"
        if ended.status is None:
            return wire.CRASHED, (
                f"{process} was lost together with the process that had forked it: the "
                f"{self.noun} ended or stopped its parent process."
            )
        if os.WIFSIGNALED(ended.status):
            number = os.WTERMSIG(ended.status)
            if number == signal.SIGKILL and self._out_of_memory(ended):
                return wire.OUT_OF_MEMORY, (
                    f"{process} ran out of memory and was killed. It had taken "
                    f"{ended.peak} MB; the function has {self.context.memory_limit_in_mb} MB."
                )
            name = signal.Signals(number).name if number in list(signal.Signals) else "?"
            return wire.CRASHED, (
                f"{process} was ended by signal {number} ({name}): "
                f"{_SIGNALS.get(number, 'somebody sent it')}."
            )
        code = os.WEXITSTATUS(ended.status)
        why = (
            "it closed the descriptors by which its answer would have come"
            if code == task_child.CLOSED
            else "something called os._exit, or C's exit"
        )
        return wire.CRASHED, (
            f"{process} ended with exit code {code} before it gave an answer: {why}."
        )

    def _out_of_memory(self, ended: guard.Ended) -> bool:
        now = self.environment.oom_kills = _oom_kills()
        if self.oom_kills is not None and now is not None:
            return now > self.oom_kills
        return ended.peak + _own_peak() >= 0.9 * int(self.context.memory_limit_in_mb)

    def _unfit(self, reason: str) -> wire.Failure:
        self.environment.fail(reason)
        message = (
            f"The function's environment cannot run {self.noun}s: {reason}. Nothing of the "
            f"{self.noun} ran."
        )
        return wire.Failure(kind=wire.ENVIRONMENT, message=message)

    # -- the result ---------------------------------------------------------------------------

    def _fitted(self, report: Dict[str, Any]) -> Dict[str, Any]:
        """The response's fields for a result, its large parts put into S3 to fit the limit."""
        assert self.child is not None
        size, length = report["result"], report["text"]
        room = self._room()
        text: Optional[wire.Part] = None
        # The text is nearly always short; where it is not, the data is rarely shorter.
        if length <= room // 8:
            text = channels.read_at(self.child.answer, length, size).decode("utf-8", "replace")
            taken = len(json.dumps(text))
            if taken <= room // 8:
                room -= taken
            else:
                text = None
        if text is None:
            text = self._store(wire.RESULT_TEXT, size, length)
        result = self._placed(size, room)
        return {"result": result, "text": text, "attrs": report["attrs"]}

    def _room(self) -> int:
        """Bytes that a response has for results, beside what the task wrote."""
        assert self.child is not None
        room: int = wire.PAYLOAD_LIMIT - wire.PAYLOAD_MARGIN
        return room - sum(len(json.dumps(x.text)) for x in (self.child.stdout, self.child.stderr))

    def _placed(self, size: int, room: int) -> wire.Part:
        """The first `size` bytes of the answer's file, inline if they fit into `room`."""
        assert self.child is not None
        if 4 * size // 3 + 4 <= room:
            return wire.encode(channels.read_at(self.child.answer, size, 0))
        return self._store(wire.RESULT, 0, size)

    def _store(self, name: wire.TaskObject, offset: int, size: int) -> wire.Blob:
        assert self.child is not None
        bucket, key = self.request.bucket, wire.task_key(self.request.task_id, name)
        try:
            if not bucket:
                raise ValueError("the executor named no bucket (s3_bucket_name is empty)")
            # Not opened by the thread: that may come late, when the number is another file's.
            file = io.FileIO(os.dup(self.child.answer))
            seconds = self.context.get_remaining_time_in_millis() / 1000 - 1
            stored: wire.Blob = self.guard.within(
                lambda: self.storage.store(bucket, key, file, offset, size), seconds
            )
            return stored
        except Exception as error:
            why = "there was no time left" if isinstance(error, guard.Stopped) else error
            raise _Failed(
                wire.RESULT_LOST,
                f"The {self.noun} ran, but its result of {size} bytes is larger than a Lambda "
                f"response may be, and could not be stored in bucket {bucket!r}: {why}",
            ) from error

    def _leave(self, answer: Dict[str, Any]) -> None:
        if not self.request.bucket:
            return
        key = wire.task_key(self.request.task_id, wire.OUTCOME)
        data = wire.seal(json.dumps(answer), self.request.key)
        try:
            self.guard.within(
                lambda: self.storage.leave(self.request.bucket, key, data), _LEAVE_WITHIN
            )
        except Exception as error:  # the answer itself is still on its way
            guard.log(f"cannot store the outcome as {key}: {error or type(error).__name__}")


class _Task:
    """A request's parts on their way to a process: fetched and verified before any is sent."""

    def __init__(self, invocation: _Invocation, body: Body) -> None:
        self._invocation, self._body = invocation, body
        self._request = invocation.request
        self._storage = invocation.storage
        self._pickles: List[bytes] = []  # those that name the modules a task needs
        self._data: List[bytes] = []  # all that came with the request
        self._unread = False  # whether there is more
        self.splits: List[Tuple[Split, Split]] = []  # of a batch's output, by process
        self.packages, self.installed = "", False
        self.is_prepared = False  # whether its initializer has run in its line of forks

    @property
    def installs(self) -> bool:
        """Whether it installs packages, which nobody knows yet."""
        return bool(self.packages) and not self.installed

    def begin(self, children: List[Child]) -> None:
        """Hand the task over to processes, which are added to `children`."""
        order = self._order()
        self._invocation.clear()
        setup = self._request.setup if isinstance(self._request, wire.Batch) else None
        self._note(setup)
        first = None if setup is None or self._request.before else self._prepared(setup)
        self.is_prepared = first is not None
        if setup is not None:
            order["setup"] = None if first else self._part(setup, self._body)
        children.append(first or self._taken())
        self._share(children)
        self._body.close_with(json.dumps(order).encode())
        mark = order.get("mark")
        self._hand_over(children, mark)
        for child in children[1:]:
            # By now calls run. Those of a process that cannot take its task are its neighbours'.
            if child.server is not children[0].server or not self._is_sent(child, mark):
                children.remove(child)
                child.drop()

    def _hand_over(self, children: List[Child], mark: Optional[str]) -> None:
        """Send the task to the first of the processes, or to another one in its place."""
        for _ in range(_TRIES):
            child = children[0]
            if self._is_sent(child, mark):
                return
            children[0] = self._other()  # a task before this one may have killed the spare
            child.drop()
        raise EnvironmentFailed("each process that it starts ends at once")

    def _other(self) -> Child:
        """A process in place of one that has ended."""
        if not self.is_prepared:
            return self._taken()
        assert isinstance(self._request, wire.Batch) and self._request.setup is not None
        child = self._prepared(self._request.setup)
        if child is None:  # the order says by now that its initializer has run
            raise EnvironmentFailed("a process that was ready has ended")
        return child

    def _is_sent(self, child: Child, mark: Optional[str]) -> bool:
        """Send the task to a process; whether it was there."""
        splits = self._split(child, mark) if mark else None
        try:
            child.send(self._body)
        except channels.Closed:
            return False
        self.splits += [splits] if splits else []
        return True

    def _split(self, child: Child, mark: str) -> Tuple[Split, Split]:
        """The output of a batch's calls, told apart."""
        assert isinstance(self._request, wire.Batch)
        count = self._request.count
        return child.stdout.split_at(mark, count), child.stderr.split_at(mark, count)

    def _taken(self) -> Child:
        """A process in which modules that the task needs are warm."""
        processes = self._invocation.environment.running()
        if self.installs:
            return processes.bare()
        names, hidden = task_modules.named(self._pickles), self._hidden()
        guard = self._invocation.guard
        mentioned, seconds = self._mentioned(names), max(0.1, guard.left())
        return processes.take(names, mentioned, hidden, seconds, guard.check)

    def _mentioned(self, names: Set[str]) -> Optional[Set[str]]:
        """What its data names, too; None if that cannot be told."""
        if self._unread or sum(map(len, self._data)) > _READ:
            return None
        return names | task_modules.named(self._data)

    def _prepared(self, setup: wire.Part) -> Optional[Child]:
        """A process in which the initializer has run; None if it must run in each."""
        prepared = self._invocation.environment.prepared
        if prepared is None:
            return None
        initializer = _initializer_of(self._request)

        def body() -> Body:
            made = Body(self._invocation.environment.folder)
            try:
                order = {"task_id": self._request.task_id, "setup": self._part(setup, made)}
                made.close_with(json.dumps(order).encode())
            except BaseException:
                made.close()
                raise
            return made

        names, hidden = task_modules.named(self._pickles), self._hidden()
        guard = self._invocation.guard
        try:
            return prepared.child(
                initializer, body, names, hidden, max(0.1, guard.left()), guard.check
            )
        except SetupFailed as failed:
            raise _Failed(**failed.failure) from failed

    def _share(self, children: List[Child]) -> None:
        """Have as many processes as a batch asks for, and no more than it has calls."""
        request = self._request
        if not isinstance(request, wire.Batch) or self.installs:
            return
        count = min(request.processes, request.count, _MOST_PROCESSES)
        if count < 2:
            return
        processes, server = self._invocation.environment.running(), children[0].server
        children += [processes.child(server) for _ in range(count - 1)]
        for child in children:
            _ = child.pid
        self._body.in_turns(request.count)

    def _order(self) -> Dict[str, Any]:
        request, body = self._request, self._body
        order: Dict[str, Any] = {
            "task_id": request.task_id,
            "environment": {k: os.environ[k] for k in _OF_THE_INVOCATION if k in os.environ},
            "function": self._code(request.function, body),
            "before": self._before(),
        }
        if isinstance(request, wire.Batch):
            order.update(
                calls=self._part(request.calls, body),
                shared=None if request.shared is None else self._part(request.shared, body),
                setup=None,
                mark=os.urandom(12).hex(),
            )
        else:
            order.update(
                args=[self._part(x, body) for x in request.args],
                kwargs={k: self._part(x, body) for k, x in request.kwargs.items()},
                after=[self._hook(x) for x in request.after],
            )
        return dict(order, packages=self.packages, installed=self.installed)

    def _without_room(self, error: OSError) -> _Failed:
        self._invocation.lacks_room = True
        message = task_child.without_room(error, self._invocation.noun)
        return _Failed(wire.ENVIRONMENT, message)

    def _before(self) -> List[Any]:
        """The hooks that are to run, and whether each installs packages: those of DepsPip only
        where nothing is installed yet."""
        pip = [hook for hook in self._request.before if self._is_pip(hook)]
        if pip:
            self._invocation.clear()
            digest = wire.digest(json.dumps(pip, default=vars).encode())
            try:
                self.packages, self.installed = self._storage.packages(digest[:32])
            except OSError as error:
                raise self._without_room(error) from error
        skipped = pip if self.installed else []
        hooks = [hook for hook in self._request.before if hook not in skipped]
        return [[*self._hook(hook), hook in pip] for hook in hooks]

    @staticmethod
    def _is_pip(hook: wire.Hook) -> bool:
        function = hook[0]
        return isinstance(function, str) and _PIP in task_modules.named([_decoded(function)])

    def _hidden(self) -> FrozenSet[str]:
        if not self.packages:
            return frozenset()
        return task_modules.of_image([self.packages])

    def _hook(self, hook: wire.Hook) -> List[Any]:
        function, args, kwargs, keyword = hook
        body = self._body
        return [
            self._code(function, body),
            self._part(args, body),
            self._part(kwargs, body),
            keyword,
        ]

    def _code(self, part: wire.Part, body: Body) -> Any:
        """A part that may name the modules that it needs."""
        self._note(part)
        return self._part(part, body)

    def _note(self, part: Optional[wire.Part]) -> None:
        """Have the modules warm that a part names."""
        if isinstance(part, str):
            self._pickles.append(_decoded(part))

    def _part(self, part: wire.Part, body: Body) -> Any:
        if isinstance(part, str):
            self._data.append(_decoded(part))
            return body.add(self._data[-1])
        self._unread = True
        fetched = self._fetched(part, body)
        return fetched if isinstance(fetched, str) else [task_child.MEMORY, *fetched]

    def _fetched(self, blob: wire.Blob, body: Body) -> Any:
        self._invocation.clear()
        bucket = self._request.bucket
        try:
            return self._invocation.guard.within(
                lambda: self._storage.fetch(bucket, blob, body.in_memory)
            )
        except wire.DigestMismatch as error:
            raise _Failed(wire.BLOB_TAMPERED, str(error)) from error
        except guard.Stopped:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise self._without_room(error) from error
            message = f"The function cannot read {blob.key} of bucket {bucket}: {error}"
            raise _Failed(_kind_of(error), message) from error


@contextlib.contextmanager
def _failing_later(environment: Environment) -> Any:
    """The task of the body is told of all the same; the environment ends after its answer."""
    try:
        yield
    except EnvironmentFailed as error:
        environment.fail(str(error))


def _kind_of(error: Exception) -> str:
    """What S3's refusal means for the executor: stored again, sent again, or told."""
    response: Any = getattr(error, "response", None)
    if response is None:
        return wire.STORAGE if isinstance(error, (ValueError, TypeError)) else wire.STORAGE_BUSY
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("NoSuchKey", "404"):
        return wire.BLOB_MISSING
    busy = status >= 500 or code in ("SlowDown", "RequestTimeout", "InternalError", "Throttling")
    return wire.STORAGE_BUSY if busy else wire.STORAGE


def _decoded(part: str) -> bytes:
    try:
        return wire.decode(part)
    except (ValueError, TypeError) as error:
        message = f"A part of the envelope is not base64: {error}"
        raise _Failed(wire.PROTOCOL_DIFFERS, message) from error


def _ping(event: Mapping[str, Any], context: Any) -> Dict[str, Any]:
    answer = {
        wire.MARK: wire.PROTOCOL,
        "status": "ok",
        "python": platform.python_version(),
        "cloudpickle": cloudpickle.__version__,
        "covalent": _version("covalent"),
        "boto3": _version("boto3"),
        "architecture": platform.machine(),
        "memory_mb": int(context.memory_limit_in_mb),
    }
    if event.get("packages"):
        answer["packages"] = _packages()
    return answer


def _packages() -> Dict[str, str]:
    """The versions of all packages in the image, by their names as they spell them."""
    from importlib.metadata import distributions

    found: Dict[str, str] = {}
    for package in distributions():
        found.setdefault(package.metadata["Name"], package.version)  # the first one is imported
    return found


def _initializer_of(request: "_Request") -> str:
    """The digest of the initializer that a request's calls find done; empty if there is none."""
    setup = request.setup if isinstance(request, wire.Batch) and not request.before else None
    if setup is None:
        return ""
    return setup.sha256 if isinstance(setup, wire.Blob) else wire.digest(setup.encode())


def _version(package: str) -> Optional[str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _checked(said: Dict[str, Any], size: int) -> Dict[str, Any]:
    """What a task's process told, which may be anything the electron wanted.

    Args:
        said: it.
        size: of the answer before it.

    Raises:
        ValueError, TypeError, LookupError: if it is no report.
    """
    if not all(isinstance(x, str) for x in said["modules"]):
        raise TypeError("modules")
    if "failure" in said:
        if not all(isinstance(x, str) for x in vars(wire.Failure(**said["failure"])).values()):
            raise TypeError("failure")
        if said["failure"]["kind"] not in _KINDS_OF_TASKS:
            raise ValueError("kind")
        return said
    sizes = [said["spread"]] if "spread" in said else [said["result"], said["text"]]
    if not all(type(x) is int and x >= 0 for x in sizes) or sum(sizes) > size:
        raise ValueError("sizes")
    if "spread" not in said and not isinstance(said["attrs"], dict):
        raise TypeError("attrs")
    return said


def _response(
    context: Any, started: float, cold: bool, task_id: str, peak: int, **fields: Any
) -> wire.Response:
    usage = wire.Usage(
        request_id=context.aws_request_id,
        duration=round(time.monotonic() - started, 4),
        memory_mb=int(context.memory_limit_in_mb),
        max_memory_mb=peak + _own_peak(),
        cold=cold,
        architecture=platform.machine(),
        started=round(time.time() - (time.monotonic() - started), 4),
        environment=_ENVIRONMENT,
    )
    return wire.Response(
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        usage=usage,
        task_id=task_id,
        **fields,
    )


def _written(file: int) -> int:
    """Bytes of a file in memory, but for those never written: a task may give it any size."""
    stat = os.fstat(file)
    return min(stat.st_size, 512 * stat.st_blocks)


def _own_peak() -> int:
    """MB that this process had at most.

    What the system counts begins with what the program had that started this one: a local worker's
    has hundreds of MB. While it still says no more than at first, the slower /proc is asked.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak <= _FIRST_PEAK:
        with contextlib.suppress(OSError, ValueError, IndexError):
            peak = int(channels.read_file("/proc/self/status").split(b"VmHWM:")[1].split()[0])
    return peak // 1024


def _oom_kills() -> Optional[int]:
    """How often the kernel has ended a process here for want of memory, if it says."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(path) as file:
                counts = dict(line.split()[:2] for line in file)
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return None


def _several_at_once() -> str:
    """Why several requests at a time are refused; empty if there is one at a time."""
    if os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1").strip() in ("", "1"):
        return ""
    return (
        "AWS_LAMBDA_MAX_CONCURRENCY is above 1, but requests that share an environment's /tmp "
        "and memory cannot be kept apart; set it to 1"
    )


_Request = Union[wire.Request, wire.Batch]


def _request_of(event: Any) -> "_Request":
    """Read an event.

    Raises:
        wire.EnvelopeError: if it is none of this function's.
    """
    kind: Any = wire.Batch if isinstance(event, dict) and wire.is_batch(event) else wire.Request
    request: _Request = kind.from_json(event)
    return request


def _noun(request: "_Request") -> str:
    """What the request's work is for its caller: a batch is a pool's, or of a fan-out's items."""
    return "call" if isinstance(request, wire.Batch) else "electron"


def _check_python(request: "_Request") -> None:
    here = platform.python_version()
    if wire.minor(request.python) == wire.minor(here):
        return
    program = "program" if isinstance(request, wire.Batch) else "workflow"
    wanted = wire.minor(request.python)
    raise _Failed(
        wire.PYTHON_DIFFERS,
        f"The {_noun(request)} was pickled by Python {request.python}, the function runs Python "
        f"{here}: pickled code does not carry over between them, and nothing of it was unpickled. "
        f"Either run the {program} with Python {wire.minor(here)}, or generate the project again "
        f"with python_version {wanted} and deploy it.",
    )


_STOPPED = {
    wire.DEADLINE: "stopped at its deadline",
    wire.CANCELLED: "cancelled while it ran",
}
_SIGNALS: Mapping[int, str] = {
    signal.SIGSEGV: "code in C, of a package or of its own, used memory that is not its own",
    signal.SIGBUS: "code in C used memory that is not there, or a mapped file has shrunk",
    signal.SIGFPE: "code in C divided by zero, or the like",
    signal.SIGILL: "code in C is made for another processor",
    signal.SIGABRT: "code in C called abort",
    signal.SIGALRM: "a timer that it had set rang, and nothing handled it",
}

# Made at import, while this process has one thread and may fork.
handler: Callable[[Any, Any], Dict[str, Any]] = Environment().handle
