"""What the function keeps between electrons, blobs and packages, and how it speaks to S3."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import types
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aws_server
import boto3
import cloudpickle
import pytest
from function_box import WORKER, Function, part, returned, timed
from patience import wait_until
from tmpfs import mounted

import wire
from task_processes import Body
from task_storage import Storage

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MB = 1_000_000


@pytest.fixture
def aws() -> Iterator[aws_server.AWS]:
    """A server that speaks S3's protocol."""
    with aws_server.running() as server:
        yield server


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A /tmp of 40 MB."""
    with mounted(tmp_path / "small", "size=40m") as folder:
        yield folder


def stored(aws: aws_server.AWS, number: int) -> wire.Blob:
    """A blob of 3 MB."""
    data = cloudpickle.dumps(bytes([number]) * 3 * MB)
    blob = wire.blob(data)
    aws.objects[f"/bucket/{blob.key}"] = data
    return blob


def length(x: bytes) -> int:
    return len(x)


def test_blobs_have_a_quarter_of_tmp(aws: aws_server.AWS, small: Path) -> None:
    """The cache never holds more than a quarter of /tmp; the least recently used blob goes."""
    blobs = [stored(aws, number) for number in range(8)]
    with Function(small, **aws.env) as function:

        def held() -> set[str]:
            return {path.name for path in function.tasks.parent.joinpath("blobs").iterdir()}

        for blob in blobs:
            for used in (blobs[0], blob):
                got = function.call(length, bucket="bucket", kwargs={"x": used})
                assert returned(got) == 3 * MB
            assert len(held()) * 3 * MB <= 10 * 1024 * 1024
        assert held() == {blob.sha256 for blob in (blobs[0], blobs[6], blobs[7])}
    fetched = [x for x in aws.requests if blobs[0].key in x]
    assert len(fetched) == 1


def test_arguments_evict_no_other_of_the_same_call(aws: aws_server.AWS, small: Path) -> None:
    """What a call is given stays until it has it, however much that is: the rest of its arguments
    goes to memory, and blobs of calls before make room."""
    blobs = [stored(aws, number) for number in range(6)]

    def lengths(*args: bytes, **kwargs: bytes) -> list[int]:
        return [len(x) for x in (*args, *kwargs.values())]

    with Function(small, **aws.env) as function:
        for used in (blobs[:1], blobs[:5], blobs[5:] + blobs[:4], blobs[:5]):
            named = {f"x{number}": blob for number, blob in enumerate(used)}
            got = function.call(lengths, bucket="bucket", kwargs=named)
            assert returned(got) == [3 * MB] * len(used)
            held = {path.name for path in function.tasks.parent.joinpath("blobs").iterdir()}
            assert len(held) == min(3, len(used))


def test_packages_are_evicted_before_blobs(aws: aws_server.AWS, small: Path) -> None:
    """Where /tmp gets short, packages that were not used for the longest time go, and no blob."""
    blobs = [stored(aws, number) for number in range(3)]
    with Function(small, **aws.env) as function:

        def held(folder: str) -> list[Path]:
            return list(function.tasks.parent.joinpath(folder).iterdir())

        for blob in blobs:
            got = function.call(length, bucket="bucket", kwargs={"x": blob})
            assert returned(got) == 3 * MB
        assert [asks(function, "1", 15 * MB), asks(function, "2", 10 * MB)] == ["1", "2"]
        (left,) = held("packages")
        assert (left / "data").stat().st_size == 10 * MB
        assert {path.name for path in held("blobs")} == {blob.sha256 for blob in blobs}


def fills_up() -> None:
    """Leave so many files that no other can be made."""
    folder = Path(os.environ["PIP_TARGET"])
    with contextlib.suppress(OSError):
        for number in range(1000):
            (folder / f"file{number}").touch()


def test_room_is_made_where_there_is_none(aws: aws_server.AWS, tmp_path: Path) -> None:
    """Where a task's folder cannot be made for what is kept (as many packages as the file system
    takes files), that goes, and the environment stays."""
    blob = stored(aws, 1)

    def apply_pip_deps() -> None:
        fills_up()

    small = tmp_path / "small"
    with mounted(small, "size=40m,nr_inodes=40"), Function(small, **aws.env) as function:
        hook = (part(apply_pip_deps), part(()), part({}), "")
        assert returned(function.call(abs, -1, before=[hook])) == 1
        kinds = []
        for _ in range(2):
            got = function.call(length, bucket="bucket", kwargs={"x": blob})
            kinds.append(got.failure and got.failure.kind)
        assert kinds == [wire.ENVIRONMENT, None]
        assert "cannot run" not in function.log


def test_blobs_where_nothing_can_be_written(aws: aws_server.AWS, tmp_path: Path) -> None:
    """A cache that can take no file is not told as S3's fault."""
    blob = stored(aws, 1)
    with Function(tmp_path / "tmp", **aws.env) as function:
        function.call(abs, -1)
        with mounted(function.tasks.parent / "blobs", "nr_inodes=1,mode=0700,size=40m"):
            failure = function.call(length, bucket="bucket", kwargs={"x": blob}).failure
        assert failure is not None and failure.kind == wire.ENVIRONMENT
        assert "cannot write to /tmp: [Errno 28]" in failure.message


