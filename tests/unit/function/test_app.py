"""The handler: what an electron does, and what its caller is told of it."""

import builtins
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from function_box import (
    PATHS,
    SERVING,
    WORKER,
    Function,
    batch,
    of_a_script,
    part,
    request,
    returned,
    timed,
)
from patience import BUSY

import task_context
import wire


def test_result_and_streams_come_back(function: Function) -> None:
    """A trivial electron's value, its text, its stdout and stderr are in the answer."""

    def greet(name: str) -> str:
        print("working")
        print("careful", file=sys.stderr)
        return f"Hello, {name}!"

    response = function.call(greet, "World")
    assert returned(response) == "Hello, World!"
    assert response.text == "Hello, World!"
    assert (response.stdout, response.stderr) == ("working\n", "careful\n")
    assert response.python == platform.python_version()


def test_keyword_arguments_and_hooks(function: Function) -> None:
    """Hooks run before and after; what they return fills the electron's keywords."""

    def electron(a: int, b: int, extra: int, files: list[str]) -> tuple[int, list[str]]:
        print("electron")
        return a + b + extra, files

    def say(text: str) -> None:
        print(text)

    def hook(function: Any, *args: Any, keyword: str = "") -> wire.Hook:
        return part(function), part(args), part({}), keyword

    response = function.call(
        electron,
        1,
        kwargs={"b": part(20)},
        before=[
            hook(say, "before"),
            hook(lambda: 300, keyword="extra"),
            hook(lambda: "one file", keyword="files"),
        ],
        after=[hook(say, "after")],
    )
    assert returned(response) == (321, ["one file"])
    assert response.stdout == "before\nelectron\nafter\n"


def test_several_hooks_of_one_keyword_make_a_list(function: Function) -> None:
    """As in Covalent, two values for one keyword arrive as a list."""

    def both(x: list[int]) -> list[int]:
        return x

    hooks = [(part(lambda v=v: v), part(()), part({}), "x") for v in (1, 2)]
    assert returned(function.call(both, before=hooks)) == [1, 2]


def test_logging_reaches_stderr(function: Function) -> None:
    """Records of `logging` reach the electron's stderr, from warnings on, as usual."""

    def log() -> None:
        import logging

        logging.getLogger("mine").warning("look out")
        logging.getLogger("mine").info("never mind")

    assert function.call(log).stderr == "look out\n"


def test_exception_keeps_type_message_traceback_and_cause(function: Function) -> None:
    """What the electron raised comes back as text, chained causes included, without our frames."""

    def fail() -> None:
        try:
            _ = {}["missing"]  # type: ignore[var-annotated]
        except KeyError as error:
            raise ValueError("bad ☃ input") from error

    failure = function.call(fail).failure
    assert failure is not None
    assert (failure.kind, failure.type) == (wire.EXCEPTION, "ValueError")
    assert failure.message == "bad ☃ input"
    assert "KeyError: 'missing'" in failure.traceback
    assert "direct cause of the following" in failure.traceback
    assert failure.traceback.endswith("ValueError: bad ☃ input\n")
    assert "/app.py" not in failure.traceback
    assert failure.traceback.count(f'File "{__file__}", line ') == 2


def test_log_tells_of_a_failed_electron(function: Function) -> None:
    """One line of the log says that an electron failed, for a metric to count; none of one that
    did not."""
    line = "[covalent] An electron failed: exception\n"
    before = function.log.count(line)
    function.call(lambda: None)
    assert function.log.count(line) == before
    function.call(lambda: 1 / 0)
    assert function.log.count(line) == before + 1


def test_traceback_of_a_group_names_the_files(function: Function) -> None:
    """What an exception group holds is told with files and lines, as the group itself."""
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        pytest.skip("Python 3.10 has no exception groups")

    def boom() -> None:
        raise ValueError("inner")

    def fail() -> None:
        try:
            boom()
        except ValueError as error:
            raise group("outer", [error]) from None

    failure = function.call(fail).failure
    assert failure is not None
    assert failure.traceback.count(f'File "{__file__}", line ') == 3
    assert "<dynamic-code>" not in failure.traceback


