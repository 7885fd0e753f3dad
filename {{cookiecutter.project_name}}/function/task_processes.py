"""The parent's hold on the processes of an environment: servers, spares, the task's own.

Processes ─┬─ root   (Server)  never imports anything
           ├─ plain  (Server)  a branch of the root for electrons that need no packages; imports
           │                   what these need of the standard library
           ├─ warm   (Server)  a branch of the root for all others; imports what they need
           └─ spares (Child)   one forked ahead from each of plain and warm

Plain and warm are replaced when they are lost, hang, or an import left threads in them.
"""

import array
import contextlib
import json
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, FrozenSet, Iterable, List, Optional, Set

import task_channel as channels
import task_child
import task_modules
import task_server
from task_streams import Stream

_ANSWERS_WITHIN = 5.0  # seconds; an import may take as long as its task has
_LOOKS_EVERY = 0.1  # seconds: whether what takes long is still wanted
_LEARNED_WITHIN = 60.0  # seconds in which electrons wait for what one before had imported
_TIDIED_WITHIN = 30.0  # seconds; tasks may leave hundreds of thousands of files
_STACKS = 100_000  # bytes
_WORDS = 4096  # bytes of what a task's process says at a time
_OWN = os.path.dirname(os.path.abspath(__file__))
_PACKET = 96 * 1024  # bytes of a task that travel in one packet
_KINDS = _PLAIN, _WARM = "plain", "warm"  # of servers that electrons' processes come from


class EnvironmentFailed(Exception):
    """This environment cannot run electrons; the message says what is wrong."""


class ServerLost(EnvironmentFailed):
    """A server has ended, or does not answer; another one may be able to take its place."""

    def __init__(self) -> None:
        super().__init__("its fork server has ended")


class Reply:
    """A server's answer to an order, once it is there."""

    message: Optional[Dict[str, Any]] = None


def within(seconds: float, until: float = math.inf) -> Callable[[], None]:
    """A check that raises ServerLost once the time is up."""
    until = min(until, time.monotonic() + seconds)

    def check() -> None:
        if time.monotonic() >= until:
            raise ServerLost

    return check


class _Lesson:
    """Modules that an electron imported, and that a server is told to import for the next one."""

    def __init__(self, names: List[str], reply: Reply) -> None:
        self.names, self.reply = names, reply
        self._looks = 0

    def look(self) -> None:
        """An electron has waited for it a little longer.

        Raises:
            ServerLost: if electrons have waited for too long.
        """
        self._looks += 1
        if self._looks * _LOOKS_EVERY > _LEARNED_WITHIN:
            raise ServerLost


