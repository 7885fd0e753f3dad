"""An electron that means harm: what it cannot reach, and what is made good after it.

The environment has no capabilities here, as in Lambda, where the user is not root: who has them
can read any process.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aws_server
import cloudpickle
import lying
import psutil
import pytest
import ways
import world
from function_box import WORKER, Function, part, request, returned, timed
from lacking import lacking
from lying import answer_file, own_channel

import wire

for module in (lying, ways, world, sys.modules[__name__]):
    cloudpickle.register_pickle_by_value(module)


def bare(tmp: Path, **environment: str) -> Function:
    """An environment without capabilities."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        lacking("setpriv, of util-linux, is missing: the environment would have root's rights")
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return Function(tmp, [*drop, sys.executable, "-c", WORKER], **environment)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One environment for all."""
    with bare(tmp_path_factory.mktemp("hostile") / "tmp") as running:
        yield running


# -- what it runs --------------------------------------------------------------------------------


def reached(others: list[int]) -> dict[str, list[str]]:
    """What an electron gets of other processes, and of its own as a check, by process."""
    import ctypes
    import os

    def tried(pid: int) -> list[str]:
        got = []
        for name in ("mem", "environ", "maps"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    file.read(0 if name == "mem" else 1)
                got.append(name)
            except OSError:
                pass
        try:
            os.readlink(f"/proc/{pid}/fd/0")
            got.append("fd 0")
        except OSError:
            pass
        if pid != os.getpid() and ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0:  # attach
            got.append("traced")
        return got

    return {
        "own" if pid == os.getpid() else str(pid): tried(pid) for pid in [*others, os.getpid()]
    }


def sends(*messages: bytes) -> str:
    channel = own_channel()
    channel.setblocking(True)
    for message in messages:
        channel.send(message)
    return "went on"


def floods() -> None:
    import itertools
    import os

    null, channel = os.open(os.devnull, os.O_RDONLY), own_channel()
    for _ in itertools.count():
        socket_send_fds(channel, null)


def socket_send_fds(to: Any, fd: int) -> None:
    import array
    import socket

    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd] * 60))]
    to.sendmsg([b'{"x": 1}'], rights)


def ends_only_in_word() -> None:
    """Gives an answer, says that it ends, and does not."""
    import os
    import time

    said = b'{"report": [0, 0]}', b'{"alone": true, "peak": 1}'
    os.setsid() if os.getpid() != os.getsid(0) else None
    sends(*said)
    time.sleep(60)


def writes_report(report: bytes) -> None:
    """Writes a report of its own into the file of its answer, and ends."""
    import os

    answer = answer_file()
    os.ftruncate(answer, 0)
    os.pwrite(answer, report, 0)
    sends(b'{"report": [0, %d]}' % len(report), b'{"alone": true}')
    os._exit(0)


# -- what it gets --------------------------------------------------------------------------------


def test_other_processes_cannot_be_read(function: Function) -> None:
    """An electron gets nothing of the parent, the fork servers, and the process that waits for the
    next electron: no memory, no settings, no descriptor; of its own process it gets all."""
    function.call(world.seen, ways.WORD)
    family = [psutil.Process(function.process.pid)]
    family += family[0].children(recursive=True)
    assert len(family) >= 3  # parent, two servers; a spare
    got = returned(function.call(reached, [x.pid for x in family[:3]]))
    assert got.pop("own") == ["mem", "environ", "maps", "fd 0"]
    assert got and not any(got.values()), got
    got = returned(function.call(reached_siblings))
    assert got and not any(got.values()), got


def reached_siblings() -> dict[str, list[str]]:
    """What an electron gets of the processes that its fork server has forked ahead."""
    import time

    time.sleep(0.5)  # it is forked while this runs
    siblings = ways.siblings()
    assert siblings
    got = reached(siblings)
    del got["own"]
    return got


def test_descriptors_sent_to_the_parent_are_not_kept(function: Function) -> None:
    """An electron that sends its parent descriptors, without end, is ended at its deadline, and
    leaves none of them there."""
    function.call(world.seen, ways.WORD)
    parent = psutil.Process(function.process.pid)
    before = parent.num_fds()
    took, response = timed(lambda: function.call(floods, limit=1.0))
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert took < 10
    assert parent.num_fds() <= before + 4  # a line's own may differ


@pytest.mark.parametrize(
    "message",
    [
        b'{"report": 7}',
        b'{"report": [0, 4611686018427387904]}',
        b'{"report": [-1, -1]}',
        b'{"report": ["", {}]}',
        b'{"alone": true, "peak": "much"}',
        b'{"peak": [1]}',
        b"[" * 4000,
        b'"text"',
        b"\xff\xfe",
        b"null",
    ],
)
def test_forged_messages(function: Function, message: bytes) -> None:
    """Whatever an electron says to its parent beside its answer, an answer comes all the same,
    and the next electron runs."""
    response = function.call(sends, message)
    assert response.failure is not None or returned(response) == "went on"
    assert returned(function.call(len, "abc")) == 3


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b"{" * 100,
        b'{"modules": {}}',
        b'{"modules": [[]]}',
        b'{"modules": [], "result": -5}',
        b'{"modules": [], "result": 1000000}',
        b'{"modules": [], "spread": 1000000}',
        b'{"modules": [], "result": 0, "text": 5, "attrs": []}',
        b'{"modules": [], "failure": {"kind": "storage-busy", "message": "again"}}',
        b'{"modules": [], "failure": {"kind": "blob-missing", "message": "again"}}',
        b'{"modules": [], "failure": {"kind": "exception"}}',
        b'{"modules": [], "failure": {"kind": "exception", "message": [], "type": 1}}',
    ],
)
def test_forged_reports(function: Function, report: bytes) -> None:
    """A report that is none, or that would have the electron sent again, ends it as crashed."""
    response = function.call(writes_report, report)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert returned(function.call(len, "abc")) == 3


def test_electron_that_ends_only_in_word(function: Function) -> None:
    """One that runs on after its answer is ended before the next electron begins."""
    function.call(ends_only_in_word)
    took, after = timed(lambda: function.call(world.seen, ways.WORD))
    assert returned(after)["children"] == "" and took < 10


def test_modules_in_the_servers_home_are_not_imported(function: Function) -> None:
    """What an electron leaves in the fork servers' folder is no module there, and is removed."""

    def plants() -> str:
        import os
        import pathlib

        home = pathlib.Path(os.environ["HOME"]).parents[1] / "home"
        (home / "cloudpickle_planted.py").write_text("raise SystemExit")
        return str(home)

    home = Path(returned(function.call(plants)))

    def imports() -> bool:
        import importlib.util

        return importlib.util.find_spec("cloudpickle_planted") is not None

    assert returned(function.call(imports)) is False
    assert list(home.iterdir()) == []


