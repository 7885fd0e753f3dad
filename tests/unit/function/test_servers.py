"""The servers that electrons' processes come from: what they hold, and what they leave."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from function_box import (
    PATHS,
    SERVING,
    WORKER,
    Function,
    batch,
    batch_response,
    of_a_script,
    part,
    returned,
    timed,
)
from lacking import lacking
from patience import BUSY, wait_until
from template_paths import FUNCTION, LAMBDA_CALLS
from tmpfs import mounted

import wire


def test_module_that_starts_threads_is_left_to_the_electron(tmp_path: Path) -> None:
    """A module that starts a thread when imported never gets into what forks, and others stay."""
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    )
    (tmp_path / "quiet_module.py").write_text("import os\npid = os.getpid()")

    def use() -> tuple[int, int]:
        import quiet_module  # type: ignore[import-not-found]
        import threads_at_import  # type: ignore[import-not-found] # noqa: F401

        return quiet_module.pid, os.getpid()

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path), PYTHONWARNINGS="error") as running:
        for _ in range(3):
            imported_by, own = returned(running.call(use))
            assert imported_by != own
        assert "thread" not in running.log.lower()


def test_spare_is_dropped_when_more_was_imported_since(tmp_path: Path) -> None:
    """An electron that needs another module than the one before it does not get the process that
    was forked ahead without it."""
    for name in ("first_module", "second_module"):
        (tmp_path / f"{name}.py").write_text("import os\npid = os.getpid()")

    def first() -> tuple[int, int]:
        import first_module  # type: ignore[import-not-found]

        return first_module.pid, os.getppid()

    def second() -> tuple[int, int]:
        import second_module  # type: ignore[import-not-found]

        return second_module.pid, os.getppid()

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        for electron in (first, first, second):
            imported_by, server = returned(running.call(electron))
            assert imported_by == server


def test_electron_without_packages_is_forked_from_a_small_process(tmp_path: Path) -> None:
    """What other electrons have imported is in the process of one that names a package, in its
    code or in its data, or has data that was not looked at; not in that of any other."""
    (tmp_path / "some_package.py").write_text("class Value: pass")

    def imports() -> None:
        import some_package  # type: ignore[import-not-found] # noqa: F401

    def records() -> bool:
        import sys

        held = "wave" in sys.modules
        import wave  # noqa: F401 - of the standard library

        return held

    def there(_: Any) -> bool:
        import sys

        return "_".join(["some", "package"]) in sys.modules

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:

        def found(data: Any) -> bool:
            return bool(returned(running.call(of_a_script(there), data)))

        assert not found("")
        assert running.call(of_a_script(imports)).failure is None
        assert [returned(running.call(of_a_script(records))) for _ in range(2)] == [False, True]
        assert [found("") for _ in range(3)] == [False] * 3
        assert found("some_package") and found("x" * 100_000) and not found("x")


def test_server_that_ends_leaves_the_tasks_of_others_alone(fresh: Function) -> None:
    """Where the server that holds packages ends, the files of an electron that another one has
    forked stay until the electron's end."""

    def kills(server: int) -> bool:
        import os
        import signal
        import time

        assert server != os.getppid()
        with open("written", "w"):
            os.kill(server, signal.SIGKILL)
        while os.path.exists(f"/proc/{server}"):
            time.sleep(0.01)
        time.sleep(0.5)  # for what its own server does then
        return os.path.exists("written")

    server = returned(fresh.call(lambda: os.getppid()))  # it names this module
    assert returned(fresh.call(of_a_script(kills), server))
    assert returned(fresh.call(lambda: os.getppid())) != server


def test_package_that_only_its_code_knows_is_warm_the_second_time(tmp_path: Path) -> None:
    """Where electrons import what their pickles do not name, all get what was imported before."""
    (tmp_path / "some_package.py").write_text("import os\npid = os.getpid()")

    def imports() -> bool:
        import importlib
        import os

        module = importlib.import_module("_".join(["some", "package"]))
        return bool(module.pid == os.getppid())

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        electron = of_a_script(imports)
        assert [returned(running.call(electron)) for _ in range(3)] == [False, True, True]