@pytest.mark.parametrize("strange", ["a\0b", type("Text", (str,), {"__hash__": None})("x")])
def test_file_of_any_kind(function: Function, strange: str) -> None:
    """A module's `__file__` is the electron's own: whatever it is, the exception is told."""

    def fail() -> None:
        globals()["__file__"] = strange
        raise ValueError("odd")

    failure = function.call(fail).failure
    assert failure is not None and failure.kind == wire.EXCEPTION
    assert failure.traceback.endswith("ValueError: odd\n")


@pytest.mark.parametrize("attribute", ["__cause__", "__getattr__"])
def test_exception_whose_own_code_breaks(function: Function, attribute: str) -> None:
    """An exception whose own code breaks the telling of it is still told by type, message and the
    place where it was raised."""

    def fail() -> None:
        class Odd(Exception):
            reads = 0

            def broken(self, *_: str) -> None:
                type(self).reads += 1
                if self.reads > 1 or attribute == "__getattr__":
                    raise RuntimeError("no second time")

        setattr(Odd, attribute, property(Odd.broken) if attribute == "__cause__" else Odd.broken)
        raise Odd("hello")

    response = function.call(fail)
    assert response.failure is not None
    assert response.failure.message == "hello"
    assert f'File "{__file__}", line ' in response.failure.traceback
    # Python 3.13 adds a line on the notes that it could not read.
    assert "Odd: hello\n" in response.failure.traceback


def test_long_place_of_a_stopped_electron_is_cut(function: Function) -> None:
    """Where code stood is cut like a traceback: it must not take the answer past Lambda's 6 MB."""

    def loop() -> None:
        globals()["__file__"] = "x" * 10_000_000
        while True:
            pass

    failure = function.call(loop, limit=0.5).failure
    assert failure is not None and failure.kind == wire.DEADLINE
    assert len(failure.traceback) < 200_000


def test_exception_with_members_of_any_kind(function: Function) -> None:
    """An exception may call its members as a group does, and a module may lack its file."""

    def fail() -> None:
        error = ValueError("odd")
        error.exceptions = 5  # type: ignore[attr-defined]
        raise error

    def fail_nowhere() -> None:
        globals()["__file__"] = 5
        fail()

    for electron in (fail, fail_nowhere):
        failure = function.call(electron).failure
        assert failure is not None and failure.traceback.endswith("ValueError: odd\n")


def test_exception_that_cannot_be_pickled_or_printed(function: Function) -> None:
    """An exception whose str() fails and that cannot be pickled still comes back."""

    def fail() -> None:
        class Odd(Exception):
            def __init__(self) -> None:
                self.lock = threading.Lock()

            def __str__(self) -> str:
                raise RuntimeError("no text")

        raise Odd

    failure = function.call(fail).failure
    assert failure is not None
    assert failure.type.endswith("fail.<locals>.Odd")
    assert failure.message == "<its str() raised RuntimeError>"


def test_lone_surrogates_do_not_break_the_answer(function: Function) -> None:
    """Text that UTF-8 cannot carry is escaped, in messages and in the result's text."""

    def fail() -> None:
        raise ValueError("\udcff")

    failure = function.call(fail).failure
    assert failure is not None and failure.message == "\\udcff"
    response = function.call(lambda: "\udcff")
    assert returned(response) == "\udcff"
    assert response.text == "\\udcff"


def test_system_exit_is_a_failure_of_its_own(function: Function) -> None:
    """sys.exit in an electron neither ends the function nor counts as success."""
    failure = function.call(lambda: sys.exit(3)).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (wire.EXIT, "The electron called sys.exit(3).")


def test_result_that_cannot_be_pickled(function: Function) -> None:
    """A generator as return value is named as what cannot be pickled."""
    response = function.call(lambda: (i for i in range(3)))
    assert response.failure is not None
    assert response.failure.kind == wire.UNPICKLABLE
    assert "generator" in response.failure.message
    assert "cloudpickle.py" not in response.failure.traceback


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_result_that_cannot_be_shown(function: Function, error: type[BaseException]) -> None:
    """It was pickled: what its text and its attributes raise says nothing of that."""

    def make() -> object:
        class Odd:
            def __getattribute__(self, name: str) -> object:
                if name in ("__name__", "__doc__"):
                    raise error(name)
                return object.__getattribute__(self, name)

            def __str__(self) -> str:
                raise error("no text")

        return Odd()

    response = function.call(make)
    assert type(returned(response)).__name__ == "Odd"
    assert isinstance(response.text, str) and "Odd object at" in response.text
    assert response.attrs == {"doc": None, "name": None}


