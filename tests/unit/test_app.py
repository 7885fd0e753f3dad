"""The handler: what an electron does, and what its caller is told of it."""

import builtins
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aws_server
import cloudpickle
import psutil
import pytest
from function_box import PATHS, SERVING, WORKER, Function, part, request, returned, timed
from lacking import lacking
from patience import BUSY, wait_until
from secret_keys import SECRET_KEY, SESSION_TOKEN
from template_paths import FUNCTION, LAMBDA_CALLS
from tmpfs import mounted

import task_context
import task_guard
import task_storage
import wire


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """A warm environment without a bucket."""
    with Function(tmp_path_factory.mktemp("function") / "tmp") as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Function]:
    """A new environment."""
    with Function(tmp_path / "tmp") as running:
        yield running


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


@pytest.fixture
def aws() -> Iterator[aws_server.AWS]:
    """A server that speaks S3's protocol."""
    with aws_server.running() as server:
        yield server


def with_bucket(aws: aws_server.AWS, folder: Path) -> Function:
    """A new environment that finds its bucket on the server."""
    return Function(
        folder,
        AWS_ENDPOINT_URL=aws.url,
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN=SESSION_TOKEN,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )


@pytest.fixture
def stored(aws: aws_server.AWS, tmp_path: Path) -> Iterator[Function]:
    """A new environment with a bucket."""
    with with_bucket(aws, tmp_path / "tmp") as running:
        yield running


def stored_argument(aws: aws_server.AWS, value: Any) -> wire.Blob:
    data = wire.decode(part(value))
    blob = wire.blob(data)
    aws.objects[f"/bucket/{blob.key}"] = data
    return blob


def test_blob_argument_is_fetched_once(aws: aws_server.AWS, stored: Function) -> None:
    """A warm environment takes a blob that it had before from /tmp."""
    blob = stored_argument(aws, "large")
    for _ in range(3):
        response = stored.call(
            lambda x, y: x + y, bucket="bucket", kwargs={"x": blob, "y": part("!")}
        )
        assert returned(response) == "large!"
    # A slow machine makes a call look for orders as well.
    fetched = [request for request in aws.requests if "/blobs/" in request]
    assert fetched == [f"GET /bucket/{blob.key}"]


def test_tampered_blob_is_not_unpickled(aws: aws_server.AWS, stored: Function) -> None:
    """Neither a changed object nor a changed cache file is ever unpickled."""
    blob = stored_argument(aws, "good")
    aws.objects[f"/bucket/{blob.key}"] = wire.decode(part(builtins.print))
    failure = stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).failure
    assert failure is not None and failure.kind == wire.BLOB_TAMPERED
    assert blob.key in failure.message

    stored_argument(aws, "good")
    assert stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"
    (stored.tasks.parent / "blobs" / blob.sha256).write_bytes(b"evil")
    assert stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"


def test_missing_blob_is_reported_before_anything_runs(stored: Function) -> None:
    """A blob that expired is a failure of its own, so that the executor can store it again."""
    response = stored.call(print, bucket="bucket", kwargs={"x": wire.blob(b"gone")})
    assert response.failure is not None and response.failure.kind == wire.BLOB_MISSING
    assert response.stdout == ""


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((503, "SlowDown"), wire.STORAGE_BUSY),
        ((500, "InternalError"), wire.STORAGE_BUSY),
        ((403, "AccessDenied"), wire.STORAGE),
        ((400, "ExpiredToken"), wire.STORAGE),
    ],
)
def test_refusal_of_s3(
    aws: aws_server.AWS, stored: Function, refusal: tuple[int, str], kind: str
) -> None:
    """What S3 refuses for now may be sent again; what it refuses for good is told as such."""
    blob = stored_argument(aws, "large")
    aws.denied, aws.refusal = {"GET"}, refusal
    failure = stored.call(lambda x: x, bucket="bucket", kwargs={"x": blob}).failure
    assert failure is not None and failure.kind == kind
    assert refusal[1] in failure.message and blob.key in failure.message


def test_large_result_becomes_a_blob(aws: aws_server.AWS, stored: Function) -> None:
    """A result beyond 6 MB, and its long text, go to the task's folder in the bucket."""
    response = stored.call(lambda: "y" * 7_000_000, bucket="bucket")
    assert isinstance(response.result, wire.Blob) and isinstance(response.text, wire.Blob)
    assert response.result.key == "tasks/dispatch-0-attempt/result"
    data = response.result.verified(aws.objects[f"/bucket/{response.result.key}"])
    assert len(data) > 7_000_000
    assert aws.objects[f"/bucket/{response.text.key}"] == b"y" * 7_000_000