def in_a_container(shared: Path) -> list[str]:
    """What serves as in a container, where all in `shared` and in System V's lists is the
    environment's own; the test is skipped where it cannot have such lists."""
    own = ["unshare", "--ipc"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--ipc"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"]).returncode:
        lacking("no process can be given lists of System V of its own here")
    program = f"""
import os, sys
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import task_server
task_server._OPEN_TO_ALL = ({str(shared)!r},)
import ctypes
ctypes.CDLL(None).shmget(0, 4096, 0o1600)  # there before the environment is
import app
app._IMAGE = os.path.dirname(app.__file__)
app.handler = app.Environment().handle
"""
    return [*own, sys.executable, "-c", program + SERVING]


def counted_of_system_v(_: int) -> list[int]:
    """How much shared memory, how many semaphores and queues there are."""
    lists = []
    for kind in ("shm", "sem", "msg"):
        with open(f"/proc/sysvipc/{kind}") as file:
            lists.append(len(file.readlines()) - 1)
    return lists


def test_objects_of_system_v_go_with_their_electron(tmp_path: Path) -> None:
    """In a container nothing of System V's that an electron has made is there for the next one;
    what was there before stays, and what an initializer made, for as long as its calls follow."""

    def makes() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        for key in (7, 0):
            for made in (libc.shmget, libc.semget):
                assert made(key, 1, 0o1600) >= 0
            assert libc.msgget(key, 0o1600) >= 0

    count = of_a_script(counted_of_system_v)
    with Function(tmp_path / "tmp", in_a_container(tmp_path / "none")) as running:
        assert returned(running.call(count, 1)) == [1, 0, 0]
        running.call(of_a_script(makes))
        assert returned(running.call(count, 1)) == [1, 0, 0]
        setup = part((of_a_script(makes), ()))
        for _ in range(2):
            assert batch(running, counted_of_system_v, [(1,)], setup=setup) == [[3, 2, 2]]
        assert returned(running.call(count, 1)) == [1, 0, 0]


def test_spare_that_is_dropped_takes_no_file_of_another_task_along(tmp_path: Path) -> None:
    """Where a server learns, the process that it had forked ahead ends, and in a container what is
    new in /tmp goes after a task's process: not that of an electron that runs by then."""
    for name in ("some_package", "late_module"):
        (tmp_path / f"{name}.py").touch()
    shared = tmp_path / "shared"
    shared.mkdir()

    def holds_the_spare() -> int:
        import importlib
        import os
        import signal
        import time

        import some_package  # type: ignore[import-not-found] # noqa: F401

        importlib.import_module("_".join(["late", "module"]))
        spares: set[str] = set()
        while not spares:
            time.sleep(0.01)
            with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as file:
                spares = set(file.read().split()) - {str(os.getpid())}
        os.kill(int(spares.pop()), signal.SIGSTOP)  # so that it ends when the next electron runs
        return int(os.getppid())

    def writes(folder: str, server: int) -> bool:
        import contextlib
        import os
        import signal
        import time

        path = os.path.join(folder, "written")
        open(path, "w").close()
        with open(f"/proc/{server}/task/{server}/children") as file:
            for pid in file.read().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGCONT)
        time.sleep(0.5)
        return os.path.exists(path)

    command = in_a_container(shared)
    with Function(tmp_path / "tmp", command, PYTHONPATH=str(tmp_path)) as running:
        returned(running.call(lambda: 1))  # a cold start makes its spare in the end
        server = returned(running.call(of_a_script(holds_the_spare)))
        assert returned(running.call(of_a_script(writes), str(shared), server))
        wait_until(lambda: not list(shared.iterdir()), "no file is left", 20)


SLOW_REMOVAL = f"""
import os, sys, time
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import task_server
def remove(path, at_once=task_server.remove):
    time.sleep(2 * os.path.exists(os.path.join(path, "slowly")))
    at_once(path)
task_server.remove = remove
"""


