"""The parent's hold on the processes of an environment: servers, the spare, the task's own.

Processes ─┬─ root  (Server)  never imports anything
           ├─ warm  (Server)  a branch of the root; imports what electrons need; replaced
           │                  when it is lost, hangs, or an import left threads in it
           └─ spare (Child)   forked ahead from the warm server
"""

import array
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, FrozenSet, Iterable, List, Optional, Set

import task_channel as channels
import task_child
import task_modules
import task_server
from task_streams import Stream

_ANSWERS_WITHIN = 5.0  # seconds; an import may take as long as its task has
_TIDIED_WITHIN = 30.0  # seconds; tasks may leave hundreds of thousands of files
_STACKS = 100_000  # bytes
_WORDS = 4096  # bytes of what a task's process says at a time
_OWN = os.path.dirname(os.path.abspath(__file__))
_PACKET = 96 * 1024  # bytes of a task that travel in one packet


class EnvironmentFailed(Exception):
    """This environment cannot run electrons; the message says what is wrong."""


class ServerLost(EnvironmentFailed):
    """A server has ended, or does not answer; another one may be able to take its place."""

    def __init__(self) -> None:
        super().__init__("its fork server has ended")


class Reply:
    """A server's answer to an order, once it is there."""

    message: Optional[Dict[str, Any]] = None


class Server:
    """The parent's end of one fork server's channel.

    Args:
        control: the channel; orders wait in it until the server is there.
        pid: tells the server's process id, when it is asked for.
    """

    def __init__(self, control: socket.socket, pid: Callable[[], int]) -> None:
        self.control, self._pid = control, pid
        self.ended: Dict[int, Dict[str, Any]] = {}  # what was told of processes that ended
        self.unfinished: Set[int] = set()  # processes of tasks that may have left something
        self._over: Set[int] = set()  # other processes, of which nothing is left
        self._awaited: Deque[Reply] = deque()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._pid()

    def order(self, message: Dict[str, Any], fds: Iterable[int] = ()) -> Reply:
        """Send an order; its answer comes later.

        Raises:
            ServerLost: if the server has ended.
        """
        reply = Reply()
        try:
            channels.send(self.control, message, list(fds))
        except channels.Closed as error:
            raise ServerLost from error
        self._awaited.append(reply)
        return reply

    def take(self) -> None:
        """Read one message; it blocks when there is none.

        Raises:
            ServerLost: if the server has ended, or is silent for too long.
        """
        try:
            message, _ = channels.receive(self.control)
        except (channels.Closed, OSError) as error:
            raise ServerLost from error
        if "ended" in message:
            self.ended[message["ended"]] = message
        elif "tidied" in message:
            self.ended.pop(message["tidied"], None)
            if message["tidied"] in self.unfinished:
                self.unfinished.discard(message["tidied"])
            else:
                self._over.add(message["tidied"])
        else:
            self._awaited.popleft().message = message

    def answer(self, reply: Reply, seconds: float = _ANSWERS_WITHIN) -> Dict[str, Any]:
        """Wait for an answer.

        Raises:
            ServerLost: if there is none within `seconds`.
            EnvironmentFailed: if the server could not do it.
        """
        self._take_until(lambda: reply.message is not None, seconds)
        assert reply.message is not None
        if "error" in reply.message:
            raise EnvironmentFailed(f"no process can be started: {reply.message['error']}")
        return reply.message

    def finish(self, seconds: float) -> None:
        """Wait until nothing is left of the tasks before.

        Raises:
            ServerLost: if that takes longer than `seconds`.
        """
        self._take_until(lambda: not self.unfinished, seconds)

    def wait_for_end_of(self, pid: int, seconds: float) -> None:
        """Wait until nothing is left of a server that this one has forked.

        Raises:
            ServerLost: if that takes longer than `seconds`.
        """
        self._take_until(lambda: pid in self._over, seconds)
        self._over.discard(pid)

    def _take_until(self, is_there: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not is_there():
            self.control.settimeout(max(0.001, until - time.monotonic()))
            self.take()

    def end(self) -> None:
        """Let go of the server: it ends, with all that it has forked."""
        self.control.close()
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)  # an electron may have stopped it
            os.kill(self.pid, signal.SIGKILL)