def test_answer_stays_below_lambdas_limit(stored: Function) -> None:
    """Result, text and full streams together never exceed 6 MB, just below the limit too."""

    def much(size: int) -> bytes:
        print("\x01" * 400_000)
        print("é" * 400_000, file=sys.stderr)
        return bytes(size)

    def fail() -> None:
        much(0)
        raise ValueError("x" * 7_000_000)

    failed = stored.call(fail, bucket="bucket")
    assert failed.failure is not None and failed.failure.traceback.startswith("Traceback")
    assert len(json.dumps(failed.to_json())) < wire.PAYLOAD_LIMIT
    for size in (1_000_000, 3_000_000, 4_400_000):
        response = stored.call(much, size, bucket="bucket")
        assert response.failure is None
        assert len(json.dumps(response.to_json())) < wire.PAYLOAD_LIMIT


def test_answer_of_a_fan_out_stays_below_lambdas_limit(stored: Function) -> None:
    """Items of a fan-out and what finding them wrote never exceed 6 MB together."""

    def split(args: Any, kwargs: Any) -> Any:
        print("\x01" * 400_000)
        return [((item,), {}) for item in args[0]], kwargs

    def loop(items: list[bytes]) -> None:
        raise AssertionError("its items are to be called")

    setattr(loop, wire.FAN_OUT, {"function": bytes, "split": split, "options": {}})
    response = stored.call(loop, [os.urandom(100_000) for _ in range(44)], bucket="bucket")
    assert isinstance(response.spread, wire.Blob)
    assert len(json.dumps(response.to_json())) < wire.PAYLOAD_LIMIT


def test_large_result_without_a_bucket(function: Function) -> None:
    """Where there is no bucket, a large result is reported with its size."""
    failure = function.call(lambda: bytes(7_000_000)).failure
    assert failure is not None and failure.kind == wire.RESULT_LOST
    assert "of 7000" in failure.message and "s3_bucket_name is empty" in failure.message


def test_text_of_a_large_value_is_clipped(function: Function) -> None:
    """What Covalent shows of a value is clipped, but a string is never (sublattices need it)."""
    response = function.call(lambda: list(range(200_000)))
    assert isinstance(response.text, str) and len(response.text) < 110_000
    assert response.text.endswith("the rest is cut ...]")
    assert function.call(lambda: "y" * 200_000).text == "y" * 200_000


def test_lost_connection_is_acknowledged_and_the_outcome_left(
    aws: aws_server.AWS, stored: Function
) -> None:
    """An executor that lost its connection is told within 2 s that the task runs, again when it
    asks again, and finds the answer in the end, though the task was short."""
    order = "/bucket/tasks/dispatch-0-attempt/order"
    aws.objects[order] = b"report 1"
    seen: dict[str, float] = {}

    def watch() -> None:
        while len(seen) < 2:
            left = aws.objects.get("/bucket/tasks/dispatch-0-attempt/running")
            if left and (text := wire.unseal(left, "the attempt's key")) not in seen:
                seen[text] = time.monotonic()
                aws.objects[order] = b"report 2"
            time.sleep(0.02)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    response = stored.call(lambda: time.sleep(12), bucket="bucket")
    watching.join(12)
    assert list(seen) == ["report 1", "report 2"]
    assert seen["report 2"] - seen["report 1"] < 2 + BUSY
    left = wire.unseal(
        aws.objects["/bucket/tasks/dispatch-0-attempt/outcome"], "the attempt's key"
    )
    assert wire.Response.from_json(json.loads(left)) == response


def test_connection_lost_between_the_last_look_and_the_end(
    aws: aws_server.AWS, stored: Function
) -> None:
    """Where the executor asks after the last look at its orders, the outcome is left, too."""

    def ask() -> None:
        while not aws.requests:
            time.sleep(0.01)
        time.sleep(0.05)
        aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"report 1"

    def until_asked() -> None:
        time.sleep(2.95)

    stored.call(lambda: time.sleep(2.5), bucket="bucket")  # boto3 is imported by now
    aws.requests.clear()
    asking = threading.Thread(target=ask)
    asking.start()
    response = stored.call(until_asked, bucket="bucket")
    asking.join()
    left = aws.objects["/bucket/tasks/dispatch-0-attempt/outcome"]
    assert response.failure is None and wire.unseal(left, "the attempt's key")


def test_short_task_asks_s3_nothing(aws: aws_server.AWS, stored: Function) -> None:
    """A task of less than two seconds costs no request."""
    assert returned(stored.call(lambda: 1, bucket="bucket")) == 1
    assert aws.requests == []


def test_cancelled_electron_is_gone_soon(aws: aws_server.AWS, stored: Function) -> None:
    """An electron that holds the interpreter's lock is gone at most 3 s after its cancel order
    could be seen, and what it printed and where it stood are told."""

    def holds() -> None:
        print("begun", end="")
        sum(range(10**13))

    aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"cancel"
    seen: list[float] = []

    def watch() -> None:
        while not aws.requests:
            time.sleep(0.01)
        seen.append(time.monotonic())

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    response = stored.call(holds, bucket="bucket")
    ended = time.monotonic()
    assert response.failure is not None and response.failure.kind == wire.CANCELLED
    assert "in holds" in response.failure.traceback and response.stdout == "begun"
    watching.join(1)
    assert ended - seen[0] < 3 + BUSY