def test_removal_that_takes_longer_than_the_next_electron_may(tmp_path: Path) -> None:
    """An electron that what one before it left kept waiting for too long did not run, and that is
    said, so that it is sent again; the one after that runs."""

    def leaves_much() -> None:
        open("slowly", "w").close()

    with Function(tmp_path / "tmp", [sys.executable, "-c", SLOW_REMOVAL + SERVING]) as running:
        assert running.call(leaves_much).failure is None
        failure = running.call(lambda: 1, limit=1.0).failure
        assert failure is not None and failure.kind == wire.ENVIRONMENT
        assert "its removal takes longer than" in failure.message
        assert "Nothing" in failure.message
        assert returned(running.call(lambda: 1)) == 1


def test_module_that_ends_its_server_is_left_to_the_electron(tmp_path: Path) -> None:
    """Where a module that an electron's pickle does not name cannot be imported in a server, the
    environment goes on without it, and other modules stay warm."""
    (tmp_path / "some_package.py").write_text("import os\npid = os.getpid()")
    (tmp_path / "ends_servers.py").write_text(
        "import os\nif os.path.basename(os.environ['HOME']) == 'home': os._exit(1)"
    )

    def imports() -> bool:
        import importlib
        import os

        import some_package

        large = b"x" * 300_000_000  # so that its process takes its time to end
        importlib.import_module("_".join(["ends", "servers"]))
        return bool(some_package.pid == os.getppid()) and len(large) > 0

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        assert [returned(running.call(of_a_script(imports))) for _ in range(4)] == [True] * 4


def test_servers_import_what_electrons_did_once_nothing_is_left_of_these(tmp_path: Path) -> None:
    """An import reads files of its server's home, and starts programs: it is ordered when the next
    electron has waited for the end of the one before, no earlier."""
    script = f"""
import os, sys
sys.path[:0] = {[str(FUNCTION), str(LAMBDA_CALLS)]!r}
from task_processes import Processes
from task_server import Settings
os.mkdir({str(tmp_path / "environment")!r})
processes = Processes(Settings({str(tmp_path / "environment")!r}, sys.path, False))
orders = []
for kind, server in processes._servers.items():
    def noted(message, fds=(), order=server.order):
        orders.append(message["do"])
        return order(message, fds)
    server.order = noted
processes.learn(["colorsys"], processes._servers["plain"])
before = list(orders)
processes.finish(lambda: None)
print(before.count("import"), orders.count("import"))
"""
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.stdout.split() == ["0", "1"], told.stderr


def test_programs_among_modules_are_not_run_by_a_server(tmp_path: Path) -> None:
    """An electron that says it has imported a program, or a module with a long name, has no server
    run it; what a module starts does not outlive its import."""
    (tmp_path / "some_tool").mkdir()
    (tmp_path / "some_tool" / "__init__.py").touch()
    trace = tmp_path / "ran"
    (tmp_path / "some_tool" / "__main__.py").write_text(f"open({str(trace)!r}, 'a').close()")
    (tmp_path / "starts_others.py").write_text(
        "import os, subprocess\n"
        "pid = subprocess.Popen(['sleep', '600']).pid\nserver = os.environ['HOME']"
    )

    def pretends() -> None:
        import importlib
        import importlib.machinery
        import sys
        import types

        importlib.import_module("_".join(["starts", "others"]))
        for name in ("some_tool", "some_tool.__main__", *(f"a{x:060}" for x in range(3000))):
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="frozen")
            sys.modules[name] = module

    def started() -> Any:
        import os

        import starts_others

        return starts_others.server, os.path.exists(f"/proc/{starts_others.pid}/exe")

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        for _ in range(3):
            assert returned(running.call(of_a_script(pretends))) is None
        server, alive = returned(running.call(of_a_script(started)))
        assert (os.path.basename(server), alive) == ("home", False)
    assert not trace.exists()


