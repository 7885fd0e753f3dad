"""Watches a task from outside: its streams, its end, its deadline, and orders of its executor.

    the task's process            watch                       Orders (a thread, from 2 s on)
      streams   ─────────────────► read, kept, logged
      report    ─────────────────► it has ended by itself
      end       ──fork server────► and nothing of it is left
                ◄─interrupt────── 0.0 s  deadline, or ───────  "cancel"
                ◄─dump────────── 2.0 s  where it stands        "report N": acknowledged
                ◄─kill────────── 2.3 s

None of it runs in the task's process, so that nothing the task does can keep it from its end.
"""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import task_child
import wire
from task_processes import Child, ServerLost

FIRST_LOOK = 2.0  # seconds into a task: shorter ones never cost a request to S3
_LOOK_EVERY = 1.0
_LOOK_AT_LEAST_EVERY = 8.0  # while S3 fails
_DUMP_AFTER, _KILL_AFTER = 2.0, 2.3  # seconds after the interrupt
_CONTINUE_AFTER, _GIVE_UP_AFTER = 3.0, 5.0  # its fork server must have told of its end by then
_LEAVE_WITHIN = 2.0  # from the report to the end: only C's streams have to be flushed
_THREAD_WITHIN = 5.0  # seconds until there must be a thread
_WORDS = 16  # messages of a task's process that are taken at a time
# MB of this machine, as `ru_maxrss` counts: no process had more, whatever it says.
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
_LAST_WORDS = 1000  # the same after its end: more than the kernel keeps, some 300
MARGIN = 3.0  # seconds before Lambda's own deadline at which a task is stopped