@pytest.mark.parametrize("how", ["exits", "is killed", "crashes"])
def test_what_c_had_printed_is_kept(function: Function, how: str) -> None:
    """C keeps nothing back in a buffer that goes with the process."""

    def electron() -> None:
        import ctypes
        import signal

        print("Python first")
        ctypes.CDLL(None).printf(b"then C, without an end of line")
        if how == "exits":
            os._exit(3)
        if how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.string_at(0)

    response = function.call(electron)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert response.stdout == "Python first\nthen C, without an end of line"


def test_what_a_script_pickles_by_its_name_is_hinted_at(
    function: Function, tmp_path: Path
) -> None:
    """A function with functools.lru_cache at a script's top: its pickle is a name in `__main__`,
    which the function does not have."""
    from lambda_calls import messages  # not in this module: its functions travel by value

    script = tmp_path / "script.py"
    script.write_text(
        "import base64, cloudpickle, functools\n"
        "@functools.lru_cache\n"
        "def cached(x):\n    return x\n"
        "print(base64.b64encode(cloudpickle.dumps(lambda: cached(1))).decode())\n"
    )
    pickled = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout.strip()
    sent = request(len, "x")
    sent.function, sent.args = pickled, []
    response = wire.Response.from_json(function.handle(json.loads(sent.to_json())))
    assert response.failure is not None
    said = messages.hint(
        response.failure, response.usage, call="electron", advice=messages.Advice()
    )
    assert "'cached' is defined in your script" in said and "functools.lru_cache" in said


def test_python_that_differs_is_refused_before_unpickling(function: Function) -> None:
    """Both versions and both remedies are named, and nothing is unpickled."""

    def electron() -> None:
        print("ran")

    response = function.call(electron, python="3.7.9")
    failure = response.failure
    assert failure is not None and failure.kind == wire.PYTHON_DIFFERS
    here = ".".join(platform.python_version_tuple()[:2])
    assert "3.7.9" in failure.message and platform.python_version() in failure.message
    assert f"run the workflow with Python {here}" in failure.message
    assert "python_version 3.7" in failure.message
    assert response.stdout == ""


def test_module_missing_for_unpickling(function: Function) -> None:
    """An argument whose module the image lacks is a failure before the electron runs."""
    event = request(lambda x: x)
    missing = b"cnosuchthing\nname\n."  # a pickle of the name nosuchthing.name
    changed = {**json.loads(event.to_json()), "args": [wire.encode(missing)]}
    answer = function.handle(changed, 9)
    failure = wire.Response.from_json(answer).failure
    assert failure is not None
    assert (failure.kind, failure.type) == (wire.CANNOT_LOAD, "ModuleNotFoundError")
    assert "argument 0" in failure.message and "nosuchthing" in failure.message


@pytest.mark.parametrize(
    "event", [{}, [], None, {"Records": []}, {"covalent_lambda": 99}, {"covalent_lambda": 1}]
)
def test_foreign_event_is_answered_not_run(function: Function, event: Any) -> None:
    """Any other event gets an answer that says why it is not run."""
    failure = wire.Response.from_json(function.handle(event, 9)).failure
    assert failure is not None and failure.kind == wire.PROTOCOL_DIFFERS
    assert failure.message.startswith("The event is not one that this function runs")


def test_ping(function: Function) -> None:
    """A ping names the versions without importing Covalent."""
    answer = function.handle({"covalent_lambda": 1, "ping": True}, 9)
    assert answer["status"] == "ok"
    assert answer["python"] == platform.python_version()
    assert answer["memory_mb"] == 512
    assert answer["architecture"] == platform.machine()


def test_a_ping_tells_packages_if_it_asks(function: Function) -> None:
    """It lists what the image holds, by name and version; a plain ping does without."""
    ping = {"covalent_lambda": 1, "ping": True}
    assert "packages" not in function.handle(ping, 9)
    answer = function.handle({**ping, "packages": True}, 9)
    assert answer["packages"]["cloudpickle"] == answer["cloudpickle"]