def test_initializer_runs_nothing_while_other_electrons_run(
    fresh: Function, tmp_path: Path
) -> None:
    """A timer that an initializer has left rings in no time but its own calls'."""
    trace = tmp_path / "rang"

    def sets_a_timer(path: str) -> None:
        import os
        import signal

        def ring(*_: object) -> None:
            with open(path, "a") as file:
                file.write(f"{os.getpid()} ")

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)

    setup = part((of_a_script(sets_a_timer), (str(trace),)))
    batch(fresh, lambda _: None, [(1,)], setup=setup)
    wait_until(trace.exists, "its timer", 20)

    def rings(path: str) -> bool:
        import os
        import time

        before = os.path.getsize(path)
        time.sleep(1)
        return os.path.getsize(path) > before

    assert returned(fresh.call(of_a_script(rings), str(trace))) is False


@pytest.mark.parametrize("whom", ["warm", "prepared", "spare"])
@pytest.mark.parametrize("other", [False, True], ids=["same initializer", "another"])
def test_idle_processes_of_an_initializer_killed(fresh: Function, whom: str, other: bool) -> None:
    """Whichever idle processes of an initializer are killed, calls that ask for it run, and find
    what it left."""
    from sandbox.processes import running_after

    def initialize(value: int) -> None:
        import builtins

        vars(builtins)["left"] = value

    def left() -> int:
        import builtins

        return int(vars(builtins)["left"])

    def asked(value: int) -> list[Any]:
        setup = part((of_a_script(initialize), (value,)))
        return batch(fresh, left, [(), ()], setup=setup, processes=2)

    assert asked(1) == [1, 1]
    (root,) = psutil.Process(fresh.process.pid).children()

    def idle() -> list[psutil.Process]:
        """The warm server, the initializer's, and its spare."""
        found = [[x, y, z] for x in root.children() for y in x.children() for z in y.children()]
        return found[0] if len(found) == 1 else []

    wait_until(lambda: bool(idle()), "a spare where the initializer has run", 20)
    killed = idle()[["warm", "prepared", "spare"].index(whom) :]
    killed[0].kill()
    assert not running_after(10, killed)
    value = 2 if other else 1
    assert [asked(value) for _ in range(2)] == [[value, value]] * 2


def test_process_that_ends_leaves_its_neighbours_time(fresh: Function) -> None:
    """One process of a batch ends at once; the call of another one goes on for long after."""

    def ends_or_takes_long(number: int) -> int:
        import os
        import time

        if number == 0:
            os._exit(3)
        time.sleep(8)
        return number

    response = batch_response(fresh, ends_or_takes_long, [(0,), (1,)], processes=2)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert isinstance(response.result, str)
    told = [x for x in wire.frames_of(response.result) if x.kind == wire.VALUE]
    assert [(x.number, cloudpickle.loads(x.data)) for x in told] == [(1, 1)]


DIES_BEFORE_ITS_TASK = """
import os, select
import task_processes
tasks = [0]
def send(self, body, send=task_processes.Child.send):
    tasks[0] += 1
    if tasks[0] == 2:
        os.kill(self.pid, 9)
        select.select([self.channel], [], [], 30)  # until it has ended
    send(self, body)
task_processes.Child.send = send
"""


def test_process_of_a_batch_that_dies_before_it_has_its_task(tmp_path: Path) -> None:
    """Calls run by then in its neighbours, which take its turns: none is said not to have run,
    and each ran once, with its output."""
    ran = tmp_path / "ran"

    def notes(number: int, path: str) -> int:
        with open(path, "a") as file:
            file.write(f"{number}\n")
        print("call", number)
        return number

    script = WORKER.replace("import app\n", f"import app\n{DIES_BEFORE_ITS_TASK}", 1)
    calls = [(number, str(ran)) for number in range(4)]
    with Function(tmp_path / "tmp", [sys.executable, "-c", script]) as running:
        response = batch_response(running, notes, calls, processes=3)
        assert response.failure is None
        assert isinstance(response.result, str)
        told = list(wire.frames_of(response.result))
        values = [cloudpickle.loads(x.data) for x in told if x.kind == wire.VALUE]
        printed = {x.number: x.data for x in told if x.kind == wire.STDOUT}
        assert sorted(values) == [0, 1, 2, 3]
        assert printed == {number: f"call {number}\n".encode() for number in range(4)}
        assert sorted(ran.read_text().split()) == ["0", "1", "2", "3"]
        assert sorted(batch(running, lambda x: x, [(1,), (2,)], processes=2)) == [1, 2]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("crashes", [False, True])