def test_order_is_found_when_s3_works_again(aws: aws_server.AWS, stored: Function) -> None:
    """A cancel order that nobody could see ends the electron once S3 does not fail any more."""
    aws.denied, aws.refusal = {"GET"}, (500, "InternalError")

    def heal() -> None:
        time.sleep(7)
        aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"cancel"
        aws.denied = set()

    healing = threading.Thread(target=heal)
    healing.start()
    response = stored.call(lambda: time.sleep(40), bucket="bucket")
    healing.join()
    assert response.failure is not None and response.failure.kind == wire.CANCELLED


def test_times_that_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order is seen within 2 s, as soon as a task has run for 2 s, also where S3 takes its
    longest to answer; what resists is killed within 3 s of that."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = task_storage.Storage("unused").hasty_client().meta.config
    assert task_guard.FIRST_LOOK <= 2
    assert task_guard._LOOK_EVERY + config.read_timeout <= 2
    assert task_guard._DUMP_AFTER < task_guard._KILL_AFTER < 3


class NoPauses(threading.Event):
    """An event that is not waited for; it notes how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return self.is_set()


def test_failing_looks_do_not_end_the_looking() -> None:
    """However often S3 has failed, the next look follows after 8 s at most; after one that did not
    fail, the next one follows as soon as if none had failed; and an order is found."""
    failed = OSError("S3 is away")
    looks = [*[failed] * 50, b"", failed, b"cancel"]

    def order(**_: str) -> dict[str, io.BytesIO]:
        found = looks.pop(0)
        if isinstance(found, OSError):
            raise found
        return {"Body": io.BytesIO(found)}

    client = types.SimpleNamespace(get_object=order)
    orders = task_guard.Orders(lambda: client, "bucket", "dispatch-0-attempt", "key", 0.0)
    orders._ended = not_waited_for = NoPauses()
    orders.start()
    assert orders.heard is not None
    orders.heard.settimeout(20)
    assert orders.heard.recv(1) == b"!"
    orders.close()
    assert orders.cancelled
    assert not_waited_for.pauses == [2.0, 4.0, *[8.0] * 48, 1.0, 2.0]


def test_silent_s3_does_not_defer_the_deadline(tmp_path: Path) -> None:
    """An S3 that accepts and never answers keeps neither deadline nor answer waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen(50)
        port = silent.getsockname()[1]
        with with_bucket(aws_server.AWS(url=f"http://127.0.0.1:{port}"), tmp_path / "t") as stored:
            took, response = timed(
                lambda: stored.call(lambda: time.sleep(60), bucket="bucket", limit=4)
            )
            assert response.failure is not None and response.failure.kind == wire.DEADLINE
            assert took < 4 + BUSY
            blob = wire.blob(b"never")
            took, response = timed(
                lambda: stored.call(print, bucket="bucket", kwargs={"x": blob}, limit=3)
            )
            assert response.failure is not None and response.failure.kind == wire.DEADLINE
            assert took < 3 + BUSY


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


def of_a_script(function: Callable[..., Any]) -> Any:
    """The function as a script has it, which names no module of these tests."""
    known = {"__name__": "__main__", "__builtins__": builtins}
    return types.FunctionType(function.__code__, known)


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


def test_removal_that_takes_longer_than_the_next_electron_may(tmp_path: Path) -> None:
    """An electron that what one before it left kept waiting for too long did not run, and that is
    said, so that it is sent again; the one after that runs."""
    slowly = f"""
import os, sys, time
sys.path[:0] = {PATHS[:1]!r}
sys.path += {PATHS[1:]!r}
import task_server
def remove(path, at_once=task_server.remove):
    time.sleep(2 * os.path.exists(os.path.join(path, "slowly")))
    at_once(path)
task_server.remove = remove
"""

    def leaves_much() -> None:
        open("slowly", "w").close()

    with Function(tmp_path / "tmp", [sys.executable, "-c", slowly + SERVING]) as running:
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


def batch_response(
    running: Function, function: Callable[..., Any], calls: list[Any], **fields: Any
) -> wire.Response:
    """The response to a batch of calls, given by their arguments."""
    seconds = fields.pop("seconds", 60)
    frames = [
        wire.Frame(wire.ITEM, number, cloudpickle.dumps((arguments, {})))
        for number, arguments in enumerate(calls)
    ]
    event = wire.Batch(
        task_id="dispatch-0-attempt",
        key="the attempt's key",
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        function=part(of_a_script(function)),
        calls=wire.encode(b"".join(x.to_bytes() for x in frames)),
        count=len(calls),
        **fields,
    )
    return wire.Response.from_json(running.handle(json.loads(event.to_json()), seconds))


def batch(
    running: Function, function: Callable[..., Any], calls: list[Any], **fields: Any
) -> list[Any]:
    """What a batch's calls, given by their arguments, returned, in the order of their ends."""
    response = batch_response(running, function, calls, **fields)
    assert response.failure is None, response.failure
    assert isinstance(response.result, str)
    told = wire.frames_of(response.result)
    return [cloudpickle.loads(x.data) for x in told if x.kind == wire.VALUE]


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