def test_the_log_names_a_call_before_it_runs(fresh: Function) -> None:
    """By this line its output is found, while it runs too."""
    fresh.call(lambda: print("its output"), task_id="dispatch-7-attempt")
    log = fresh.log
    assert log.index("[covalent] runs dispatch-7-attempt\n") < log.index("its output")


def test_covalent_is_not_imported(fresh: Function) -> None:
    """A trivial electron's process has neither Covalent nor boto3 in it."""

    def loaded() -> list[str]:
        import sys

        # Not named whole: names in an electron's pickle are imported for it.
        names = ("cova", "lent"), ("bo", "to3"), ("boto", "core")
        return [a + b for a, b in names if a + b in sys.modules]

    assert returned(fresh.call(loaded)) == []


@pytest.mark.parametrize("limit", [0.5, None])
def test_deadline_ends_loops_and_sleeps(function: Function, limit: float | None) -> None:
    """A loop and a sleep are stopped, at the executor's limit or short of Lambda's; stdout and
    the place where the code stood come back."""

    def loop() -> None:
        print("before")
        while True:
            pass

    def sleep() -> None:
        print("before")
        time.sleep(60)

    for task in (loop, sleep):
        started = time.monotonic()
        response = function.call(task, limit=limit, seconds=60 if limit else 0.6)
        assert time.monotonic() - started < 1 + BUSY
        failure = response.failure
        assert failure is not None and failure.kind == wire.DEADLINE
        assert response.stdout == "before\n"
        assert f"in {task.__name__}" in failure.traceback
        assert f'File "{__file__}", line ' in failure.traceback
        assert "task_guard.py" not in failure.traceback


def test_endless_print_is_clipped_and_stopped(function: Function) -> None:
    """An electron that prints without end is stopped; head and tail of its output are kept."""

    def spam() -> None:
        print("first")
        while True:
            print("x" * 1000)

    response = function.call(spam, limit=1)
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert response.stdout.startswith("first\n")
    assert "bytes cut here" in response.stdout
    assert len(response.stdout) < 300_000


def test_own_signal_ends_nothing(function: Function) -> None:
    """The signal by which a task is stopped, sent by the task itself, is not taken for it."""

    def signalled() -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        return "went on"

    assert function.call(signalled).text == "went on"


def test_package_installed_by_a_hook_is_importable(function: Function) -> None:
    """What a hook puts into pip's target can be imported, though the folder was missing before."""

    def install() -> None:
        import importlib

        try:
            importlib.import_module("installed_by_a_hook")  # remembers that it is not there
        except ImportError:
            pass
        target = Path(os.environ["PIP_TARGET"])
        (target / "installed_by_a_hook.py").write_text("value = 42\n")

    def use() -> int:
        import installed_by_a_hook  # type: ignore[import-not-found]

        return int(installed_by_a_hook.value)

    hook = (part(install), part(()), part({}), "")
    assert returned(function.call(use, before=[hook])) == 42


def test_output_of_a_failed_command_is_shown(function: Function) -> None:
    """Covalent's DepsPip captures what pip says; when it fails, that is in stderr."""

    def install() -> None:
        command = ["sh", "-c", "echo no such package >&2; exit 1"]
        subprocess.run(command, check=True, capture_output=True)

    response = function.call(lambda: 1, before=[(part(install), part(()), part({}), "")])
    assert response.failure is not None and response.failure.type.endswith("CalledProcessError")
    assert "no such package" in response.stderr


@pytest.mark.parametrize("field", [{"args": 7}, {"function": "A"}, {"kwargs": []}])
def test_malformed_envelope_is_answered(function: Function, field: dict[str, Any]) -> None:
    """Whatever an envelope holds, the handler answers and does not raise."""
    event = {**json.loads(request(lambda: 1).to_json()), **field}
    failure = wire.Response.from_json(function.handle(event, 9)).failure
    assert failure is not None and failure.kind == wire.PROTOCOL_DIFFERS