class Server:
    """The parent's end of one fork server's channel.

    Args:
        control: the channel; orders wait in it until the server is there.
        pid: tells the server's process id, when it is asked for.
        by: the server that has forked it; None for the root.
    """

    def __init__(
        self, control: socket.socket, pid: Callable[[], int], by: "Optional[Server]" = None
    ) -> None:
        self.control, self._pid, self.by = control, pid, by
        self.ended: Dict[int, Dict[str, Any]] = {}  # what was told of processes that ended
        self.unfinished: Set[int] = set()  # processes of tasks that may have left something
        self._over: Set[int] = set()  # other processes, of which nothing is left
        self._awaited: Deque[Reply] = deque()
        self._tidying: Optional[Reply] = None
        self._waited = 0.0  # seconds, by any number of electrons, for what one before left

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._pid()

    def order(self, message: Dict[str, Any], fds: Iterable[int] = ()) -> Reply:
        """Send an order; its answer comes later.

        Raises:
            ServerLost: if the server has ended.
        """
        self.tell(message, fds)
        reply = Reply()
        self._awaited.append(reply)
        return reply

    def tell(self, message: Dict[str, Any], fds: Iterable[int] = ()) -> None:
        """Send an order that is not answered.

        Raises:
            ServerLost: if the server has ended.
        """
        try:
            channels.send(self.control, message, list(fds))
        except (channels.Closed, OSError) as error:  # closed there, or here
            raise ServerLost from error

    def take(self) -> None:
        """Read one message; it blocks when there is none.

        Raises:
            ServerLost: if the server has ended.
        """
        try:
            message, _ = channels.receive(self.control)
        except (channels.Closed, OSError, ValueError) as error:
            raise ServerLost from error
        # An initializer's code may have changed what its server says.
        if not isinstance(message, dict) or not (
            self._awaited or {"ended", "tidied"} & set(message)
        ):
            raise ServerLost
        if not all(isinstance(message.get(x, 0), int) for x in ("ended", "tidied", "pid")):
            raise ServerLost
        if "ended" in message:
            self.ended[message["ended"]] = message
        elif "tidied" in message:
            self.ended.pop(message["tidied"], None)
            if message["tidied"] in self.unfinished:
                self.unfinished.discard(message["tidied"])
            else:
                self._over.add(message["tidied"])
        else:
            self.ended.pop(message.get("pid", 0), None)  # one before had the same id
            self._awaited.popleft().message = message

    def answer(self, reply: Reply, seconds: float = _ANSWERS_WITHIN) -> Dict[str, Any]:
        """Wait for an answer.

        Raises:
            ServerLost: if there is none within `seconds`.
            EnvironmentFailed: if the server could not do it.
        """
        return self.await_answer(reply, within(seconds))

    def await_answer(self, reply: Reply, check: Callable[[], object]) -> Dict[str, Any]:
        """Wait for an answer that may take long.

        Args:
            reply: the answer.
            check: called meanwhile; what it raises ends the waiting, and the answer comes later.

        Raises:
            ServerLost: if the server has ended.
            EnvironmentFailed: if the server could not do it.
        """
        self._take_until(lambda: reply.message is not None, check)
        assert reply.message is not None
        if "error" in reply.message:
            raise EnvironmentFailed(f"no process can be started: {reply.message['error']}")
        return reply.message

    def tidy(self) -> None:
        """Have what tasks have left go, of whatever server; `finish` waits for it.

        Raises:
            ServerLost: if the server has ended.
        """
        self._tidying = self.order({"do": "tidy"})

    def finish(self, seconds: float, check: Callable[[], object]) -> None:
        """Wait until nothing is left of the tasks before.

        Args:
            seconds: how long that may take, however many waits it needs.
            check: called meanwhile; what it raises ends this wait.

        Raises:
            ServerLost: if it takes longer.
        """
        looked = time.monotonic()

        def look() -> None:
            nonlocal looked
            before, looked = looked, time.monotonic()
            # Not the time for which all this was frozen.
            self._waited += min(looked - before, 2 * _LOOKS_EVERY)
            if self._waited > seconds:
                raise ServerLost
            check()

        self._take_until(self._has_finished, look)
        self._waited, self._tidying = 0.0, None

    def _has_finished(self) -> bool:
        is_tidy = self._tidying is None or self._tidying.message is not None
        return is_tidy and not self.unfinished

    def check(self) -> None:
        """Look whether the server is there.

        Raises:
            ServerLost: if it has ended.
        """
        poll = select.poll()
        poll.register(self.control, 0)  # tells of a hang-up alone
        if poll.poll(0):
            raise ServerLost

    def expect_end_of(self, pid: int) -> None:
        """Have `finish` wait until nothing is left of a server that this one has forked.

        Args:
            pid: that server's process id.
        """
        if pid in self._over:
            self._over.discard(pid)
        else:
            self.unfinished.add(pid)

    def wait_for_end_of(self, pid: int, seconds: float, until: float = math.inf) -> None:
        """Wait until nothing is left of a server that this one has forked; no task may run.

        Args:
            pid: that server's process id.
            seconds: how long its end may take, and then the removal of files.
            until: the time by which both must be done, as `time.monotonic` has it.

        Raises:
            ServerLost: if that takes longer.
        """
        self.expect_end_of(pid)
        self._take_until(lambda: pid not in self.unfinished, within(seconds, until))
        self.await_answer(self.order({"do": "tidy"}), within(seconds, until))

    def _take_until(self, is_there: Callable[[], bool], check: Callable[[], object]) -> None:
        """Read messages until something is there, or `check`, called before each wait, raises."""
        while not is_there():
            check()
            if select.select([self.control], [], [], _LOOKS_EVERY)[0]:
                self.take()
            else:
                self.go_on()

    def go_on(self) -> None:
        """Have the server continue if an electron has stopped it."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Let go of the server: it ends, with all that it has forked."""
        self.control.close()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Send the server a signal, by way of the one that has forked it.

        If the server has ended, its id may be another process's. Only whoever waits for its end
        knows.
        """
        if self.by is None:  # forked by this process, which never waits for it: its id is its own
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)
            return
        self.by.go_on()  # an electron may have stopped that one, too
        order = {"do": "signal", "pid": self.pid, "number": number}
        with contextlib.suppress(channels.Closed, OSError):  # it has ended, and this one with it
            channels.send(self.by.control, order, flags=socket.MSG_DONTWAIT)


class Child:
    """A process for one task, and the parent's ends of all that connects them."""

    def __init__(self, server: Server, number: int, folder: str) -> None:
        self.server, self._number = server, number
        self._has_task = False
        self.stdout, self.stderr = Stream(), Stream()
        self.answer, self.stacks = channels.memory_file(folder), channels.memory_file(folder)
        self.channel, theirs = channels.pair()
        writers = self.stdout.writer, self.stderr.writer
        fds = theirs.fileno(), *writers, self.answer, self.stacks
        try:
            self._forked = server.order({"do": "fork", "number": number}, fds)
        except ServerLost:
            self.close()
            raise
        finally:
            theirs.close()
            for fd in writers:
                os.close(fd)

    @property
    def pid(self) -> int:
        """The process's id; it blocks until there is one.

        Raises:
            EnvironmentFailed: if there is none.
        """
        return int(self.server.answer(self._forked)["pid"])

    @property
    def end(self) -> Optional[Dict[str, Any]]:
        """What the server told of its end; None while it runs."""
        reply = self._forked.message
        return self.server.ended.get(reply["pid"]) if reply and "pid" in reply else None

    def send(self, body: "Body") -> None:
        """Hand the task over.

        Raises:
            channels.Closed: if the process has ended before.
        """
        pid = self.pid
        self.signal(signal.SIGCONT)  # a task before this one may have stopped it
        self.server.unfinished.add(pid)
        try:
            body.send(self.channel)
        except BaseException:
            self.server.unfinished.discard(pid)
            raise
        self._has_task = True

    def interrupt(self) -> None:
        """Ask the process to end its task."""
        with contextlib.suppress(channels.Closed, OSError):
            # Said as well, so that a signal of the task's own ends nothing.
            self.channel.setblocking(False)
            channels.send(self.channel, {"stop": True})
        self.signal(task_child.INTERRUPT)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it has not ended."""
        if self.end is None:
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)

    def said(self) -> Optional[Dict[str, Any]]:
        """What the process says; empty if it says nothing, None if it never will."""
        try:
            # Without room for descriptors: a task could use up the parent's.
            said = self.channel.recv(_WORDS, socket.MSG_DONTWAIT)
            message = json.loads(said) if said else None
            return message if isinstance(message, dict) else None
        except BlockingIOError:
            return {}
        except (OSError, ValueError, RecursionError):
            return None

    def stacks_text(self) -> str:
        """What faulthandler wrote: where each thread was when the process crashed, or resisted."""
        size = os.fstat(self.stacks).st_size
        text = channels.read_at(self.stacks, min(size, _STACKS), 0).decode("utf-8", "replace")
        lines, ours = [], False
        for line in text.splitlines(keepends=True):
            # The innermost frame comes first, so that this project's own are the last ones.
            ours = line.startswith("  ") and (ours or f'File "{_OWN}/task_' in line)
            lines += [] if ours else [line]
        return "".join(lines)

    def leave(self) -> None:
        """Have nothing stay of the task, once its process has ended.

        The server waits for this: by itself it would tidy up whenever a process ends, and an
        electron could end one while another electron's files are there.
        """
        if self._has_task:
            self._has_task = False
            with contextlib.suppress(ServerLost):
                self.server.tell({"do": "leave", "number": self._number})

    def drop(self) -> None:
        """End a process that was not needed, before its server follows any other order."""
        with contextlib.suppress(ServerLost):
            self.server.order({"do": "drop", "number": self._number})
        self.close()

    def close(self) -> None:
        """Close the parent's ends, and end a task that nobody watches any more."""
        if self._has_task:
            self.signal(signal.SIGKILL)
        self.leave()
        self.channel.close()
        for stream in (self.stdout, self.stderr):
            stream.close()
        for fd in (self.answer, self.stacks):
            os.close(fd)