class Child:
    """A process for one task, and the parent's ends of all that connects them."""

    def __init__(self, server: Server, number: int, folder: str) -> None:
        self.server = server
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
        self.server.unfinished.add(self.pid)
        self.signal(signal.SIGCONT)  # a task before this one may have stopped it
        body.send(self.channel)

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

    def close(self) -> None:
        """Close the parent's ends; a process that was not needed ends by that."""
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
        self._turns: Optional[int] = None
        self._head: Dict[str, Any] = {}
        self._packet = b""

    def add(self, data: bytes) -> List[Any]:
        """Take `data` in; the part that it is from now on."""
        self._pieces.append(data)
        self._size += len(data)
        return [task_child.PACKET, self._size - len(data), len(data)]

    def in_memory(self) -> int:
        """The descriptor of a file in memory, for what is too large for the cache."""
        if self.memory is None:
            self.memory = channels.memory_file(self._folder)
        return self.memory

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
            base = os.lseek(self.in_memory(), 0, os.SEEK_END)
            channels.write_all(self.in_memory(), packet)
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
        for fd in (self.memory, self._turns):
            if fd is not None:
                os.close(fd)


class Processes:
    """The servers and the spare of one environment. Not for use by several threads.

    Args:
        settings: of the environment.

    Raises:
        OSError: if there can be no process.
    """

    def __init__(self, settings: task_server.Settings) -> None:
        self._settings = settings
        self._root = _rooted(settings)
        self._warm: Optional[Server] = None
        self._spare: Optional[Child] = None
        self._number = 0
        self._image: Optional[FrozenSet[str]] = None
        self._asked: Set[str] = set()  # names that were looked at
        self._wanted: List[str] = []  # modules that a warm server holds
        self._barred: Set[str] = set()  # modules that leave threads behind, or never end
        self._learning: Optional[Reply] = None
        self._lesson: List[str] = []  # what it is about
        self.fork_ahead()

    def finish(self) -> None:
        """Wait until nothing is left of the tasks before.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self._root.finish(_TIDIED_WITHIN)
        if self._warm is not None:
            try:
                self._warm.finish(_TIDIED_WITHIN)
            except ServerLost:
                self._replace()

    def take(self, names: Set[str], hidden: FrozenSet[str], seconds: float) -> Child:
        """A process for a task that needs the modules `names`.

        Args:
            names: strings that may be modules of the image; others are left out.
            hidden: top-level modules that the task has in another version than the image.
            seconds: how long imports may take.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self.bring(names, hidden, seconds)
        if hidden & {name.partition(".")[0] for name in self._wanted}:
            return self.forked(self._root)
        try:
            return self._warmed()
        except ServerLost:  # something has ended it since
            self._replace()
            return self._warmed()

    def bring(self, names: Set[str], hidden: FrozenSet[str], seconds: float) -> List[str]:
        """Have the warm server hold modules; those that it did not hold before.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        self._learned(seconds)
        fresh = self._new(names, hidden)
        self._import(fresh, seconds)
        return fresh

    def branch(self) -> Server:
        """Another server, like the warm one, and gone with it.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        return self._branched(self._warm_server())

    def keep(self, now: bool) -> None:
        """Have what an initializer left in /tmp stay there, or go with what tasks leave."""
        for server in (self._root, self._warm):
            if server is not None:
                with contextlib.suppress(ServerLost):
                    server.order({"do": "keep", "now": now})

    def end_branch(self, server: Server) -> None:
        """End a server that `branch` made; returns when nothing is left of it."""
        server.end()
        if self._warm is not None:  # one of a warm server before has ended with that
            with contextlib.suppress(ServerLost):
                self._warm.wait_for_end_of(server.pid, _TIDIED_WITHIN)

    def bare(self) -> Child:
        """A process that nothing was imported into.

        Raises:
            EnvironmentFailed: if there can be no process any more.
        """
        return self.forked(self._root)

    def fork_ahead(self) -> None:
        """Have a spare made, without waiting for it."""
        if self._spare is None:
            with contextlib.suppress(ServerLost):
                self._spare = self.child(self._warm_server())

    def learn(self, names: Iterable[str]) -> None:
        """Have modules that an electron imported warm for the next one, without waiting."""
        fresh = [x for x in names if x not in self._asked and not self._is_barred(x)]
        if fresh and self._warm is not None:
            self._asked.update(fresh)
            self._wanted += fresh
            self._drop_spare()
            with contextlib.suppress(ServerLost):
                self._learning = self._warm.order({"do": "import", "names": fresh})
                self._lesson = fresh
            self.fork_ahead()

    def lost(self, server: Server) -> None:
        """A server does not answer: replace it.

        Raises:
            EnvironmentFailed: if it is the root, which nothing can replace.
        """
        if server is self._root:
            raise EnvironmentFailed("an electron, or the system, has ended its fork server")
        if server is self._warm:
            self._replace()

    # -- imports ------------------------------------------------------------------------------

    def _new(self, names: Set[str], hidden: FrozenSet[str]) -> List[str]:
        if self._image is None:
            self._image = task_modules.of_image(self._settings.path)
        fresh = []
        for name in sorted(names - self._asked):
            top = name.partition(".")[0]
            if top in self._image and top not in hidden and not self._is_barred(name):
                fresh.append(name)
        return fresh

    def _is_barred(self, name: str) -> bool:
        return any(name == x or name.startswith(f"{x}.") for x in self._barred)

    def _import(self, names: List[str], seconds: float) -> None:
        if not names:
            return
        self._drop_spare()
        self._asked.update(names)
        self._wanted += names
        server = self._warm_server()
        try:
            self._settled(server.answer(server.order({"do": "import", "names": names}), seconds))
        except ServerLost:
            self._bar(names)

    def _learned(self, seconds: float) -> None:
        """Take the answer to what `learn` asked for."""
        asked, self._learning = self._learning, None
        if asked is None or self._warm is None:
            return
        try:
            self._settled(self._warm.answer(asked, seconds))
        except ServerLost:
            self._bar(self._lesson)

    def _settled(self, answer: Dict[str, Any]) -> None:
        if answer["threads"]:
            self._bar([answer["threads"]])

    def _bar(self, names: List[str]) -> None:
        """Leave modules to the children: a server that imports them cannot fork any more."""
        self._barred.update(names)
        self._replace()

    def _replace(self) -> None:
        """Have a new warm server, with the modules that do no harm."""
        self._drop_spare()
        if self._warm is not None:
            self._warm.end()
            self._root.wait_for_end_of(self._warm.pid, _TIDIED_WITHIN)
            self._warm = None
        self._wanted = [x for x in self._wanted if not self._is_barred(x)]
        if self._wanted:
            server = self._warm_server()
            reply = server.order({"do": "import", "names": self._wanted})
            with contextlib.suppress(ServerLost):
                self._settled(server.answer(reply, 60))

    # -- processes ----------------------------------------------------------------------------

    def _warm_server(self) -> Server:
        if self._warm is None:
            self._warm = self._branched(self._root)
        return self._warm

    @staticmethod
    def _branched(server: Server) -> Server:
        ours, theirs = channels.pair()
        with theirs:
            born = server.order({"do": "branch"}, [theirs.fileno()])
        # Not waited for: a cold start has other things to do meanwhile.
        return Server(ours, lambda: int(server.answer(born)["pid"]))

    def _warmed(self) -> Child:
        """The spare; a new process of the warm server where there is none."""
        taken, self._spare = self._spare, None
        return self._born(taken or self.child(self._warm_server()))

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

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None


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