@pytest.mark.parametrize("kind", ["swallows", "holds the lock"])
def test_task_that_resists_is_killed(function: Function, kind: str) -> None:
    """Code that catches everything, or sits in C with the interpreter's lock, is killed in time;
    what it printed and where it stood are told; the next electron comes from the same server."""

    def swallow() -> None:
        print("begun", end="")
        while True:
            try:
                time.sleep(10)
            except BaseException:
                pass

    def hold() -> None:
        print("begun", end="")
        sum(range(10**13))

    electron = swallow if kind == "swallows" else hold
    server = returned(function.call(lambda: os.getppid()))
    took, response = timed(lambda: function.call(electron, limit=1))
    assert took < 1 + 2 + BUSY  # the limit, and what an electron has to end by itself
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert f"in {electron.__name__}" in response.failure.traceback
    assert "task_" not in response.failure.traceback
    assert response.stdout == "begun"
    assert returned(function.call(lambda: os.getppid())) == server


def test_crash_is_told_with_signal_stack_and_output(function: Function) -> None:
    """Where C code crashes, the signal, the place in the electron and its output are told."""

    def crashes() -> None:
        import ctypes

        print("begun", end="")
        ctypes.string_at(0)

    response = function.call(crashes)
    failure = response.failure
    assert failure is not None and failure.kind == wire.CRASHED
    assert "signal 11 (SIGSEGV)" in failure.message
    assert failure.traceback.startswith("Fatal Python error: Segmentation fault\n")
    assert "in string_at\n" in failure.traceback and "in crashes\n" in failure.traceback
    assert response.stdout == "begun"


def test_memory_of_the_program_that_started_it_does_not_count(tmp_path: Path) -> None:
    """A process begins with the most that the one had which started it."""
    starts = "import subprocess, sys; x = b'x' * 300_000_000; subprocess.run(sys.argv[1:])"
    command = [sys.executable, "-c", starts, sys.executable, "-c", WORKER]
    with Function(tmp_path / "tmp", command) as running:
        assert 10 < running.call(lambda: 1).usage.max_memory_mb < 200


def test_out_of_memory_where_the_system_counts_nothing(tmp_path: Path) -> None:
    """Without a count of the kernel's, a killed process that had taken nearly all of the
    function's memory ran out of it; one that had not was killed by somebody."""
    script = f"""
import sys
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import app
app._oom_kills = lambda: None
app.handler = app.Environment().handle
"""

    def is_killed(megabytes: int) -> None:
        hoard = b"x" * megabytes * 1024 * 1024
        os.kill(os.getpid(), signal.SIGKILL)
        print(len(hoard))

    with Function(tmp_path / "tmp", [sys.executable, "-c", script + SERVING]) as running:
        small, large = (running.call(is_killed, size).failure for size in (1, 500))
    assert small is not None and small.kind == wire.CRASHED
    assert "signal 9 (SIGKILL): somebody sent it" in small.message
    assert large is not None and large.kind == wire.OUT_OF_MEMORY
    assert "It had taken 5" in large.message and "the function has 512 MB" in large.message


def test_all_threads_of_a_killed_electron_are_shown(function: Function) -> None:
    """Where a task resists, the places of its threads are told, in C calls too."""

    def calls_c() -> None:
        import ctypes

        ctypes.CDLL(None).sleep(60)

    def swallows() -> None:
        import threading
        import time

        threading.Thread(target=calls_c, daemon=True).start()
        while True:
            try:
                time.sleep(10)
            except BaseException:
                pass

    failure = function.call(swallows, limit=0.5).failure
    assert failure is not None and failure.kind == wire.DEADLINE
    assert "in swallows" in failure.traceback and "in calls_c" in failure.traceback


def test_warm_container_reports_cold_once(fresh: Function) -> None:
    """Only the first invocation of an environment counts as cold."""
    assert [fresh.call(lambda: 1).usage.cold for _ in range(3)] == [True, False, False]


def test_text_of_a_large_value_is_clipped(function: Function) -> None:
    """What Covalent shows of a value is clipped, but a string is never (sublattices need it)."""
    response = function.call(lambda: list(range(200_000)))
    assert isinstance(response.text, str) and len(response.text) < 110_000
    assert response.text.endswith("the rest is cut ...]")
    assert function.call(lambda: "y" * 200_000).text == "y" * 200_000