def test_results_of_a_batch_are_not_copied_into_the_handlers_process(
    fresh: Function, processes: int, crashes: bool
) -> None:
    """What the calls returned stays in files: the handler's process takes far less memory than
    that has bytes, also where a process ended in the middle; and nothing of it is lost."""

    def returns(number: int, size: int, crashes: bool) -> bytes:
        import os

        print("call", number)
        if crashes and number == 0:
            os._exit(3)
        return bytes([number]) * size

    def peak() -> int:
        status = Path(f"/proc/{fresh.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def values(response: wire.Response) -> dict[int, Any]:
        assert isinstance(response.result, str)
        told = wire.frames_of(response.result)
        return {x.number: cloudpickle.loads(x.data) for x in told if x.kind == wire.VALUE}

    numbers = [1, 2, 3, 4, 0]
    small = batch_response(
        fresh, returns, [(x, 10, crashes) for x in numbers], processes=processes
    )
    lost = {4} if crashes else set()
    assert (small.failure is not None) == crashes
    assert values(small) == {
        position: bytes([x]) * 10 for position, x in enumerate(numbers) if position not in lost
    }
    assert isinstance(small.result, str)
    printed = {x.number: x.data for x in wire.frames_of(small.result) if x.kind == wire.STDOUT}
    assert printed == {position: b"call %d\n" % x for position, x in enumerate(numbers)}
    before = peak()
    large = batch_response(
        fresh, returns, [(x, 20_000_000, crashes) for x in numbers], processes=processes
    )
    assert large.failure is not None and large.failure.kind == wire.RESULT_LOST
    assert peak() - before < 40_000  # KB; the results have 80,000 and more


def test_files_of_an_initializer_outlive_another_server(fresh: Function) -> None:
    """Where the server of electrons without packages is replaced, what an initializer left in its
    own folder is there for the next batch."""

    def leave() -> None:
        import builtins
        import os

        path = os.path.join(os.environ["HOME"], "model")
        open(path, "w").close()
        vars(builtins)["model"] = path

    def is_there(_: Any) -> tuple[bool, int]:
        import builtins
        import os

        return os.path.exists(vars(builtins)["model"]), os.getppid()

    def ends_its_server() -> None:
        import os
        import signal
        import time

        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # it ends with its server

    setup = part((of_a_script(leave), ()))
    (first,) = batch(fresh, is_there, [(1,)], setup=setup)
    failure = fresh.call(of_a_script(ends_its_server)).failure
    assert failure is not None and failure.kind == wire.CRASHED
    assert first[0] and batch(fresh, is_there, [(1,)], setup=setup)[0][0]


def test_batch_whose_server_was_replaced_waits_for_nothing(tmp_path: Path) -> None:
    """Where a batch names a module that costs the warm server its place, and with it the server
    where the batch's initializer has run, the batch runs within its own time, and no file of the
    server before is left."""
    (tmp_path / "some_package.py").touch()
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    )

    def leave() -> None:
        import builtins

        vars(builtins)["model"] = "loaded"

    def seen(_: Any) -> Any:
        import builtins

        import some_package  # noqa: F401

        return vars(builtins)["model"]

    def seen_with_threads(_: Any) -> Any:
        import builtins

        import threads_at_import  # noqa: F401

        return vars(builtins)["model"]

    setup = part((of_a_script(leave), ()))
    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        for function in (seen, seen_with_threads):
            found = batch(running, function, [(1,)], setup=setup, seconds=20)
            assert found == ["loaded"]
        wait_until(lambda: len(list(running.tasks.iterdir())) == 1, "one folder", 20)