class Stopped(Exception):
    """The task must not run any more; `kind` is that of the failure."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Ended(NamedTuple):
    """How a task's process ended.

    Args:
        reason: why it was stopped, as a failure's kind; empty if it was not.
        report: where in the answer's file its report lies; None if there is none.
        status: as `os.wait` has it; None if its fork server was lost.
        peak: MB of memory.
    """

    reason: str
    report: Optional[List[int]]
    status: Optional[int]
    peak: int


class Orders:
    """Looks for the executor's orders in S3, in a thread, once the task has run for a while.

    Args:
        client: makes an S3 client that gives up soon.
        bucket: where orders may appear; empty: none can.
        task_id, secret: the request's; what is left in S3 is sealed with its `key`.
        began: the time of the task's beginning, as `time.monotonic` has it.
    """

    def __init__(
        self, client: Callable[[], Any], bucket: str, task_id: str, secret: str, began: float
    ) -> None:
        self._make_client, self._bucket = client, bucket
        self._task_id, self._secret = task_id, secret
        self._first = began + FIRST_LOOK
        self._thread: Optional[threading.Thread] = None
        self._ended = threading.Event()
        self._acknowledged = ""
        self._client: Any = None
        self.cancelled = False
        self.heard: Optional[socket.socket] = None

    @property
    def reported(self) -> bool:
        """Whether the executor has lost its connection, and was told that the task runs."""
        return bool(self._acknowledged)

    def asked_since(self) -> bool:
        """Whether the executor has lost its connection since the last look; a request to S3.

        A task may end between two looks, and its answer go the way that is lost.
        """
        if self._client is None or self.cancelled:
            return False
        try:
            return self._order(self._client).partition(" ")[0] == wire.REPORT
        except Exception:  # as with any look; the answer itself is on its way
            return False

    def waiting(self) -> Optional[float]:
        """The time at which `start` is due; None if it is not any more."""
        return self._first if self._bucket and self._thread is None else None

    def start(self) -> None:
        """Begin to look; later, while the task holds all threads or descriptors there may be."""
        with contextlib.ExitStack() as opened:
            try:
                heard, say = map(opened.enter_context, socket.socketpair())
                thread = threading.Thread(
                    target=self._look, args=(say,), name="orders", daemon=True
                )
                thread.start()
            except (RuntimeError, OSError) as error:
                log(f"cannot look for orders, trying again: {error}")
                self._first = time.monotonic() + _LOOK_EVERY
            else:
                self.heard, self._thread = heard, thread
                opened.pop_all()

    def close(self) -> None:
        """Stop looking; a request under way is not waited for."""
        self._ended.set()
        if self.heard is not None:
            self.heard.close()

    def _look(self, say: socket.socket) -> None:
        pause = _LOOK_EVERY
        while not self._ended.is_set():
            try:
                self._client = self._client or self._make_client()
                self._follow(self._client, self._order(self._client))
                pause = _LOOK_EVERY
            except Exception as error:
                log(f"cannot look for orders in bucket {self._bucket}, trying again: {error}")
                pause = min(2 * pause, _LOOK_AT_LEAST_EVERY)
            if self.cancelled:
                break
            self._ended.wait(pause)
        with contextlib.suppress(OSError):
            say.send(b"!")
        say.close()

    def _order(self, client: Any) -> str:
        key = wire.task_key(self._task_id, wire.ORDER)
        try:
            body = client.get_object(Bucket=self._bucket, Key=key)["Body"]
        except Exception as error:
            response: Any = getattr(error, "response", None) or {}
            if response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                return ""
            raise
        return str(body.read(1024).decode("utf-8", "replace"))

    def _follow(self, client: Any, order: str) -> None:
        if order == wire.CANCEL:
            self.cancelled = True
        elif order.partition(" ")[0] == wire.REPORT and order != self._acknowledged:
            key = wire.task_key(self._task_id, wire.RUNNING)
            client.put_object(Bucket=self._bucket, Key=key, Body=wire.seal(order, self._secret))
            self._acknowledged = order


class Guard:
    """The clock and the orders of one invocation.

    Args:
        deadline: the time at which its task is stopped, as `time.monotonic` has it.
        orders: what its executor may say meanwhile.
    """

    def __init__(self, deadline: float, orders: Orders) -> None:
        self.deadline, self.orders = deadline, orders

    def left(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()

    def due(self) -> str:
        """Why the task must be stopped now, as a failure's kind; empty if it need not be."""
        first = self.orders.waiting()
        if first is not None and time.monotonic() >= first:
            self.orders.start()
        if self.orders.cancelled:
            return wire.CANCELLED
        return wire.DEADLINE if self.left() <= 0 else ""

    def check(self) -> None:
        """Raise Stopped if the task must be stopped now."""
        reason = self.due()
        if reason:
            raise Stopped(reason)

    def within(self, work: Callable[[], Any], seconds: Optional[float] = None) -> Any:
        """What `work` returns, from a thread; a silent network must not keep the task alive.

        Args:
            work: what to do.
            seconds: how long it may take; None: as long as the task may.

        Raises:
            Stopped: if it took too long, or was cancelled.
        """
        done: List[Any] = []

        def run() -> None:
            try:
                done.append((work(), None))
            except BaseException as error:
                done.append((None, error))

        thread: Optional[threading.Thread] = None
        until = None if seconds is None else time.monotonic() + seconds
        give_up = time.monotonic() + _THREAD_WITHIN
        while not done:
            thread = thread or _started(run, give_up)
            if thread is None:  # processes that were killed hold all threads until they are gone
                time.sleep(0.05)
            else:
                thread.join(0.05)
            late = until is not None and time.monotonic() > until
            reason = (wire.DEADLINE if late else "") if until is not None else self.due()
            if reason and not done:
                raise Stopped(reason)
        value, error = done[0]
        if error is not None:
            raise error
        return value

    def watch(self, children: List[Child]) -> List[Ended]:
        """Wait for the end of the task that `children`, of one server, run; or bring it about.

        Where their fork server has ended, or says nothing, that is the end of the task.
        """
        return _Watch(self, children).run()


class _Watch:
    """Processes of one task being watched."""

    def __init__(self, guard: Guard, children: List[Child]) -> None:
        self._guard, self._server = guard, children[0].server
        self._watched = [_Watched(guard, child) for child in children]
        self._poll = select.poll()
        self._sources: Dict[int, Callable[[], bool]] = {}
        self._sources[self._server.control.fileno()] = self._take_news
        for watched in self._watched:
            self._sources.update(watched.sources)
        for fd in self._sources:
            self._poll.register(fd, select.POLLIN)
        self._listen()

    def run(self) -> List[Ended]:
        is_lost = False
        try:
            self._wait()
        except ServerLost:
            is_lost = True
        return [watched.ended(is_lost) for watched in self._watched]

    def _wait(self) -> None:
        while not all(watched.over for watched in self._watched):
            for fd, _ in self._poll.poll(self._pause()):
                if not self._sources[fd]():
                    self._poll.unregister(fd)
            self._guard.due()
            self._listen()
            for watched in self._watched:
                if not watched.over:
                    watched.act()

    def _listen(self) -> None:
        heard = self._guard.orders.heard
        if heard is not None and heard.fileno() not in self._sources:
            self._sources[heard.fileno()] = lambda: False  # only to look whether there is news
            self._poll.register(heard.fileno(), select.POLLIN)

    def _take_news(self) -> bool:
        self._server.take()
        return True

    def _pause(self) -> float:
        """Milliseconds until there is something to do."""
        times = [at for watched in self._watched if not watched.over for at in watched.times()]
        first_look = self._guard.orders.waiting()
        if first_look is not None:
            times.append(first_look)
        return max(0.0, 1000 * (min(times) - time.monotonic()) + 1) if times else 60_000.0


