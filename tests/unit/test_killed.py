"""The function's processes are killed, stopped and starved at each stage; its answer says so."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aws_server
import cloudpickle
import psutil
import pytest
from function_box import PATHS, SERVING, WORKER, Function, part, request, returned
from patience import wait_until
from template_paths import FUNCTION, LAMBDA_CALLS
from tmpfs import mounted

import task_guard
import wire


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Function]:
    """A new environment."""
    with Function(tmp_path / "tmp") as running:
        yield running


def _own_pid() -> int:
    return os.getpid()


def kills(number: int, whom: str) -> None:
    """Send a signal to the task's own process, its fork server, or the handler's process."""
    import os as system

    own = system.getpid()

    def parent(pid: int) -> int:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])

    server = parent(own)
    system.kill({"task": own, "server": server}[whom], number)
    import time as clock

    clock.sleep(20)


@pytest.mark.parametrize("whom", ["task", "server"])
def test_task_and_fork_server_killed_during_the_code(fresh: Function, whom: str) -> None:
    """Killing the task's process, or its fork server, ends the call as CRASHED; the next runs."""
    response = fresh.call(kills, signal.SIGKILL, whom, task_id="one")
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert response.task_id == "one"
    assert returned(fresh.call(_own_pid)) > 0


def changed(script: str, *args: str) -> list[str]:
    """The command of an environment that `script` changes."""
    head, import_of_app, serves = WORKER.partition("import app\n")
    return [sys.executable, "-c", head + import_of_app + script + serves, *args]


LOST_FIRST = """
import select, task_guard
def watch(self, children, watch=task_guard.Guard.watch):
    select.select([children[0].server.control], [], [])  # so that nothing else is read before
    return watch(self, children)
task_guard.Guard.watch = watch
"""


def ends_its_server(also_the_root: bool) -> None:
    """Print, and end the fork server; or the root, with which all others end."""
    import os as system
    import time as clock

    server = system.getppid()
    with open(f"/proc/{server}/stat") as file:
        root = int(file.read().rpartition(")")[2].split()[1])
    print("printed before")
    system.kill(root if also_the_root else server, 9)
    clock.sleep(20)


@pytest.mark.parametrize("also_the_root", [False, True])
def test_output_before_the_end_of_the_fork_server(tmp_path: Path, also_the_root: bool) -> None:
    """What an electron printed before it ended its fork server is told, however soon that is."""
    with Function(tmp_path / "tmp", changed(LOST_FIRST)) as environment:
        response = environment.call(ends_its_server, also_the_root)
        assert response.failure is not None and response.failure.kind == wire.CRASHED
        assert "lost together with the process that had forked it" in response.failure.message
        assert response.stdout == "printed before\n"
        if not also_the_root:
            assert returned(environment.call(_own_pid)) > 0