def test_nearly_full_disk_of_a_laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large disk of which less than a quarter is free keeps what is cached. The system's answer
    is a stand-in: no such disk can be had here."""
    blocks = {"f_frsize": 4096, "f_blocks": 10**12 // 4096, "f_bavail": 10**11 // 4096}
    monkeypatch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(**blocks))
    blob = tmp_path / "blobs" / "digest"
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    Storage(str(tmp_path)).make_room()
    assert blob.exists()


def test_an_environment_has_one_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each session reads S3's description anew. Clients are several: their patience differs."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made: list[boto3.session.Session] = []

    class Session(boto3.session.Session):
        def __init__(self) -> None:
            made.append(self)
            super().__init__()

    monkeypatch.setattr(boto3.session, "Session", Session)
    storage = Storage(str(tmp_path))
    clients = [storage.client, storage.hasty_client(), storage.hasty_client(), storage.client]
    assert len(made) == 1
    assert clients[0] is clients[3] and clients[1] is not clients[2]
    assert [x.meta.config.read_timeout for x in clients[:2]] == [15, 1]


def test_default_session_of_an_electron(aws: aws_server.AWS, tmp_path: Path) -> None:
    """An electron that sets boto3's default session and endpoint redirects nothing of the
    function's: the result of the next one goes where it should."""

    def redirects() -> None:
        import os

        import boto3

        os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        boto3.setup_default_session(aws_access_key_id="another", aws_secret_access_key="x")

    def large() -> bytes:
        return bytes(7_000_000)

    aws.refused_keys = {"another"}
    with Function(tmp_path / "tmp", **aws.env) as function:
        assert returned(function.call(redirects, bucket="bucket")) is None
        response = function.call(large, bucket="bucket")
        assert isinstance(response.result, wire.Blob)
        assert f"/bucket/{response.result.key}" in aws.objects


def test_silent_s3_does_not_hold_the_answer_back(aws: aws_server.AWS, tmp_path: Path) -> None:
    """Where S3 takes an outcome and does not answer, the answer comes all the same."""

    def slow() -> str:
        import time

        time.sleep(8)  # the look at the order is over by then
        return "done"

    aws.objects["/bucket/tasks/dispatch-0-attempt/order"] = b"report 1"
    over = threading.Event()
    aws.before_put = lambda: over.wait(40)
    with Function(tmp_path / "tmp", **aws.env) as function:
        took, response = timed(lambda: function.call(slow, bucket="bucket"))
        assert returned(response) == "done"
        assert took < 25  # 40 and more, if it were waited for
        assert "cannot store the outcome" in function.log
        over.set()


class Late:
    """An S3 that answers once nobody waits any more.

    Args:
        data: of its only object.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.asked, self.answers = threading.Event(), threading.Event()

    def get_object(self, **_: str) -> dict[str, Any]:
        self.asked.set()
        assert self.answers.wait(60)
        return {"ContentLength": len(self._data), "Body": io.BytesIO(self._data)}


@pytest.mark.parametrize("has_file", [True, False])
def test_late_argument_is_in_no_other_electrons_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_file: bool
) -> None:
    """An argument that comes after its electron's end is not written to a file of the next one,
    whose descriptor has the number of the one that was closed."""
    data = b"a secret of the first electron"
    storage, late, blob = Storage(str(tmp_path)), Late(data), wire.blob(data)
    storage._client = late
    monkeypatch.setattr(storage, "_room_for", lambda _: False)
    first, second = Body(str(tmp_path)), Body(str(tmp_path))
    if has_file:
        os.close(first.in_memory())
    failed: list[str] = []

    def fetch() -> None:
        try:
            storage.fetch("bucket", blob, first.in_memory)
        except ValueError as error:
            failed.append(str(error))

    thread = threading.Thread(target=fetch)
    thread.start()
    assert late.asked.wait(60)
    first.close()
    file = second.in_memory()
    late.answers.set()
    thread.join(60)
    assert os.fstat(file).st_size == 0
    assert failed == ["the task for which this is fetched is over"]
    os.close(file)
    second.close()


STORED_LATE = """
import threading, task_storage
second, first_is_over, stores = threading.Event(), threading.Event(), []
def store(self, *args, store=task_storage.Storage.store):
    stores.append(args)
    if len(stores) > 1:
        second.set()
        first_is_over.wait(60)
        return store(self, *args)
    second.wait(60)
    try:
        return store(self, *args)
    finally:
        first_is_over.set()