@pytest.mark.parametrize("named", ["", "some_package"], ids=["plain", "warm"])
def test_import_that_is_late_for_one_electron_is_there_for_the_next(
    tmp_path: Path, named: str
) -> None:
    """What an electron imported, whichever server it came from, is imported for the next ones,
    also where the one right after has less time than that takes."""
    (tmp_path / "some_package.py").touch()
    (tmp_path / "slow_module.py").write_text(
        "import os, time\n"
        "pid = os.getpid()\n"
        "while os.path.basename(os.environ['HOME']) == 'home':\n"
        f"    if os.path.exists({str(tmp_path / 'go')!r}): break\n"
        "    time.sleep(0.01)\n"
    )

    def imports(_: str) -> bool:
        import importlib
        import os

        large = b"x" * 300_000_000  # so that its process takes its time to end
        module = importlib.import_module("_".join(["slow", "module"]))
        return bool(module.pid == os.getppid()) and len(large) > 0

    def nothing() -> None:
        pass

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        assert not returned(running.call(of_a_script(imports), named))
        failure = running.call(of_a_script(nothing), limit=0.5).failure
        assert failure is not None and failure.kind == wire.DEADLINE
        (tmp_path / "go").touch()
        assert returned(running.call(of_a_script(imports), named))


def test_processes_of_a_batch_teach_one_lesson(tmp_path: Path) -> None:
    """What each process of a batch imported is imported by the server, but for the module that
    leaves threads there, whichever process that came from."""
    for name in ("first_module", "second_module"):
        (tmp_path / f"{name}.py").write_text("import os\npid = os.getpid()")
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    )
    traces = tmp_path / "traces"
    traces.mkdir()

    def imports(folder: str, which: str) -> bool:
        import importlib
        import os
        import time

        importlib.import_module("_".join(["threads", "at", "import"]))
        importlib.import_module("_".join([which, "module"]))
        os.mkdir(os.path.join(folder, which))
        while len(os.listdir(folder)) < 2:  # each call is one process's
            time.sleep(0.01)
        return True

    def both() -> list[bool]:
        import os

        import first_module
        import second_module

        return [x.pid == os.getppid() for x in (first_module, second_module)]

    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        calls = [(str(traces), "first"), (str(traces), "second")]
        assert batch(running, imports, calls, processes=2) == [True, True]
        assert returned(running.call(of_a_script(both))) == [True, True]


# Python 3.12 and later warn of this; `alone` forks only to find it out.
LOOKING_AT_FORKS = """
import os, sys
def look():
    if len(os.listdir("/proc/self/task")) > 1 and sys._getframe(1).f_code.co_name != "alone":
        os.write(2, b"a multi-threaded process has forked\\n")
os.register_at_fork(after_in_parent=look)
"""


def test_no_fork_is_warned_of(tmp_path: Path) -> None:
    """No server ever forks with threads, of which Python 3.12 and later warn: with numpy, which
    starts threads when it is imported, and with a module that leaves one. Of an electron that does
    so, it would be told."""
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    )
    # In the servers, too, which ignore such warnings otherwise.
    (tmp_path / "warns_of_all.py").write_text("import warnings; warnings.simplefilter('always')")

    def use() -> str:
        import numpy as np
        import threads_at_import  # type: ignore[import-not-found] # noqa: F401
        import warns_of_all  # type: ignore[import-not-found] # noqa: F401

        return str((np.ones((300, 300)) @ np.ones((300, 300)))[0, 0])

    def forks_with_a_thread() -> None:
        import threading

        thread = threading.Thread(target=time.sleep, args=(1,))
        thread.start()
        if os.fork() == 0:
            os._exit(0)
        thread.join()

    command = [sys.executable, "-c", LOOKING_AT_FORKS + WORKER]
    with Function(tmp_path / "tmp", command, PYTHONPATH=str(tmp_path)) as running:
        assert [returned(running.call(use)) for _ in range(4)] == ["300.0"] * 4
        assert "multi-threaded" not in running.log
        assert "multi-threaded" in running.call(forks_with_a_thread).stderr