def batch_of(count: int, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """An event: calls of a function, each with the same arguments."""
    item = cloudpickle.dumps((args, {}))
    frames = b"".join(wire.Frame(wire.ITEM, x, item).to_bytes() for x in range(count))
    sent = wire.Batch(
        task_id="dispatch-0-attempt",
        key="the attempt's key",
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        function=part(function),
        calls=wire.encode(frames),
        count=count,
    )
    event: dict[str, Any] = json.loads(sent.to_json())
    return event


def test_batch_that_ends_the_root_is_not_said_not_to_have_run(tmp_path: Path) -> None:
    """Though the environment is unfit from then on, calls ran: the answer tells of them."""
    with Function(tmp_path / "tmp", changed(LOST_FIRST)) as environment:
        answer = environment.handle(batch_of(1, ends_its_server, True))
        response = wire.Response.from_json(answer)
        assert response.failure is not None and response.failure.kind == wire.CRASHED
        assert isinstance(response.result, str)
        told = {x.kind: x.data for x in wire.frames_of(response.result)}
        assert wire.BEGUN in told and told[wire.STDOUT] == b"printed before\n"


def test_result_before_the_end_of_the_fork_server(tmp_path: Path) -> None:
    """An electron whose result is there by the time that its fork server ends has returned it."""

    def returns() -> int:
        import os
        import sys
        import time

        class Deadly:
            def flush(self) -> None:
                os.kill(os.getppid(), 9)
                time.sleep(20)

        print("printed before", flush=True)
        sys.stdout = Deadly()  # type: ignore[assignment]
        return 7

    with Function(tmp_path / "tmp", changed(LOST_FIRST)) as environment:
        response = environment.call(returns)
        assert returned(response) == 7
        assert response.stdout == "printed before\n"
        assert returned(environment.call(_own_pid)) > 0


def runs_on(started: str, leaves: bool) -> None:
    """Run on, if wanted with a process that is no longer this one's."""
    import os as system
    import subprocess as programs
    import time as clock

    if leaves:
        programs.run(["setsid", "--fork", "sleep", "600"], check=True)
    with open(f"{started}.part", "w") as file:
        file.write(str(system.getpid()))
    system.rename(f"{started}.part", started)
    clock.sleep(60)


@contextlib.contextmanager
def running_on(
    environment: Function, started: Path, leaves: bool = False
) -> Iterator[psutil.Process]:
    """The process of an electron that runs on, while the body runs."""

    def call() -> None:
        with contextlib.suppress(AssertionError, BrokenPipeError):  # without an answer
            environment.call(runs_on, str(started), leaves)

    calling = threading.Thread(target=call)
    calling.start()
    wait_until(started.exists, "the electron", 20)
    try:
        yield psutil.Process(int(started.read_text()))
    finally:
        calling.join()


@pytest.mark.parametrize("whom", ["its server", "the root"])
def test_a_task_ends_with_its_server(fresh: Function, tmp_path: Path, whom: str) -> None:
    """The kernel ends a task's process when its fork server has ended, and that with the root:
    nobody else may be left who could."""
    from sandbox.processes import running_after

    with running_on(fresh, tmp_path / "started") as task:
        server = task.parent()
        root = psutil.Process(fresh.process.pid).children()[0]
        assert server is not None and server.parent() == root
        gone = [task, server] if whom == "its server" else [task, server, root]
        gone[-1].kill()
        assert not running_after(10, gone)


def test_nothing_outlives_its_handler(fresh: Function, tmp_path: Path) -> None:
    """Where the handler's process is killed, its servers end by themselves, with the electron that
    runs, all that this has started, and the environment's folder."""
    from sandbox.processes import running_after

    with running_on(fresh, tmp_path / "started", leaves=True) as task:
        family = psutil.Process(fresh.process.pid).children(recursive=True)
        assert task in family and any("sleep" in x.name() for x in family)
        assert list(fresh.folder.iterdir())
        fresh.process.kill()
        assert not running_after(20, family)
    wait_until(lambda: not list(fresh.folder.iterdir()), "its folder is removed", 20)


def test_stopped_fork_server_ends_the_call_at_its_deadline(fresh: Function) -> None:
    """A fork server that is frozen for good does not keep a call beyond its limit."""
    began = time.monotonic()
    response = fresh.call(kills, signal.SIGSTOP, "server", limit=2.0)
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert time.monotonic() - began < 15
    assert returned(fresh.call(_own_pid)) > 0


@pytest.mark.parametrize("whom", ["spares", "spares and servers"])
def test_killed_before_the_code(fresh: Function, whom: str) -> None:
    """Whichever idle processes of the environment are killed, but for the first one, the next call
    runs: nothing of it had begun."""
    from sandbox.processes import running_after

    fresh.call(_own_pid)
    (root,) = psutil.Process(fresh.process.pid).children()
    servers = root.children()

    def is_idle() -> bool:
        return [len(server.children()) for server in servers] == [1, 1]

    wait_until(is_idle, "two servers with a spare each", 20)
    spares = [child for server in servers for child in server.children()]
    killed = spares if whom == "spares" else [*servers, *spares]
    for process in killed:
        # The kill of a server may have ended its child already.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not running_after(10, killed)
    assert returned(fresh.call(_own_pid)) not in [x.pid for x in killed]


# What each of the scripts below begins with; `tmp_path` is where they run.
PROCESSES = f"""
import os, select, signal, subprocess, sys
sys.path[:0] = {[str(FUNCTION), str(LAMBDA_CALLS)]!r}
import task_processes
from task_server import Settings
os.mkdir("environment")
made = task_processes.Processes(Settings(os.path.abspath("environment"), sys.path, False))
server, root = made._servers["plain"], made._root
"""


def told(tmp_path: Path, script: str) -> list[str]:
    """The words that a script prints."""
    command = [sys.executable, "-c", PROCESSES + script]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_server_killed_just_before_a_call(tmp_path: Path) -> None:
    """What a fork server had ready dies with it, which may take a while: it gets no task."""
    script = """
ready = made._spares["plain"].pid
os.kill(server.pid, signal.SIGKILL)
select.select([server.control], [], [])
child = made.take(set(), set(), frozenset(), 9, lambda: None)
print(child.pid == ready, child.server is server)
"""
    assert told(tmp_path, script) == ["False", "False"]


def test_spare_that_could_not_be_forked(tmp_path: Path) -> None:
    """Where the task before held all processes when the spare was ordered, another is forked."""
    script = """
spare = made._spares["plain"]
ready = spare.pid
spare._forked.message = {"error": "Resource temporarily unavailable"}
child = made.take(set(), set(), frozenset(), 9, lambda: None)
print(child.pid not in (0, ready), child.server is server)
"""
    assert told(tmp_path, script) == ["True", "True"]


def test_id_of_an_ended_server_is_not_signalled(tmp_path: Path) -> None:
    """By the time that a server is let go of, its id may be another process's: that one lives."""
    script = """
other = subprocess.Popen(["sleep", "60"])
gone = task_processes.Server(task_processes.channels.pair()[0], lambda: other.pid, root)
gone.go_on()
gone.end()
made.forked(root).close()  # the root has followed its orders by now
print(other.poll(), sep="")
other.kill()
other.wait()
"""
    assert told(tmp_path, script) == ["None"]


def test_stopped_server_is_ended(tmp_path: Path) -> None:
    """One that an electron has stopped, as it has stopped the root, ends when it is let go of."""
    script = """
for process in (server, root):
    os.kill(process.pid, signal.SIGSTOP)
server.end()
root.wait_for_end_of(server.pid, 30)
print(os.path.exists(f"/proc/{server.pid}"))
"""
    assert told(tmp_path, script) == ["False"]


def test_stopped_server_goes_on(tmp_path: Path) -> None:
    """The parent waits for a server no longer than until its next look; then that is continued,
    and it is the same one that forks."""
    script = """
made._drop_spare("plain")
server.answer(server.order({"do": "tidy"}))
for process in (server, root):
    os.kill(process.pid, signal.SIGSTOP)
child = made.take(set(), set(), frozenset(), 30, lambda: None)
print(child.server is server, made._servers["plain"] is server)
"""
    assert told(tmp_path, script) == ["True", "True"]


def test_server_that_does_not_go_on_is_replaced(tmp_path: Path) -> None:
    """One that is stopped again and again holds up the next electrons for half a minute, here for
    four seconds; then they have another server's process. That each has less time changes nothing.
    """
    script = f"""
import sys
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import task_processes
task_processes.Server.go_on = lambda self: None  # as if stopped again at once
task_processes._TIDIED_WITHIN = 4.0
"""

    def stops_its_server() -> int:
        import os
        import signal

        os.kill(os.getppid(), signal.SIGSTOP)
        return os.getppid()

    command = [sys.executable, "-c", script + SERVING]
    with Function(tmp_path / "tmp", command) as environment:
        stopped = returned(environment.call(stops_its_server))
        answers = []
        while not answers or (answers[-1].failure is not None and len(answers) < 5):
            answers.append(environment.call(os.getppid, seconds=3))
        assert returned(answers[-1]) != stopped
        assert not psutil.pid_exists(stopped)


def slowly_tidied(tmp_path: Path) -> tuple[Function, Path]:
    """An environment that removes no folder with an entry "slow", until there is the file that is
    returned beside it."""
    go = tmp_path / "go"
    script = f"""
import os, sys, time
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import task_server
remove = task_server.remove
def slow(path):
    while os.path.exists(os.path.join(path, "slow")) and not os.path.exists({str(go)!r}):
        time.sleep(0.01)
    remove(path)
task_server.remove = slow
"""
    return Function(tmp_path / "tmp", [sys.executable, "-c", script + SERVING]), go


def test_deadline_while_the_call_before_is_tidied_up(tmp_path: Path) -> None:
    """What takes long to remove costs the next call its time, not Lambda's own deadline; the one
    after it finds all of it removed."""

    def leaves() -> str:
        import os

        os.mkdir("slow")
        return os.getcwd()

    slow, go = slowly_tidied(tmp_path)
    with slow as environment:
        left = returned(environment.call(leaves))
        began = time.monotonic()
        failure = environment.call(_own_pid, seconds=2).failure
        assert time.monotonic() - began < 20  # as it takes 30 s to give its server up
        assert failure is not None and failure.kind == wire.ENVIRONMENT
        assert "left so much" in failure.message and "Nothing of this one ran" in failure.message
        go.touch()
        assert returned(environment.call(_own_pid)) > 0
        assert not os.path.exists(left)


def test_deadline_of_a_call_that_ended_its_server(tmp_path: Path) -> None:
    """Where a server is to be replaced, and what its electron left takes longer to remove than
    there is time, the answer comes by Lambda's deadline, and the environment ends."""

    def leaves_and_kills() -> None:
        import os
        import signal
        import time

        os.mkdir("slow")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # it ends with its server

    slow, go = slowly_tidied(tmp_path)
    with slow as environment:
        environment.call(_own_pid)
        began = time.monotonic()
        failure = environment.call(leaves_and_kills, seconds=4).failure
        assert time.monotonic() - began < 20
        assert failure is not None and failure.kind == wire.CRASHED
        assert environment.process.wait(20) == 1
        go.touch()


def test_root_server_killed(fresh: Function) -> None:
    """Without its first fork server an environment says that nothing ran, and ends."""
    # Here, as electrons import this module where there is no sandbox.
    from sandbox.processes import running_after

    fresh.call(_own_pid)
    idle = psutil.Process(fresh.process.pid).children(recursive=True)
    idle[0].kill()
    # What it has forked ends a moment later, and may answer a call until then.
    assert not running_after(10, idle)
    response = fresh.call(_own_pid)
    assert response.failure is not None and response.failure.kind == wire.ENVIRONMENT
    assert "Nothing of the electron ran" in response.failure.message
    assert fresh.process.wait(5) == 1


def test_unfit_environment_takes_no_call_with_it(tmp_path: Path) -> None:
    """Lambda may freeze an environment before it ends, and thaw it for the next call: that one is
    told that nothing ran, and the environment ends after it."""
    from sandbox.processes import running_after

    looks = "app._LOOKS = 1000\nimport json, sys\n"  # so that the test is in time to freeze it
    command = [sys.executable, "-c", WORKER.replace("import json, sys\n", looks, 1)]
    with Function(tmp_path / "tmp", command) as unfit:
        unfit.call(_own_pid)
        idle = psutil.Process(unfit.process.pid).children(recursive=True)
        idle[0].kill()
        assert not running_after(10, idle)
        failures = [unfit.call(_own_pid).failure]
        unfit.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        thaw = threading.Timer(0.3, unfit.process.send_signal, [signal.SIGCONT])
        thaw.start()
        failures.append(unfit.call(_own_pid).failure)
        thaw.join()
        kinds = [failure and failure.kind for failure in failures]
        assert kinds == [wire.ENVIRONMENT] * 2
        assert unfit.process.wait(20) == 1


def test_whole_environment_frozen_and_thawed(fresh: Function) -> None:
    """An environment that is frozen in the middle of a call goes on where it was."""

    def slow() -> str:
        import time

        time.sleep(1.5)
        return "done"

    family = [psutil.Process(fresh.process.pid)]
    family += family[0].children(recursive=True)
    thaw = subprocess.Popen(
        [
            "sh",
            "-c",
            f"sleep 0.5; kill -STOP {' '.join(str(x.pid) for x in family)}; sleep 3;"
            f"kill -CONT {' '.join(str(x.pid) for x in family)}",
        ]
    )
    try:
        assert returned(fresh.call(slow)) == "done"
    finally:
        thaw.wait()


def test_answer_survives_a_kill_after_the_code(fresh: Function, tmp_path: Path) -> None:
    """A process that dies after the code, as its output is flushed, has given its answer."""
    trace = tmp_path / "trace"

    def dies_in_the_end(trace: str) -> int:
        import os
        import signal
        import sys

        class Deadly:
            def flush(self) -> None:
                open(trace, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

        sys.stdout = Deadly()  # type: ignore[assignment]
        return 7

    assert returned(fresh.call(dies_in_the_end, str(trace))) == 7
    assert trace.exists()


WITHOUT_THREADS = """
import threading, task_guard
starts, refused = threading.Thread.start, [0]
def start(self):
    if self.name == "orders" and refused[0] < 2:
        refused[0] += 1
        raise RuntimeError("can't start new thread")
    starts(self)
threading.Thread.start = start
"""
UNWATCHED = """
import os, sys, time, task_guard
def due(self, due=task_guard.Guard.due):
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
        raise RuntimeError("something fails while a task runs")
    return due(self)
task_guard.Guard.due = due
handles = app.handler
def handler(*args):
    try:
        return handles(*args)
    except RuntimeError as error:
        return {"raised": str(error)}
app.handler = handler
"""


def test_no_thread_while_an_electron_runs(tmp_path: Path) -> None:
    """Where the electron holds all threads that there may be, it runs on, and the executor's
    orders are looked for once there are some."""
    with aws_server.running() as aws:
        aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"cancel"
        with Function(tmp_path / "tmp", changed(WITHOUT_THREADS), **aws.env) as environment:
            response = environment.call(time.sleep, 30, bucket="bucket")
            assert response.failure is not None and response.failure.kind == wire.CANCELLED
            assert environment.log.count("cannot look for orders, trying again") == 2


def test_thread_for_s3_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While processes that were killed hold all threads, what needs one waits a little."""
    starts, refused = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if thread.name == "work" and len(refused) < 3:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        starts(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    orders = task_guard.Orders(lambda: None, "", "task", "key", time.monotonic())
    assert task_guard.Guard(time.monotonic() + 60, orders).within(lambda: 7) == 7
    monkeypatch.setattr(task_guard, "_THREAD_WITHIN", 0.0)
    refused.clear()
    with pytest.raises(RuntimeError, match="new thread"):
        task_guard.Guard(time.monotonic() + 60, orders).within(lambda: 7)


def test_electron_that_nobody_watches_is_ended(tmp_path: Path) -> None:
    """Where the handler fails while an electron runs, that does not run on beside the next."""

    def runs(begun: str, over: str) -> None:
        import time

        open(begun, "w").close()
        print("begun", flush=True)  # so that it is looked at
        time.sleep(12)
        open(over, "w").close()

    begun, over = tmp_path / "begun", tmp_path / "over"
    with Function(tmp_path / "tmp", changed(UNWATCHED, str(begun))) as environment:
        event = json.loads(request(runs, str(begun), str(over)).to_json())
        assert environment.handle(event) == {"raised": "something fails while a task runs"}
        assert returned(environment.call(abs, -1)) == 1
        assert not over.exists()


def test_tmp_full(tmp_path: Path) -> None:
    """An electron that fills /tmp fails with the system's own error, and the next one runs."""

    def fills() -> None:
        import tempfile

        with open(tempfile.mkstemp()[1], "wb") as file:
            file.write(bytes(20_000_000))

    with mounted(tmp_path / "small", "size=4m") as folder, Function(folder) as environment:
        response = environment.call(fills)
        assert response.failure is not None and response.failure.kind == wire.EXCEPTION
        assert "No space left on device" in response.failure.message
        assert returned(environment.call(_own_pid)) > 0