def test_home_and_pip_target_are_writable(function: Function) -> None:
    """HOME, the working directory and pip's target are the task's own, the target importable."""

    def look() -> tuple[str, str, str, bool]:
        import tempfile

        target = os.environ["PIP_TARGET"]
        return os.environ["HOME"], os.getcwd(), tempfile.gettempdir(), target in sys.path

    home, here, temporary, importable = returned(function.call(look))
    assert home == here == temporary and importable
    assert Path(home).parent == function.tasks
    assert function.call(lambda: 1).failure is None  # by now it is tidied up
    assert not Path(home).exists()


def test_answer_names_its_request(function: Function) -> None:
    """An answer repeats its request's name, so that it is not taken for another's."""
    assert function.call(lambda: 1, task_id="one-1-a").task_id == "one-1-a"
    assert function.call(lambda: 1, task_id="two-2-b", python="3.7.9").task_id == "two-2-b"
    event = {**json.loads(request(lambda: 1, task_id="three-3-c").to_json()), "unknown": 1}
    assert function.handle(event)["task_id"] == "three-3-c"


def test_several_requests_at_a_time_are_refused(tmp_path: Path) -> None:
    """Where environments serve several requests at once, nothing runs, and the answer says why."""
    with Function(tmp_path / "tmp", AWS_LAMBDA_MAX_CONCURRENCY="2") as several:
        failure = [several.call(lambda: 1).failure for _ in range(2)][
            1
        ]  # it stays, for all are so
    assert failure is not None and failure.kind == wire.ENVIRONMENT
    assert "AWS_LAMBDA_MAX_CONCURRENCY" in failure.message


def test_unwritable_tmp_is_told(tmp_path: Path) -> None:
    """An environment that can write nothing says so, and that nothing ran, and ends."""
    with Function(tmp_path / "tmp", TMPDIR="/proc/none") as unfit:
        failure = unfit.call(lambda: 1).failure
        assert unfit.process.wait(20) == 1
    assert failure is not None and failure.kind == wire.ENVIRONMENT
    assert "/proc/none" in failure.message and "Nothing of the electron ran" in failure.message


def apply_pip_deps(version: str) -> None:
    """Stands in for Covalent's function of that name, which runs pip: no network here."""
    print("installing", version)
    folder = Path(os.environ["PIP_TARGET"])
    (folder / "pinned.py").write_text(f"version = {version!r}")


def pinned() -> str:
    import pinned  # type: ignore[import-not-found]

    return str(pinned.version)


def test_packages_are_installed_once_and_in_the_version_asked_for(fresh: Function) -> None:
    """Each set of requirements has its own folder, which a warm environment uses again; nobody
    who did not ask sees it, and who finds it changed has it installed again."""

    def ask(version: str) -> str:
        hook = (part(apply_pip_deps), part((version,)), part({}), "")
        response = fresh.call(pinned, before=[hook])
        assert returned(response) == version
        return response.stdout

    assert [ask(x) for x in "12121"] == ["installing 1\n", "installing 2\n", "", "", ""]
    failure = fresh.call(pinned).failure
    assert failure is not None and failure.type == "ModuleNotFoundError"
    for file in fresh.tasks.parent.glob("packages/*/pinned.py"):
        file.write_text("version = 'changed'")
    assert ask("1") == "installing 1\n"


def test_electron_that_installs_gets_the_version_it_asked_for(tmp_path: Path) -> None:
    """What DepsPip's own function has imported from the image is not what the electron gets."""
    (tmp_path / "pinned.py").write_text("version = 'of the image'")

    def apply_pip_deps(version: str) -> None:
        import pinned

        assert pinned.version == "of the image"
        Path(os.environ["PIP_TARGET"], "pinned.py").write_text(f"version = {version!r}")

    hook = (part(apply_pip_deps), part(("asked for",)), part({}), "")
    with Function(tmp_path / "tmp", PYTHONPATH=str(tmp_path)) as running:
        got = [returned(running.call(pinned, before=[hook])) for _ in range(2)]
        assert [*got, returned(running.call(pinned))] == ["asked for", "asked for", "of the image"]


