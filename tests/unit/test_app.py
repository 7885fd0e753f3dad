"""The handler: what an electron does, and what its caller is told of it."""

import builtins
import json
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import app
import pytest
from function_box import Context, call, call_in_child, part, request

import task_storage
import wire


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /tmp of the test's own, and the environment restored after it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(app, "WORK", str(folder))
    monkeypatch.setattr(app, "_PIP_TARGET", str(folder / "packages"))
    monkeypatch.setattr(task_storage, "_CACHE", str(folder / "blobs"))
    for name in ("PIP_TARGET", "PIP_NO_CACHE_DIR", "PIP_UPGRADE", "HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(app, "_storage", None)
    return folder


def returned(response: wire.Response) -> Any:
    import cloudpickle

    assert response.failure is None, response.failure
    assert isinstance(response.result, str)
    return cloudpickle.loads(wire.decode(response.result))


def test_result_and_streams_come_back() -> None:
    """A trivial electron's value, its text, its stdout and stderr are in the answer."""

    def greet(name: str) -> str:
        print("working")
        print("careful", file=sys.stderr)
        return f"Hello, {name}!"

    response = call(greet, "World")
    assert returned(response) == "Hello, World!"
    assert response.text == "Hello, World!"
    assert (response.stdout, response.stderr) == ("working\n", "careful\n")
    assert response.python == platform.python_version()


def test_keyword_arguments_and_hooks() -> None:
    """Hooks run before and after; what they return fills the electron's keywords."""

    def electron(a: int, b: int, extra: int, files: list[str]) -> tuple[int, list[str]]:
        print("electron")
        return a + b + extra, files

    def say(text: str) -> None:
        print(text)

    def hook(function: Any, *args: Any, keyword: str = "") -> wire.Hook:
        return part(function), part(args), part({}), keyword

    response = call(
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


def test_several_hooks_of_one_keyword_make_a_list() -> None:
    """As in Covalent, two values for one keyword arrive as a list."""

    def both(x: list[int]) -> list[int]:
        return x

    hooks = [(part(lambda v=v: v), part(()), part({}), "x") for v in (1, 2)]
    assert returned(call(both, before=hooks)) == [1, 2]


def test_logging_reaches_stderr_past_lambdas_own_handler() -> None:
    """Records of `logging` reach the electron's stderr, whatever handler the runtime has."""
    root = logging.getLogger()
    before = root.handlers[:]

    def log() -> None:
        logging.getLogger("mine").warning("look out")

    assert "look out" in call(log).stderr
    assert root.handlers == before


def test_exception_keeps_type_message_traceback_and_cause() -> None:
    """What the electron raised comes back as text, chained causes included, without our frames."""

    def fail() -> None:
        try:
            _ = {}["missing"]  # type: ignore[var-annotated]
        except KeyError as error:
            raise ValueError("bad ☃ input") from error

    failure = call(fail).failure
    assert failure is not None
    assert (failure.kind, failure.type) == (wire.EXCEPTION, "ValueError")
    assert failure.message == "bad ☃ input"
    assert "KeyError: 'missing'" in failure.traceback
    assert "direct cause of the following" in failure.traceback
    assert failure.traceback.endswith("ValueError: bad ☃ input\n")
    assert "/app.py" not in failure.traceback
    assert failure.traceback.count(f'File "{__file__}", line ') == 2


def test_traceback_of_a_group_names_the_files() -> None:
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

    failure = call(fail).failure
    assert failure is not None
    assert failure.traceback.count(f'File "{__file__}", line ') == 3
    assert "<dynamic-code>" not in failure.traceback


@pytest.mark.parametrize("strange", ["a\0b", type("Text", (str,), {"__hash__": None})("x")])
def test_file_of_any_kind(strange: str) -> None:
    """A module's `__file__` is the electron's own: whatever it is, the exception is told."""

    def fail() -> None:
        globals()["__file__"] = strange
        raise ValueError("odd")

    failure = call(fail).failure
    assert failure is not None and failure.kind == wire.EXCEPTION
    assert failure.traceback.endswith("ValueError: odd\n")


def test_traceback_that_cannot_be_told() -> None:
    """An exception whose own code breaks the telling of it is still told by type and message."""

    class Odd(Exception):
        reads = 0

        @property
        def __cause__(self) -> None:  # type: ignore[override]
            type(self).reads += 1
            if self.reads > 1:
                raise RuntimeError("no second time")

    def fail() -> None:
        raise Odd("hello")

    response = call(fail)
    assert response.failure is not None
    assert response.failure.message == "hello"
    assert response.failure.traceback == "<the traceback cannot be told: RuntimeError>\n"


def test_long_place_of_a_stopped_electron_is_cut() -> None:
    """Where code stood is cut like a traceback: it must not take the answer past Lambda's 6 MB."""

    def loop() -> None:
        globals()["__file__"] = "x" * 10_000_000
        while True:
            pass

    failure = call(loop, limit=0.5).failure
    assert failure is not None and failure.kind == wire.DEADLINE
    assert len(failure.traceback) < 200_000


def test_exception_with_members_of_any_kind() -> None:
    """An exception may call its members as a group does, and a module may lack its file."""

    def fail() -> None:
        error = ValueError("odd")
        error.exceptions = 5  # type: ignore[attr-defined]
        raise error

    def fail_nowhere() -> None:
        globals()["__file__"] = 5
        fail()

    for electron in (fail, fail_nowhere):
        failure = call(electron).failure
        assert failure is not None and failure.traceback.endswith("ValueError: odd\n")


def test_exception_that_cannot_be_pickled_or_printed() -> None:
    """An exception whose str() fails and that cannot be pickled still comes back."""

    def fail() -> None:
        class Odd(Exception):
            def __init__(self) -> None:
                self.lock = threading.Lock()

            def __str__(self) -> str:
                raise RuntimeError("no text")

        raise Odd

    failure = call(fail).failure
    assert failure is not None
    assert failure.type.endswith("fail.<locals>.Odd")
    assert failure.message == "<its str() raised RuntimeError>"


def test_lone_surrogates_do_not_break_the_answer() -> None:
    """Text that UTF-8 cannot carry is escaped, in messages and in the result's text."""

    def fail() -> None:
        raise ValueError("\udcff")

    failure = call(fail).failure
    assert failure is not None and failure.message == "\\udcff"
    response = call(lambda: "\udcff")
    assert returned(response) == "\udcff"
    assert response.text == "\\udcff"


def test_system_exit_is_a_failure_of_its_own() -> None:
    """sys.exit in an electron neither ends the function nor counts as success."""
    failure = call(lambda: sys.exit(3)).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (wire.EXIT, "The electron called sys.exit(3).")


def test_result_that_cannot_be_pickled() -> None:
    """A generator as return value is named as what cannot be pickled."""
    response = call(lambda: (i for i in range(3)))
    assert response.failure is not None
    assert response.failure.kind == wire.UNPICKLABLE
    assert "generator" in response.failure.message
    assert "cloudpickle.py" not in response.failure.traceback


def test_python_that_differs_is_refused_before_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions and both remedies are named, and nothing is unpickled."""
    monkeypatch.setattr(app.cloudpickle, "loads", None)
    failure = call(lambda: 1, python="3.7.9").failure
    assert failure is not None and failure.kind == wire.PYTHON_DIFFERS
    here = ".".join(platform.python_version_tuple()[:2])
    assert "3.7.9" in failure.message and platform.python_version() in failure.message
    assert f"run the workflow with Python {here}" in failure.message
    assert "python_version 3.7" in failure.message


def test_module_missing_for_unpickling() -> None:
    """An argument whose module the image lacks is a failure before the electron runs."""
    event = request(lambda x: x)
    missing = b"cnosuchthing\nname\n."  # a pickle of the name nosuchthing.name
    changed = {**json.loads(event.to_json()), "args": [wire.encode(missing)]}
    answer = app.handler(changed, Context(9))
    failure = wire.Response.from_json(answer).failure
    assert failure is not None
    assert (failure.kind, failure.type) == (wire.CANNOT_LOAD, "ModuleNotFoundError")
    assert "argument 0" in failure.message and "nosuchthing" in failure.message


@pytest.mark.parametrize(
    "event", [{}, [], None, {"Records": []}, {"covalent_lambda": 99}, {"covalent_lambda": 1}]
)
def test_foreign_event_is_answered_not_run(event: Any) -> None:
    """Any other event gets an answer that says why it is not run."""
    failure = wire.Response.from_json(app.handler(event, Context(9))).failure
    assert failure is not None and failure.kind == wire.PROTOCOL_DIFFERS
    assert failure.message.startswith("The event is not one that this function runs")


def test_ping() -> None:
    """A ping names the versions without importing Covalent."""
    answer = app.handler({"covalent_lambda": 1, "ping": True}, Context(9))
    assert answer["status"] == "ok"
    assert answer["python"] == platform.python_version()
    assert answer["memory_mb"] == 512
    assert answer["architecture"] == platform.machine()


def test_covalent_is_not_imported() -> None:
    """A trivial electron in a fresh process brings neither Covalent nor boto3 in."""

    def loaded() -> list[str]:
        import sys

        return [m for m in ("covalent", "boto3", "botocore") if m in sys.modules]

    child = call_in_child(loaded)
    answer = json.loads(child.stdout.partition("ANSWER")[2])
    assert answer["text"] == "[]", child.stderr


@pytest.mark.parametrize("limit", [0.5, None])
def test_deadline_ends_loops_and_sleeps(limit: float | None) -> None:
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
        response = call(task, limit=limit, seconds=60 if limit else 0.6)
        assert time.monotonic() - started < 3
        failure = response.failure
        assert failure is not None and failure.kind == wire.DEADLINE
        assert response.stdout == "before\n"
        assert f"in {task.__name__}" in failure.traceback
        assert f'File "{__file__}", line ' in failure.traceback
        assert "task_guard.py" not in failure.traceback


def test_packages_stay_for_the_next_task() -> None:
    """What a task's pip installed is there for the next task of a warm environment."""

    def install() -> None:
        with open(os.path.join(os.environ["PIP_TARGET"], "left_behind.py"), "w") as file:
            file.write("WORD = 'here'\n")

    def use() -> str:
        import left_behind  # type: ignore[import-not-found]

        return str(left_behind.WORD)

    assert call(install).failure is None
    assert returned(call(use)) == "here"


def test_endless_print_is_clipped_and_stopped() -> None:
    """An electron that prints without end is stopped; head and tail of its output are kept."""

    def spam() -> None:
        print("first")
        while True:
            print("x" * 1000)

    response = call(spam, limit=1)
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert response.stdout.startswith("first\n")
    assert "bytes cut here" in response.stdout
    assert len(response.stdout) < 300_000


def test_late_signal_ends_nothing() -> None:
    """A signal for a task that has ended meanwhile ends neither the next one nor the process."""
    import signal

    call(lambda: 1)
    os.kill(os.getpid(), signal.SIGUSR1)  # nothing is watched, and nobody asked

    def signalled() -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        return "went on"

    assert call(signalled).text == "went on"


SLOW_S3 = """
import socket, threading, time
server = socket.create_server(("127.0.0.1", 0))
def serve():
    while True:
        connection, _ = server.accept()
        def answer(connection=connection):
            connection.recv(65536)
            time.sleep({delay})
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
            connection.close()
        threading.Thread(target=answer, daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
import os
os.environ.update(AWS_ENDPOINT_URL="http://127.0.0.1:%d" % server.getsockname()[1],
    AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
"""


def test_cancel_mark_seen_too_late_ends_nothing() -> None:
    """A task that ends while its mark is being looked for is neither cancelled nor is the next."""
    code = (
        "import sys, json, time\nsys.path[:0] = {paths!r}\n"
        + SLOW_S3.format(delay=0.6)
        + "import function_box as box\n"
        "first = box.call(lambda: time.sleep(2.3), bucket='b')\n"
        "second = box.call(lambda: time.sleep(1.5), task_id='second')\n"
        "print('ENDED', first.failure, second.failure)\n"
    )
    assert "ENDED None None" in in_child(code)


def test_silent_s3_does_not_defer_the_deadline() -> None:
    """An S3 that accepts and never answers keeps the watchdog from nothing."""
    code = (
        "import sys, time\nsys.path[:0] = {paths!r}\n"
        + SLOW_S3.format(delay=60)
        + "import function_box as box\n"
        "started = time.monotonic()\n"
        "failure = box.call(lambda: time.sleep(25), bucket='b', limit=6).failure\n"
        "print('ENDED', failure.kind, time.monotonic() - started < 9)\n"
    )
    assert "ENDED deadline True" in in_child(code)


def in_child(code: str) -> str:
    """Run `code`, `{paths!r}` in it replaced by where the function's modules lie."""
    from template_paths import FUNCTION, PLUGIN

    paths = [str(FUNCTION), str(PLUGIN), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{paths!r}", repr(paths))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_package_installed_by_a_hook_is_importable(scratch: Path) -> None:
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
        import installed_by_a_hook

        return int(installed_by_a_hook.value)

    hook = (part(install), part(()), part({}), "")
    assert returned(call(use, before=[hook])) == 42


def test_output_of_a_failed_command_is_shown() -> None:
    """Covalent's DepsPip captures what pip says; when it fails, that is in stderr."""

    def install() -> None:
        command = ["sh", "-c", "echo no such package >&2; exit 1"]
        subprocess.run(command, check=True, capture_output=True)

    response = call(lambda: 1, before=[(part(install), part(()), part({}), "")])
    assert response.failure is not None and response.failure.type.endswith("CalledProcessError")
    assert "no such package" in response.stderr


def test_environment_does_not_leak_into_the_next_task() -> None:
    """What an electron does to os.environ is undone before the next one runs."""

    def change() -> None:
        os.environ["AWS_ENDPOINT_URL"] = "http://attacker.example"
        del os.environ["PATH"]

    before = dict(os.environ)
    assert call(change).failure is None
    assert {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} == {
        k: v for k, v in before.items() if not k.startswith("PIP_")
    } | {"HOME": os.environ["HOME"]}


@pytest.mark.parametrize("field", [{"args": 7}, {"function": "A"}, {"kwargs": []}])
def test_malformed_envelope_is_answered(field: dict[str, Any]) -> None:
    """Whatever an envelope holds, the handler answers and does not raise."""
    event = {**json.loads(request(lambda: 1).to_json()), **field}
    failure = wire.Response.from_json(app.handler(event, Context(9))).failure
    assert failure is not None and failure.kind == wire.PROTOCOL_DIFFERS


def test_signal_handlers_are_restored() -> None:
    """The user's own handlers for the watchdog's signals survive a task."""
    import signal

    mine = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        call(lambda: 1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, mine)


@pytest.mark.parametrize("kind", ["swallows", "holds the lock"])
def test_task_that_resists_is_killed(kind: str) -> None:
    """Code that catches everything, or sits in C with the interpreter's lock, is killed in time,
    and the log says by whom."""

    def swallow() -> None:
        while True:
            try:
                time.sleep(10)
            except BaseException:
                pass

    def hold() -> None:
        sum(range(10**13))

    started = time.monotonic()
    child = call_in_child(swallow if kind == "swallows" else hold, limit=1)
    assert time.monotonic() - started < 8
    assert child.returncode < 0
    assert "the watchdog killed this process, its task being deadline" in child.stderr


def test_warm_container_reports_cold_once() -> None:
    """Only the first invocation of an environment counts as cold."""
    call(lambda: 1)
    assert call(lambda: 1).usage.cold is False


class Bucket:
    """An S3 client that keeps objects in a dict (what runs against a server is in e2e)."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gets = 0

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:
        self.objects[Key] = Body

    def upload_fileobj(self, file: BinaryIO, bucket: str, key: str, Config: Any) -> None:
        self.objects[key] = file.read()

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        import io

        from botocore.exceptions import ClientError
        from botocore.response import StreamingBody

        self.gets += 1
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "gone"}}, "GetObject")
        data = self.objects[Key]
        return {"Body": StreamingBody(io.BytesIO(data), len(data)), "ContentLength": len(data)}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    kept = Bucket()
    monkeypatch.setattr(app, "_storage", task_storage.Storage("bucket", kept))
    return kept


def stored_argument(bucket: Bucket, value: Any) -> wire.Blob:
    data = wire.decode(part(value))
    blob = wire.blob(data)
    bucket.objects[blob.key] = data
    return blob


def test_blob_argument_is_fetched_once(bucket: Bucket) -> None:
    """A warm environment takes a blob that it had before from /tmp."""
    blob = stored_argument(bucket, "large")
    for _ in range(3):
        response = call(lambda x, y: x + y, bucket="bucket", kwargs={"x": blob, "y": part("!")})
        assert returned(response) == "large!"
    assert bucket.gets == 1


def test_tampered_blob_is_not_unpickled(bucket: Bucket, scratch: Path) -> None:
    """Neither a changed object nor a changed cache file is ever unpickled."""
    blob = stored_argument(bucket, "good")
    bucket.objects[blob.key] = wire.decode(part(builtins.print))
    failure = call(lambda x: x, bucket="bucket", kwargs={"x": blob}).failure
    assert failure is not None and failure.kind == wire.BLOB_TAMPERED
    assert blob.key in failure.message

    stored_argument(bucket, "good")
    assert call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"
    (scratch / "blobs" / blob.sha256).write_bytes(b"evil")
    assert call(lambda x: x, bucket="bucket", kwargs={"x": blob}).text == "good"


def test_missing_blob_is_reported_before_anything_runs(bucket: Bucket) -> None:
    """A blob that expired is a failure of its own, so that the executor can store it again."""
    response = call(print, bucket="bucket", kwargs={"x": wire.blob(b"gone")})
    assert response.failure is not None and response.failure.kind == wire.BLOB_MISSING
    assert response.stdout == ""


def test_large_result_becomes_a_blob(bucket: Bucket) -> None:
    """A result beyond 6 MB, and its long text, go to the task's folder in the bucket."""
    response = call(lambda: "y" * 7_000_000, bucket="bucket")
    assert isinstance(response.result, wire.Blob) and isinstance(response.text, wire.Blob)
    assert response.result.key == "tasks/dispatch-0-attempt/result"
    data = response.result.verified(bucket.objects[response.result.key])
    assert len(data) > 7_000_000
    assert bucket.objects[response.text.key] == b"y" * 7_000_000


def test_answer_stays_below_lambdas_limit(bucket: Bucket) -> None:
    """Result, text and full streams together never exceed 6 MB, just below the limit too."""

    def much(size: int) -> bytes:
        print("\x01" * 400_000)
        print("é" * 400_000, file=sys.stderr)
        return bytes(size)

    def fail() -> None:
        much(0)
        raise ValueError("x" * 7_000_000)

    failed = call(fail, bucket="bucket")
    assert failed.failure is not None and failed.failure.traceback.startswith("Traceback")
    assert len(json.dumps(failed.to_json())) < wire.PAYLOAD_LIMIT
    for size in (1_000_000, 3_000_000, 4_400_000, 4_500_000, 6_000_000):
        response = call(much, size, bucket="bucket")
        assert response.failure is None
        assert len(json.dumps(response.to_json())) < wire.PAYLOAD_LIMIT


def test_large_result_without_a_bucket() -> None:
    """Where there is no bucket, a large result is reported with its size."""
    failure = call(lambda: bytes(7_000_000)).failure
    assert failure is not None and failure.kind == wire.RESULT_LOST
    assert "of 7000" in failure.message and "s3_bucket_name is empty" in failure.message


def test_text_of_a_large_value_is_clipped() -> None:
    """What Covalent shows of a value is clipped, but a string is never (sublattices need it)."""
    response = call(lambda: list(range(200_000)))
    assert isinstance(response.text, str) and len(response.text) < 110_000
    assert response.text.endswith("the rest is cut ...]")
    assert call(lambda: "y" * 200_000).text == "y" * 200_000


def test_long_task_leaves_its_outcome(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ran long stores its answer as well, for an executor that lost the connection."""
    monkeypatch.setattr(wire, "LEAVE_OUTCOME_AFTER", 0.0)
    response = call(lambda: 42, bucket="bucket")
    left = wire.unseal(bucket.objects["tasks/dispatch-0-attempt/outcome"], "the attempt's key")
    assert wire.Response.from_json(json.loads(left)) == response


def test_home_and_pip_target_are_writable(scratch: Path) -> None:
    """HOME, the working directory and pip's target lie in /tmp, and the target is importable."""

    def look() -> tuple[str, str, bool]:
        target = os.environ["PIP_TARGET"]
        return os.environ["HOME"], os.getcwd(), target in sys.path

    assert returned(call(look)) == (str(scratch), str(scratch), True)