class _Watched:
    """One process being watched."""

    def __init__(self, guard: Guard, child: Child) -> None:
        self._guard, self._child = guard, child
        self._reason = ""
        self._report: Optional[List[int]] = None
        self._done = False
        self._end: Optional[Dict[str, Any]] = None  # its server forgets it once all is tidied
        self._peak = 0
        # What is to be done at which time; the next one last.
        self._steps: List[Any] = []
        self.sources: Dict[int, Callable[[], bool]] = {
            child.stdout.fd: child.stdout.take,
            child.stderr.fd: child.stderr.take,
            child.channel.fileno(): self._take_words,
        }

    @property
    def over(self) -> bool:
        """Whether it has ended, or has said all there is."""
        self._end = self._end or self._child.end
        return self._done or self._end is not None

    def ended(self, is_lost: bool) -> Ended:
        """How it ended.

        Args:
            is_lost: whether its fork server is lost, by which nobody can tell.
        """
        self._kill()  # it says that it ends by itself, but what says so is the task's
        self._child.stdout.drain()
        self._child.stderr.drain()
        self._take_words(_LAST_WORDS)  # it may have said them while its end was told
        self._child.leave()
        unknown: Dict[str, Any] = {"status": None if is_lost else 0, "peak": 0}
        end = self._end or self._child.end or unknown
        reason = self._reason or (self._guard.due() if is_lost else "")
        return Ended(reason, self._report, end["status"], max(self._peak, end["peak"]))

    def times(self) -> List[float]:
        """When there may be something to do."""
        times = [self._steps[-1][0]] if self._steps else []
        return [*times, self._guard.deadline] if self._stoppable() else times

    def act(self) -> None:
        """Do what is due."""
        due = self._guard.due()
        if due and self._stoppable():
            self._reason = due
            self._child.interrupt()
            self._plan((_DUMP_AFTER, self._dump), (_KILL_AFTER, self._kill))
        elif self._steps and time.monotonic() >= self._steps[-1][0]:
            self._steps.pop()[1]()

    def _take_words(self, most: int = _WORDS) -> bool:
        """The process says that there is a report, then that it ends; or closes its channel."""
        words: Optional[Dict[str, Any]] = {}
        for _ in range(most):  # its electron may go on for ever: then there is a next time
            words = self._child.said()
            if not words:
                break
            if "report" in words:
                self._report = _numbers(words["report"], 2)
            else:
                # Its memory may take a while to be freed; the next task will wait for it.
                self._done = words.get("alone") is True and self._report is not None
                self._peak = min(_MEMORY, (_numbers([words.get("peak")], 1) or [0])[0])
        if not self._reason and not self._steps:
            self._plan((_LEAVE_WITHIN, self._kill))
        return words is not None

    def _plan(self, *steps: Any) -> None:
        """Do the steps, each after so many seconds, while the process does not end."""
        now = time.monotonic()
        last = (_CONTINUE_AFTER, self._continue), (_GIVE_UP_AFTER, self._lose)
        self._steps = [(now + after, step) for after, step in (*steps, *last)][::-1]

    def _stoppable(self) -> bool:
        return not self._reason and self._report is None

    def _dump(self) -> None:
        self._child.signal(task_child.DUMP)

    def _kill(self) -> None:
        if self._end is None:  # else its id may be another process's
            self._child.signal(signal.SIGKILL)

    def _continue(self) -> None:
        self._child.server.go_on()  # the task may have stopped it

    def _lose(self) -> None:
        raise ServerLost


def _numbers(said: Any, count: int) -> Optional[List[int]]:
    """As many numbers as there should be; None if that is not what a task's process has said."""
    right = isinstance(said, list) and len(said) == count
    return said if right and all(type(x) is int and x >= 0 for x in said) else None


def _started(run: Callable[[], None], give_up: float) -> Optional[threading.Thread]:
    """A thread that runs `run`; None if there can be none now.

    Raises:
        RuntimeError: if there can be none, and the time is `give_up` or later.
    """
    thread = threading.Thread(target=run, name="work", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        if time.monotonic() >= give_up:
            raise
        return None
    return thread


def log(message: str) -> None:
    """Write a line to the function's log, whatever control characters are in the message."""
    with contextlib.suppress(OSError):
        os.write(2, f"[covalent] {wire.on_one_line(message)}\n".encode("utf-8", "replace"))