@pytest.mark.parametrize("noun", ["electron", "call"])
def test_no_room_in_tmp_is_told_and_ends_the_environment(fresh: Function, noun: str) -> None:
    """Where the task's folder cannot be made, the answer says so, and that nothing ran; what tasks
    had left was removed before, so Lambda is to make a new environment."""
    fresh.call(lambda: 1)
    with mounted(fresh.tasks, "nr_inodes=1,mode=0700"):
        calls = batch_response(fresh, lambda x: x, [(1,)]) if noun == "call" else None
        response = calls or fresh.call(abs, -1)
        assert fresh.process.wait(20) == 1
    failure = response.failure
    assert failure is not None and failure.kind == wire.ENVIRONMENT
    assert "cannot write to /tmp" in failure.message
    assert f"Nothing of the {noun} ran" in failure.message
    assert "This environment cannot run electrons: it cannot write to /tmp" in fresh.log


def test_servers_killed_between_tasks(fresh: Function) -> None:
    """Where the warm fork server has died between two tasks, another one takes its place; where
    the root has, the environment says that it is unfit, and ends."""

    def processes() -> tuple[int, int]:
        warm = os.getppid()
        with open(f"/proc/{warm}/stat") as file:
            return warm, int(file.read().rpartition(")")[2].split()[1])

    warm, root = returned(fresh.call(processes))
    os.kill(warm, signal.SIGKILL)
    time.sleep(0.3)
    other, same = returned(fresh.call(processes))
    assert other != warm and same == root
    os.kill(root, signal.SIGKILL)
    time.sleep(0.3)
    failure = fresh.call(processes).failure
    assert failure is not None and failure.kind == wire.ENVIRONMENT
    assert fresh.process.wait(5) == 1


@pytest.mark.parametrize("where", ["home", "model"], ids=["in the warm server", "in its own"])
def test_module_that_hangs_keeps_no_batch_beyond_its_time(tmp_path: Path, where: str) -> None:
    """Where a module that a batch names never ends its import in the server that its initializer
    has run in, or in the one before, the batch ends in time, and later ones go on without it."""
    (tmp_path / "hangs_in_a_server.py").write_text(
        "import os, time\n"
        "home = os.environ['HOME']\n"
        f"if {where!r} in (os.path.basename(home), *os.listdir(home)):\n"
        "    time.sleep(300)\n"
    )

    def leave() -> None:
        open("model", "w").close()

    def imports(_: Any) -> str:
        import hangs_in_a_server

        return str(hangs_in_a_server.__name__)

    setup = part((of_a_script(leave), ()))
    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        assert batch(running, lambda _: "first", [(1,)], setup=setup) == ["first"]
        seconds, response = timed(
            lambda: batch_response(running, imports, [(1,)], setup=setup, seconds=3)
        )
        assert response.failure is not None and response.failure.kind == wire.DEADLINE
        assert seconds < BUSY
        assert batch(running, imports, [(1,)], setup=setup) == ["hangs_in_a_server"]


def test_removal_of_what_an_initializer_left(tmp_path: Path) -> None:
    """It keeps an electron no longer than that has time; the one after runs when it is done."""

    def leaves_much() -> None:
        open("slowly", "w").close()

    with Function(tmp_path / "tmp", [sys.executable, "-c", SLOW_REMOVAL + SERVING]) as running:
        setup = part((of_a_script(leaves_much), ()))
        assert batch(running, lambda _: 1, [(1,)], setup=setup) == [1]
        seconds, response = timed(lambda: running.call(lambda: 1, limit=1.2))
        assert response.failure is not None and response.failure.kind == wire.ENVIRONMENT
        assert "its removal takes longer than" in response.failure.message
        assert seconds < 1.8
        assert returned(running.call(lambda: 1)) == 1