class Body:
    """The bytes of a task's parts on their way to its process."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._pieces: List[bytes] = []
        self._size = 0
        self.memory: Optional[int] = None
        self._is_closed = False
        self._lock = threading.Lock()  # of the two above: a thread for S3 may come late
        self._turns: Optional[int] = None
        self._head: Dict[str, Any] = {}
        self._packet = b""

    def add(self, data: bytes) -> List[Any]:
        """Take `data` in; the part that it is from now on."""
        self._pieces.append(data)
        self._size += len(data)
        return [task_child.PACKET, self._size - len(data), len(data)]

    def in_memory(self) -> int:
        """A descriptor, the caller's to close, of a file in memory, for what is too large for the
        cache. The task's own may be closed meanwhile, and its number another file's.

        Raises:
            ValueError: if the task's files are closed: nobody waits for what is fetched any more.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the task for which this is fetched is over")
            if self.memory is None:
                self.memory = channels.memory_file(self._folder)
            return os.dup(self.memory)

    def in_turns(self, count: int) -> None:
        """Have processes share the task: whoever reads a number of this file, has its turn."""
        self._turns = channels.memory_file(self._folder)
        channels.write_all(self._turns, array.array("I", range(count)).tobytes())
        os.lseek(self._turns, 0, os.SEEK_SET)

    def close_with(self, order: bytes) -> None:
        """Take the order in, after which nothing is added."""
        part = self.add(order)
        packet = b"".join(self._pieces)
        self._head = {"order": part, "packet": self._size, "size": 0}
        if self._size <= _PACKET:
            self._packet = packet
        else:
            with open(self.in_memory(), "wb", buffering=0) as file:
                base = file.seek(0, os.SEEK_END)
                channels.write_all(file.fileno(), packet)
            self._head = {"order": part, "base": base, "size": self._size}
        self._head.update(memory=self.memory is not None, turns=self._turns is not None)

    def send(self, channel: socket.socket) -> None:
        """Send all of it to a process; as often as there are processes.

        Raises:
            channels.Closed: if the process has ended.
        """
        channels.send(
            channel, self._head, [x for x in (self.memory, self._turns) if x is not None]
        )
        if self._packet:
            try:
                channel.sendall(self._packet)
            except ConnectionError as error:
                raise channels.Closed from error

    def close(self) -> None:
        """Close the files in memory."""
        with self._lock:
            self._is_closed = True
            for fd in (self.memory, self._turns):
                if fd is not None:
                    os.close(fd)


