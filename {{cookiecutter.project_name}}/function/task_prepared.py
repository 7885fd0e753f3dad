"""The fork server in which an initializer has run, so that what it left is there for each call.

    warm server ──► prepared server ──► children of batches
                     the initializer, once

It is a branch of the warm server, for the initializer that was asked for last; what that does to
its process reaches only calls that asked for it. An initializer that leaves threads or processes
behind runs in each batch's process instead: a process with threads must not fork.
"""

import contextlib
import os
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set

import task_channel as channels
import wire
from task_processes import Body, Child, Processes, Reply, Server, ServerLost, within

_FINISHED_WITHIN = 30.0  # seconds: of the batch before
_IMPORTED_WITHIN = 60.0  # what takes longer is left to the calls
_REMEMBERED = 100  # initializers that leave threads
_LARGEST_FAILURE = 2 * 1024 * 1024  # bytes, of JSON: text and traceback have 100 KB each

_ENDED = (
    "The initializer failed, so no call ran: it ended its process, or the system did (out of "
    "memory, a crash in C)."
)


class SetupFailed(Exception):
    """The initializer failed; `failure` has the fields of a `wire.Failure`."""

    def __init__(self, failure: Dict[str, Any]) -> None:
        super().__init__(failure["message"])
        self.failure = failure


class Prepared:
    """The prepared server of an environment, made when it is needed.

    The mutable state is the server with its spare, and which initializers cannot have one.

    Args:
        processes: of the environment.
        folder: the environment's own.
    """

    def __init__(self, processes: Processes, folder: str) -> None:
        self._processes, self._folder = processes, folder
        self._initializer = ""  # the digest of the one that has run
        self._server: Optional[Server] = None
        self._spare: Optional[Child] = None
        self._unfit: List[str] = []
        self._number = 0  # of its folder

    def keep_for(self, initializer: str) -> None:
        """End the server if its initializer has another digest: code of its own may run in it, by
        a timer, while another electron does."""
        if self._server is not None and initializer != self._initializer:
            self.drop()

    def finish(self, check: Callable[[], object]) -> None:
        """Wait until nothing is left of the batch before, or `check`, called meanwhile, raises."""
        if self._server is not None:
            try:
                self._server.finish(_FINISHED_WITHIN, check)
            except ServerLost:
                self.drop()

    def child(
        self,
        initializer: str,
        setup: Callable[[], Body],
        names: Set[str],
        hidden: FrozenSet[str],
        seconds: float,
        check: Callable[[], object],
    ) -> Optional[Child]:
        """A process in which an initializer has run; None if it must run in each.

        Args:
            initializer: the digest of it and its arguments.
            setup: its parts, on the way to a server.
            names, hidden, seconds: see `Processes.take`.
            check: called while the initializer runs, or imports do that a task before was the
                cause of; what it raises ends the waiting.

        Raises:
            SetupFailed: if the initializer failed.
            EnvironmentFailed: if there can be no process any more.
        """
        if initializer in self._unfit:
            return None
        seconds = min(seconds, _IMPORTED_WITHIN)
        fresh = self._processes.bring(names, hidden, seconds, check)
        if initializer == self._initializer:
            try:
                if self._has_imported(fresh, check):
                    return self._forked()
            except ServerLost:
                pass  # it ended, or the warm server did: once more
        self._give_way(check)
        if self._run(initializer, setup(), check):
            return self._forked()
        self._give_way(check)
        return None

    def fork_ahead(self) -> None:
        """Have a spare made, without waiting for it."""
        if self._spare is None and self._server is not None:
            with contextlib.suppress(ServerLost):
                self._spare = self._processes.child(self._server)

    def drop(self) -> None:
        """End the server, and all that its initializer left: `Processes.finish` waits for it."""
        self._drop_spare()
        server, self._server, self._initializer = self._server, None, ""
        if server is not None:
            self._processes.keep(None)
            self._processes.end_branch(server)

    def _give_way(self, check: Callable[[], object]) -> None:
        """End the server, and wait until nothing is left of it, or `check` raises."""
        self.drop()
        self._processes.finish(check)

    def _has_imported(self, names: List[str], check: Callable[[], object]) -> bool:
        """Whether the server holds the modules `names` now.

        Raises:
            ServerLost: if it has ended, or imports them for too long.
        """
        if not names or self._server is None:
            return self._server is not None
        self._drop_spare()
        reply = self._server.order({"do": "import", "names": names})
        in_time = within(_IMPORTED_WITHIN)

        def look() -> None:
            check()
            in_time()

        try:
            return not self._server.await_answer(reply, look)["threads"]
        except ServerLost:
            raise
        except BaseException:
            self.drop()  # else the next call would find it busy, and take it for ready
            raise

    def _run(self, initializer: str, setup: Body, check: Callable[[], object]) -> bool:
        """Run an initializer in a new server; whether that can fork afterwards."""
        self._server = self._processes.branch()
        try:
            answer = self._answer(self._server, setup, check)
        except ServerLost:
            self.drop()
            raise SetupFailed(vars(wire.Failure(wire.SETUP_FAILED, _ENDED))) from None
        except BaseException:
            self.drop()
            raise
        _ = self._server.pid  # told by now; the server that knows it may end later
        if answer.get("alone") is not True:
            self.drop()
            self._unfit = [*self._unfit, initializer][-_REMEMBERED:]
            return False
        self._processes.keep(self._number)
        self._initializer = initializer
        return True

    def _answer(self, server: Server, setup: Body, check: Callable[[], object]) -> Any:
        ours, theirs = channels.pair()
        said = channels.memory_file(self._folder)
        self._number = self._processes.number()
        order = {"do": "prepare", "number": self._number}
        try:
            with ours, theirs:
                reply: Reply = server.order(order, [theirs.fileno(), said])
                try:
                    setup.send(ours)
                except channels.Closed as error:
                    raise ServerLost from error
                finally:
                    setup.close()
                answer = server.await_answer(reply, check)
            if answer.get("ready") is not True:
                raise SetupFailed(told_in(said))
            return answer
        finally:
            os.close(said)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.drop()
            self._spare = None

    def _forked(self) -> Child:
        assert self._server is not None
        self._server.check()  # a spare dies with it, but may still take a task
        taken, self._spare = self._spare, None
        if taken is not None:
            with contextlib.suppress(ServerLost):
                _ = taken.pid
                return taken
            taken.close()
        return self._processes.forked(self._server)


def told_in(file: int) -> Dict[str, Any]:
    """Why an initializer failed, by the file that takes it: its code may have written anything
    there.

    Returns:
        The fields of a `wire.Failure`.
    """
    data = channels.read_at(file, _LARGEST_FAILURE, 0)
    try:
        told: wire.Failure = wire.read_as(wire.loads(data), wire.Failure, "what it told")
    except wire.EnvelopeError:
        told = wire.Failure(wire.SETUP_FAILED, _ENDED)
    told.kind = wire.SETUP_FAILED  # of others the executor would take it that it may try again
    return vars(told)