task_storage.Storage.store = store
"""


def test_late_result_is_no_other_electrons(aws: aws_server.AWS, tmp_path: Path) -> None:
    """A result that is stored after its electron's end is read from that electron's own file,
    which is closed by then."""
    script = WORKER.replace("import app\n", f"import app\n{STORED_LATE}", 1)

    def large(letter: bytes) -> bytes:
        return letter * 6_000_000

    def stored_result(name: str) -> bytes:
        return aws.objects[f"/bucket/{wire.task_key(name, wire.RESULT)}"]

    with Function(tmp_path / "tmp", [sys.executable, "-c", script], **aws.env) as function:
        failure = function.call(large, b"a", bucket="bucket", task_id="first", seconds=3).failure
        assert failure is not None and failure.kind == wire.RESULT_LOST
        response = function.call(large, b"b", bucket="bucket", task_id="second")
        assert response.failure is None
        assert stored_result("first") == cloudpickle.dumps(large(b"a"))
        assert stored_result("second") == cloudpickle.dumps(large(b"b"))


def apply_pip_deps(version: str, size: int) -> None:
    """Stands in for Covalent's function of that name, which runs pip: no network here."""
    folder = Path(os.environ["PIP_TARGET"])
    (folder / "pinned.py").write_text(f"version = {version!r}")
    (folder / "data").write_bytes(bytes(size))


def installs_itself() -> str:
    import os
    import pathlib

    import pinned  # type: ignore[import-not-found]

    target = pathlib.Path(os.environ["PIP_TARGET"])
    (target / "pinned.py").write_text("version = 'by hand'")
    return str(pinned.version)


def asks(function: Function, version: str, size: int = 0) -> str:
    """The version that an electron gets which asks for one, with so many bytes of data."""
    hook = (part(apply_pip_deps), part((version, size)), part({}), "")
    return str(returned(function.call(installs_itself, before=[hook])))


def test_what_an_electron_installs_by_itself_is_its_own(tmp_path: Path) -> None:
    """It lands beside the packages that electrons share, in the first one and in later ones."""
    with Function(tmp_path / "tmp") as function:
        assert [asks(function, "1") for _ in range(3)] == ["1", "1", "1"]


def test_environments_share_no_folder(tmp_path: Path) -> None:
    """Environments with one /tmp, as on a laptop, install beside each other; what others keep
    there is left alone."""
    folder = tmp_path / "tmp"
    with Function(folder) as one, Function(folder) as two:
        (folder / "somebody's").write_text("kept")
        assert [asks(one, "1"), asks(two, "2"), asks(one, "1"), asks(two, "2")] == list("1212")
        assert (folder / "somebody's").read_text() == "kept"
        assert len(list(folder.glob("covalent-*"))) == 2
    wait_until(lambda: not list(folder.glob("covalent-*")), "their folders are removed", 20)
    assert [path.name for path in folder.iterdir()] == ["somebody's"]


def wheel(folder: Path, version: str, modules: int = 100) -> None:
    """A package of many modules, as pip installs it."""
    about = f"several-{version}.dist-info"
    files = {f"several/m{number}.py": "" for number in range(modules)}
    files["several/__init__.py"] = f"version = {version!r}"
    files[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: several\nVersion: {version}\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in files)
    with zipfile.ZipFile(folder / f"several-{version}-py3-none-any.whl", "w") as made:
        for name, text in files.items():
            made.writestr(name, text)


def test_eight_environments_install_at_once(tmp_path: Path) -> None:
    """Workers of a sandbox, with one /tmp, run an electron with DepsPip each: Covalent's own
    function and pip, from a folder of wheels. Each gets its version, and installs it once."""
    pip = pytest.importorskip("covalent._workflow.depspip").apply_pip_deps
    folder, wheels = tmp_path / "tmp", tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        wheel(wheels, version)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    def several() -> tuple[str, float]:
        import os

        import several  # type: ignore[import-not-found]

        return str(several.version), os.stat(several.__file__).st_ctime

    def ask(function: Function, version: str) -> list[tuple[str, float]]:
        hook = (part(pip), part(([f"several=={version}"], "")), part({}), "")
        return [returned(function.call(several, before=[hook])) for _ in range(2)]

    versions = ["1.0", "2.0"] * 4
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(versions)) as threads:
        workers = [stack.enter_context(Function(folder, **offline)) for _ in versions]
        found = list(threads.map(ask, workers, versions))
    assert [[version for version, _ in each] for each in found] == [[x, x] for x in versions]
    assert all(first == second for (_, first), (_, second) in found)  # the same file


def test_print_to_the_original_stdout(tmp_path: Path) -> None:
    """What is written to `sys.__stdout__` is the electron's own, without a line's end too."""

    def writes() -> None:
        import sys

        assert sys.__stdout__ is not None
        sys.__stdout__.write("original")

    with Function(tmp_path / "tmp") as function:
        assert function.call(writes).stdout == "original"
        assert function.call(abs, -1).stdout == ""