def _pipe(path: str) -> None:
    import os

    os.mkfifo(path)


def _folder(path: str) -> None:
    import os

    os.makedirs(os.path.join(path, "filled"))


def _link(path: str) -> None:
    import os

    os.symlink("/dev/zero", path)


def _nothing_readable(path: str) -> None:
    import os

    open(path, "w").close()
    os.chmod(path, 0)


@pytest.mark.parametrize("put", [_pipe, _folder, _link, _nothing_readable])
def test_odd_things_in_the_cache(put: Callable[[str], None]) -> None:
    """Whatever an electron puts in the place of a cached argument, the next one has the true one,
    and does not wait for it."""

    def replaces(put: Callable[[str], None]) -> int:
        import glob
        import os

        folder = os.path.join(os.path.dirname(os.path.dirname(os.environ["HOME"])), "blobs")
        found = glob.glob(os.path.join(folder, "*"))
        for path in found:
            os.unlink(path)
            put(path)
        return len(found)

    data = cloudpickle.dumps("honest" * 1000)
    # In memory: a disk of which less than a quarter is free takes nothing into the cache.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, aws_server.running() as s3:
        blob = wire.blob(data)
        s3.objects[f"/bucket/{blob.key}"] = data
        with bare(Path(memory) / "tmp", **s3.env) as environment:
            event = wire.loads(request(len, bucket="bucket", limit=20.0).to_json())
            event.update(args=[vars(blob)], function=part(len))
            assert returned(wire.Response.from_json(environment.handle(event))) == 6000
            assert returned(environment.call(replaces, put)) == 1
            assert returned(wire.Response.from_json(environment.handle(event))) == 6000