class Processes:
    """The servers and the spares of one environment. Not for use by several threads.

    Args:
        settings: of the environment.

    Raises:
        OSError: if there can be no process.
    """

    def __init__(self, settings: task_server.Settings) -> None:
        self._settings = settings
        self._start = _tops(sys.modules)  # what all servers hold
        self._root = _rooted(settings)
        self._servers: Dict[str, Server] = {}  # branches of the root, by kind
        self._spares: Dict[str, Child] = {}
        self._number = 0
        self._image: Optional[FrozenSet[str]] = None
        # By kind of server: names that were looked at, modules that it holds, what electrons have
        # imported since, and what of that it is importing.
        self._asked: Dict[str, Set[str]] = {kind: set() for kind in _KINDS}
        self._wanted: Dict[str, List[str]] = {kind: [] for kind in _KINDS}
        self._heard: Dict[str, List[str]] = {kind: [] for kind in _KINDS}
        self._lessons: Dict[str, _Lesson] = {}
        self._barred: Set[str] = set()  # modules that leave threads, never end, or end servers
        self._hiding = False  # whether electrons need modules that their pickles do not name
        self._is_tidy = True  # whether nothing is left of a server that was ended
        self._server(_PLAIN)
        self.fork_ahead()

    def finish(self, check: Callable[[], object]) -> None:
        """Wait until nothing is left of the tasks before; then have servers import what these did.

        Not earlier: an import reads files and starts programs, which a task could have left.

        Args:
            check: called meanwhile; what it raises ends that, and the next call goes on with it.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self._root.finish(_TIDIED_WITHIN, check)
        lost = []
        for kind, server in self._servers.items():
            try:
                server.finish(_TIDIED_WITHIN, check)
            except ServerLost:
                lost.append(kind)
        for kind in lost:
            self._replace(kind)
        if not self._is_tidy:
            self._root.tidy()
            self._is_tidy = True  # from here on, `finish` of the root waits for it
            self._root.finish(_TIDIED_WITHIN, check)
        self._teach()

    def take(
        self,
        names: Set[str],
        mentioned: Optional[Set[str]],
        hidden: FrozenSet[str],
        seconds: float,
        check: Callable[[], object],
    ) -> Child:
        """A process for a task that needs the modules `names`.

        Args:
            names: strings that may be modules of the image; others are left out.
            mentioned: all strings of the task that may be; None if not all could be looked at.
            hidden: top-level modules that the task has in another version than the image.
            seconds: how long imports of these may take.
            check: called while imports for a task before take long; what it raises ends that.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self.bring(names, hidden, seconds, check)
        if hidden & _tops(self._wanted[_WARM]):
            return self.forked(self._root)
        kind = _WARM if self._hiding or self._needs_packages(mentioned) else _PLAIN
        try:
            return self._ready(kind)
        except ServerLost:  # something has ended it since
            self._replace(kind)
            return self._ready(kind)

    def bring(
        self,
        names: Set[str],
        hidden: FrozenSet[str],
        seconds: float,
        check: Callable[[], object],
    ) -> List[str]:
        """Have the warm server hold modules; those that it did not hold before.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self._learned(check)
        fresh = self._new(names, hidden)
        self._import(fresh, seconds)
        return fresh

    def branch(self) -> Server:
        """Another server, like the warm one, and gone with it.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        try:
            self._server(_WARM).check()
            return self._branched(self._server(_WARM))
        except ServerLost:  # something has ended it since
            self._replace(_WARM)
            return self._branched(self._server(_WARM))

    def keep(self, number: Optional[int]) -> None:
        """Have the folder of an initializer, and what that left in /tmp, stay there.

        Args:
            number: of the folder; None: all of it goes with what tasks leave.
        """
        with contextlib.suppress(ServerLost):
            self._root.order({"do": "keep", "number": number})

    def end_branch(self, server: Server) -> None:
        """End a server that `branch` made; `finish` waits until nothing is left of it."""
        self._is_tidy = False
        server.end()
        warm = self._servers.get(_WARM)
        # Else it has ended with the warm server before.
        if warm is not None and warm is server.by:
            with contextlib.suppress(EnvironmentFailed):  # it was never there
                warm.expect_end_of(server.pid)

    def bare(self) -> Child:
        """A process that nothing was imported into.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        return self.forked(self._root)

    def fork_ahead(self) -> None:
        """Have spares made where there are none, without waiting for them."""
        for kind, server in self._servers.items():
            if kind not in self._spares:
                with contextlib.suppress(ServerLost):
                    self._spares[kind] = self.child(server)

    def learn(self, names: List[str], server: Server) -> None:
        """Note modules that an electron imported: they will be warm for the next one.

        Args:
            names: the modules.
            server: that has forked the electron's process.
        """
        kind = _PLAIN if server is self._servers.get(_PLAIN) else _WARM
        if kind == _PLAIN and self._needs_packages(set(names)):
            self._hiding, kind = True, _WARM
        self._heard[kind] += names

    def lost(self, server: Server, seconds: float) -> None:
        """A server does not answer: replace it.

        Args:
            server: the one.
            seconds: how long that may take.

        Raises:
            EnvironmentFailed: if it is the root, which nothing can replace, or it takes longer.
        """
        if server is self._root:
            raise EnvironmentFailed("what it ran, or the system, has ended its fork server")
        for kind, known in list(self._servers.items()):
            if known is server:
                self._replace(kind, time.monotonic() + seconds)

    # -- imports ------------------------------------------------------------------------------

    def _packages(self) -> FrozenSet[str]:
        """Top-level modules of the image that not all servers hold."""
        if self._image is None:
            self._image = task_modules.of_image(self._settings.path) - self._start
        return self._image

    def _needs_packages(self, mentioned: Optional[Set[str]]) -> bool:
        return mentioned is None or not self._packages().isdisjoint(_tops(mentioned))

    def _new(self, names: Set[str], hidden: FrozenSet[str]) -> List[str]:
        packages = self._packages() - hidden
        fresh = names - self._asked[_WARM]
        needed = sorted(x for x in fresh if _top(x) in packages and self._may_import(x))
        return needed[: task_modules.MOST]

    def _may_import(self, name: str) -> bool:
        return task_modules.may_be_taught(name) and not self._is_barred(name)

    def _is_barred(self, name: str) -> bool:
        return any(name == x or name.startswith(f"{x}.") for x in self._barred)

    def _import(self, names: List[str], seconds: float) -> None:
        if names:
            try:
                answer = self._server(_WARM).answer(self._told_to_import(names, _WARM), seconds)
                self._settled(answer, _WARM)
            except ServerLost:
                self._bar(names, _WARM)

    def _told_to_import(self, names: List[str], kind: str) -> Reply:
        self._drop_spare(kind)
        self._asked[kind].update(names)
        self._wanted[kind] += names
        return self._server(kind).order({"do": "import", "names": names})

    def _teach(self) -> None:
        """Have servers import what electrons did, without waiting."""
        for kind, heard in self._heard.items():
            if kind in self._lessons:
                continue  # the last one is late: one at a time
            asked = self._asked[kind]
            fresh = [x for x in dict.fromkeys(heard) if x not in asked and self._may_import(x)]
            heard.clear()
            if fresh:
                with contextlib.suppress(ServerLost):
                    told = self._told_to_import(fresh[: task_modules.MOST], kind)
                    self._lessons[kind] = _Lesson(fresh, told)
                self.fork_ahead()

    def _learned(self, check: Callable[[], object]) -> None:
        """Take the answers to what `_teach` asked for: no task runs while a server imports, as it
        could write what that reads.

        One that is late for this task, by what `check` raises, is there for the next one.
        """
        for kind, lesson in list(self._lessons.items()):

            def look(lesson: _Lesson = lesson) -> None:
                check()
                lesson.look()

            try:
                answer = self._servers[kind].await_answer(lesson.reply, look)
            except ServerLost:
                self._bar(lesson.names, kind)
            else:
                del self._lessons[kind]
                self._settled(answer, kind)

    def _settled(self, answer: Dict[str, Any], kind: str) -> None:
        if answer["threads"]:
            self._bar([answer["threads"]], kind)

    def _bar(self, names: List[str], kind: str) -> None:
        """Leave modules to the children: a server that imports them cannot fork any more."""
        self._barred.update(names)
        self._replace(kind)

    def _replace(self, kind: str, until: float = math.inf) -> None:
        """Have a new server of a kind, with the modules that do no harm.

        Args:
            kind: which.
            until: the time at which it must be there, as `time.monotonic` has it.

        Raises:
            EnvironmentFailed: if it is not.
        """
        self._drop_spare(kind)
        lesson = self._lessons.pop(kind, None)
        if lesson is not None and lesson.reply.message is None:
            self._barred.update(lesson.names)  # what has ended it, or holds it up, may be there
        server = self._servers.pop(kind, None)
        if server is not None:
            server.end()
            self._root.wait_for_end_of(server.pid, _TIDIED_WITHIN, until)
        wanted = [x for x in self._wanted[kind] if not self._is_barred(x)]
        wanted = wanted[-task_modules.MOST :]  # as many as one order holds
        self._wanted[kind] = wanted
        if wanted:
            server = self._server(kind)
            left = min(60.0, until - time.monotonic())
            try:
                answer = server.answer(server.order({"do": "import", "names": wanted}), left)
            except ServerLost:
                if time.monotonic() >= until:
                    raise
                self._bar(wanted, kind)
            else:
                self._settled(answer, kind)

    # -- processes ----------------------------------------------------------------------------

    def _server(self, kind: str) -> Server:
        if kind not in self._servers:
            self._servers[kind] = self._branched(self._root)
        return self._servers[kind]

    @staticmethod
    def _branched(server: Server) -> Server:
        ours, theirs = channels.pair()
        with theirs:
            born = server.order({"do": "branch"}, [theirs.fileno()])
        # Not waited for: a cold start has other things to do meanwhile.
        return Server(ours, lambda: int(server.answer(born)["pid"]), server)

    def _ready(self, kind: str) -> Child:
        """The spare of a kind; a new process where there is none.

        Raises:
            ServerLost: if its server has ended. The spare dies then, but may still take a task.
        """
        if kind in self._spares:
            self._server(kind).check()
            try:
                return self._born(self._spares.pop(kind))
            except ServerLost:
                raise
            except EnvironmentFailed:
                pass  # the task before held all processes that there may be; it is gone by now
        return self.forked(self._server(kind))

    def child(self, server: Server) -> Child:
        """A process that `server` is asked to fork."""
        return Child(server, self.number(), self._settings.folder)

    def number(self) -> int:
        """The next one: it names the folder of a process."""
        self._number += 1
        return self._number

    def forked(self, server: Server) -> Child:
        """A process that `server` has forked.

        Raises:
            EnvironmentFailed: if there is none.
        """
        return self._born(self.child(server))

    @staticmethod
    def _born(child: Child) -> Child:
        try:
            _ = child.pid
        except BaseException:
            child.close()
            raise
        return child

    def _drop_spare(self, kind: str) -> None:
        spare = self._spares.pop(kind, None)
        if spare is not None:
            spare.drop()


def _top(name: str) -> str:
    return name.partition(".")[0]


def _tops(names: Iterable[str]) -> Set[str]:
    return {_top(name) for name in names}


def _rooted(settings: task_server.Settings) -> Server:
    settings.lay_out()
    ours, theirs = channels.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            task_server.become_root(theirs, settings)
        finally:
            os._exit(1)
    theirs.close()
    return Server(ours, lambda: pid)