def test_failed_installation_is_the_electrons_failure(fresh: Function) -> None:
    """What DepsPip's function raises is told as if the electron had raised it; if its process
    ends, that is told."""

    def apply_pip_deps(ends: bool) -> None:
        print("installing")
        if ends:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no such package")

    def failure_of(ends: bool) -> wire.Failure:
        hook = (part(apply_pip_deps), part((ends,)), part({}), "")
        response = fresh.call(pinned, before=[hook])
        assert response.failure is not None and response.failure.kind == wire.EXCEPTION
        assert response.stdout == "installing\n"
        return response.failure

    raised = failure_of(ends=False)
    assert raised.type == "ValueError" and raised.message == "no such package"
    assert "apply_pip_deps" in raised.traceback
    assert "ended by signal 9" in failure_of(ends=True).message


def test_stream_may_be_returned(function: Function) -> None:
    """An object that holds sys.stdout can be returned: cloudpickle knows the stream."""
    assert returned(function.call(lambda: {"out": sys.stdout})) == {"out": sys.stdout}


def test_output_of_c_is_the_electrons_own(function: Function) -> None:
    """What C's buffered printf wrote comes back with the electron that called it."""

    def printf() -> None:
        import ctypes

        ctypes.CDLL(None).printf(b"from C")

    assert function.call(printf).stdout == "from C"


def test_process_left_behind_does_not_delay_the_answer(function: Function) -> None:
    """A process that keeps the pipes open does not hold the answer back."""
    left = ["setsid", "sleep", "20"]
    took, response = timed(lambda: function.call(lambda: subprocess.Popen(left).pid))
    assert response.failure is None and took < 1 + BUSY


def context_of_covalent(*_: Any) -> tuple[str, int]:
    """What `get_context` says. Covalent is not named whole: it is not imported beforehand."""
    import importlib

    found = importlib.import_module("".join(["cova", "lent"])).get_context()
    return found.dispatch_id, found.task_id


def test_context_of_covalent(fresh: Function) -> None:
    """Whatever imports Covalent first (the function that is forked from, a hook, the electron's
    own code), dispatch and node are known: in hooks, in the function, and in a batch's calls."""
    pytest.importorskip("covalent")

    def named() -> tuple[str, int]:
        import covalent

        found = covalent.get_context()
        return found.dispatch_id, found.task_id

    def electron(before: tuple[str, int]) -> Any:
        import sys

        return [before, *sys.modules["".join(["cova", "lent"])].get_context().__dict__.values()]

    here = of_a_script(context_of_covalent)
    for node, function in enumerate([here, here, named, named]):
        task_id = f"1f0c-6f-47-{node}-0a1b2c3d"
        assert returned(fresh.call(function, task_id=task_id)) == ("1f0c-6f-47", node)
    hook = (part(here), part(()), part({}), "before")
    found = returned(fresh.call(of_a_script(electron), before=[hook], task_id="dispatch-7-a"))
    assert found == [("dispatch", 7), "dispatch", 7]
    assert batch(fresh, context_of_covalent, [(1,), (2,)]) == [("dispatch", 0)] * 2


def test_context_of_covalent_in_an_electron_that_installs(fresh: Function) -> None:
    """It runs in a process of the root's, which nobody has imported anything into."""
    pytest.importorskip("covalent")
    hook = (part(apply_pip_deps), part(("1",)), part({}), "")
    for node in range(2):  # the second one finds it installed
        response = fresh.call(
            of_a_script(context_of_covalent), before=[hook], task_id=f"dispatch-{node}-a"
        )
        assert returned(response) == ("dispatch", node)
        assert response.stdout == ("" if node else "installing 1\n")


@pytest.mark.parametrize("task_id", ["", "pool-77-01234567-calls-00", "one-two", "dispatch-x-a"])
def test_calls_that_are_no_electrons_have_no_context(
    task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool's call, among others, has neither dispatch nor node."""
    context = pytest.importorskip("covalent.executor.utils.context")
    monkeypatch.setattr(context, "current_context", context.unset_context)
    task_context.Context().tell(task_id)
    assert context.get_context() is context.unset_context
    task_context.Context().tell("dispatch-3-a")
    assert context.get_context().task_id == 3
